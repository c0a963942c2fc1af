"""The canonical hyperparameters: dotted names with the type and unit of their values."""

from __future__ import annotations

from typing import Literal, NamedTuple


class HyperparameterDef(NamedTuple):
    """One canonical hyperparameter.

    `kind` is the type of its values, `unit` what it counts in ("" if nothing).
    """

    name: str
    kind: Literal["float", "int", "str", "bool"]
    unit: str
    about: str


_CANONICAL = """
model.family | str | | kind of network
model.num_layers | int | layers | hidden dense layers, the output layer not counted
model.units | int | units | width of the hidden layers
model.activation | str | | activation of the hidden layers
model.dropout | float | | share of units dropped after each hidden layer
model.normalization | str | | normalization layer between dense and activation
model.skip_connections | bool | | residual connections around hidden blocks
model.kernel_initializer | str | | initializer of the hidden kernels
model.output_activation | str | | activation of the output layer; linear means logits or raw values
model.output_bias | str | | starting value of the output bias
model.loss | str | | training loss
model.encoding | str | | how one categorical column enters the network
model.embedding_dim | int | | width of an embedding
model.numeric_preprocessing | str | | scaling of numeric columns
model.missing_values | str | | treatment of missing numeric values
model.target_transform | str | | transformation of a regression target
model.rnn_cell | str | | recurrent cell
model.num_rnn_layers | int | layers | stacked recurrent layers
model.rnn_units | int | units | width of the recurrent layers
model.bidirectional | bool | | read sequences in both directions
model.recurrent_dropout | float | | dropout on the recurrent connections
model.padding_side | str | | side on which sequences are padded
model.kernel_size | int | | side of the convolution kernels
model.filters | int | filters | filters of the first convolution stage
model.num_stages | int | | resolution levels of a convolutional network
model.downsampling | str | | how a convolutional network shrinks its input
model.pooling_head | str | | what joins the convolutions to the output
model.num_heads | int | | attention heads
optimizer.name | str | | optimizer
optimizer.learning_rate | float | | learning rate, the peak of the schedule
optimizer.momentum | float | | momentum of SGD
optimizer.beta_1 | float | | decay of the first moment in Adam
optimizer.beta_2 | float | | decay of the second moment in Adam
optimizer.epsilon | float | | stabilizer in Adam
optimizer.regularization | str | | which weight penalty is used
optimizer.weight_decay | float | | decoupled weight decay
optimizer.decay_exclusions | bool | | biases and normalization weights are not decayed
optimizer.l1 | float | | L1 penalty on the kernels
optimizer.l2 | float | | L2 penalty on the kernels
optimizer.clipnorm | float | | global norm above which gradients are clipped; 0 means never
optimizer.schedule | str | | course of the learning rate
optimizer.warmup_steps | int | steps | steps of linear warmup
training.batch_size | int | samples | samples per optimizer step
training.gradient_accumulation_steps | int | steps | batches summed into one optimizer step
training.epochs | int | epochs | most passes over the training data
training.precision | str | | dtype policy
training.label_smoothing | float | | share of the target spread over the other classes
training.class_weight | str | | weighting of the classes in the loss
training.augmentation | str | | random changes of the inputs while training
training.early_stopping.patience | int | epochs | epochs without gain before a trial is stopped
training.early_stopping.window | int | epochs | epochs averaged before they are compared
training.early_stopping.mode | str | | stop early, or run to the end and keep the best epoch
training.reduce_on_plateau.factor | float | | factor on the learning rate at a plateau
training.reduce_on_plateau.patience | int | epochs | epochs without gain before the rate is cut
data.validation_fraction | float | | share of the rows used for validation
data.num_folds | int | | folds of cross-validation; 1 means one split
data.stratify | bool | | splits keep the class shares
search.strategy | str | | search strategy
search.num_trials | int | trials | trials to run
search.min_epochs | int | epochs | shortest training that is compared
search.max_epochs | int | epochs | longest training in the search
search.reduction_factor | int | | one trial in this many is kept per rung
search.objective | str | | metric that ranks the trials
search.num_confirmation_seeds | int | | seeds with which finalists are run again
search.seed_policy | str | | how seeds are set
"""

HYPERPARAMETERS: dict[str, HyperparameterDef] = {}
for _line in _CANONICAL.strip().splitlines():
    _name, _kind, _unit, _about = (part.strip() for part in _line.split("|"))
    HYPERPARAMETERS[_name] = HyperparameterDef(_name, _kind, _unit, _about)  # type: ignore[arg-type]
