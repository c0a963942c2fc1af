"""The canonical hyperparameters: dotted names with the type and unit of their values."""

from __future__ import annotations

from typing import Literal, NamedTuple


class HyperparameterDef(NamedTuple):
    """One canonical hyperparameter.

    `kind` is the type of its values, `unit` what it counts in ("" if nothing).
    `values` lists the names that mean something (empty: any); `low` and `high` are the
    numbers beyond which it means nothing, both included (None: no limit).
    """

    name: str
    kind: Literal["float", "int", "str", "bool"]
    unit: str
    about: str
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def allows(self, value: bool | float | str) -> bool:
        """Whether a value of the right type means something."""
        if isinstance(value, str):
            return not self.values or value in self.values
        if isinstance(value, bool):
            return True
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    @property
    def domain(self) -> str:
        """What it may be, as a phrase after "expected"."""
        if self.values:
            return "one of " + ", ".join(self.values)
        if self.low is None and self.high is None:
            return f"a value of type {self.kind}"
        if self.high is None:
            return f"{self.kind} of at least {self.low:g}"
        return f"{self.kind} between {self.low:g} and {self.high:g}"


# name | kind | unit | about | names or numbers that mean something
_CANONICAL = """
model.family | str |  | kind of network | mlp resnet_mlp ngram_mlp sepcnn cnn unet rnn tcn transformer pretrained
model.num_layers | int | layers | hidden dense layers, the output layer not counted | 0..
model.units | int | units | width of the hidden layers | 1..
model.activation | str |  | activation of the hidden layers | relu relu6 leaky_relu elu selu celu gelu silu swish mish softplus softsign tanh sigmoid hard_sigmoid hard_silu linear exponential glu
model.dropout | float |  | share of units dropped after each hidden layer | 0..1
model.normalization | str |  | normalization layer between dense and activation | none batch layer
model.normalization_momentum | float |  | share of its past that batch normalization keeps of its stored statistics at each step | 0..1
model.skip_connections | bool |  | residual connections around hidden blocks
model.kernel_initializer | str |  | initializer of the hidden kernels | he_normal lecun_normal glorot_uniform orthogonal
model.output_activation | str |  | activation of the output layer; linear means logits or raw values | linear sigmoid
model.output_bias | str |  | starting value of the output bias | zeros log_odds log_priors target_mean
model.loss | str |  | training loss | binary_crossentropy sparse_categorical_crossentropy mse huber mae
model.encoding | str |  | how one categorical column enters the network | one_hot embedding
model.embedding_dim | int |  | width of an embedding | 1..
model.numeric_preprocessing | str |  | scaling of numeric columns | standardize robust_scale_smooth_clip quantile_normal
model.missing_values | str |  | treatment of missing numeric values | median median_and_indicator mean mean_and_indicator
model.target_transform | str |  | transformation of a regression target | none standardize log1p_standardize
model.rnn_cell | str |  | recurrent cell | gru lstm simple
model.num_rnn_layers | int | layers | stacked recurrent layers | 1..
model.rnn_units | int | units | width of the recurrent layers | 1..
model.bidirectional | bool |  | read sequences in both directions
model.recurrent_dropout | float |  | dropout on the recurrent connections | 0..1
model.padding_side | str |  | side on which sequences are padded | left right
model.kernel_size | int |  | side of the convolution kernels | 1..
model.filters | int | filters | filters of the first convolution stage | 1..
model.num_stages | int |  | resolution levels of a convolutional network, or its blocks of growing dilation | 1..
model.downsampling | str |  | how a convolutional network shrinks its input | strided pooled dilated
model.pooling_head | str |  | what joins the convolutions to the output | global_average flatten_dense
model.convolutions_per_stage | int | layers | convolutions at each resolution | 1..
model.multiscale_head | bool |  | parallel dilated convolutions before a dense output (ASPP)
model.dilation_base | int |  | factor by which the dilation grows from layer to layer | 1..
model.num_heads | int |  | attention heads | 1..
model.vocabulary_size | int | words | most frequent words or word groups that are told apart | 2..
model.ngram_size | int | words | longest run of words that is counted as one | 1..
model.max_sequence_length | int | steps | words, characters or steps read of each sample | 1..
model.image_side | int | pixels | side to which images are scaled | 1..
model.num_mel_bands | int |  | frequency bands of the spectrogram | 1..
model.frame_seconds | float | seconds | length of one frame of the spectrogram | 0..
model.hop_seconds | float | seconds | distance between frames of the spectrogram | 0..
model.window_length | int | steps | steps of history that a forecast reads | 1..
model.season_phase | bool |  | the network is told where in its season a window ends
model.window_normalization | str |  | what is taken off each window before the network sees it | none last_value mean
optimizer.name | str |  | optimizer | adamw adam nadam sgd rmsprop adagrad lion
optimizer.learning_rate | float |  | learning rate, the peak of the schedule | 1e-12..1e3
optimizer.momentum | float |  | momentum of SGD | 0..1
optimizer.beta_1 | float |  | decay of the first moment in Adam | 0..1
optimizer.beta_2 | float |  | decay of the second moment in Adam | 0..1
optimizer.epsilon | float |  | stabilizer in Adam | 0..
optimizer.regularization | str |  | which weight penalty is used | none weight_decay l1 l2 l1_l2
optimizer.weight_decay | float |  | decoupled weight decay | 0..
optimizer.decay_exclusions | bool |  | biases and normalization weights are not decayed
optimizer.l1 | float |  | L1 penalty on the kernels | 0..
optimizer.l2 | float |  | L2 penalty on the kernels | 0..
optimizer.clipnorm | float |  | global norm above which gradients are clipped; 0 means never | 0..
optimizer.schedule | str |  | course of the learning rate | constant cosine linear one_cycle cyclical triangular2 exp_range warm_restarts plateau
optimizer.warmup_steps | int | steps | steps of linear warmup | 0..
optimizer.momentum_cycling | bool |  | under one_cycle the momentum falls while the rate rises
optimizer.ema_momentum | float |  | share of its past that the average of the weights keeps at each step; 0 means no average | 0..1
optimizer.hypergradient_rate | float |  | step by which the learning rate follows its own gradient; 0 means never | 0..
training.batch_size | int | samples | samples per optimizer step | 1..
training.gradient_accumulation_steps | int | steps | batches summed into one optimizer step | 1..
training.batch_growth | str |  | how the batch grows while training | none doubling noise_scale
training.num_batch_phases | int |  | stretches of training with one batch size each | 1..
training.epochs | int | epochs | most passes over the training data | 1..
training.precision | str |  | dtype policy | float32 mixed_float16 mixed_bfloat16
training.label_smoothing | float |  | share of the target spread over the other classes | 0..1
training.class_weight | str |  | weighting of the classes in the loss | none balanced
training.augmentation | str |  | random changes of the inputs while training | none shift shift_flip shift_flip_color masks
training.frozen_fraction | float |  | share of the epochs in which pretrained weights stay as they are | 0..1
training.unfrozen_factor | float |  | factor on the learning rate once pretrained weights learn too | 0..1
training.early_stopping.patience | int | epochs | epochs without gain before a trial is stopped | 1..
training.early_stopping.window | int | epochs | epochs averaged before they are compared | 1..
training.early_stopping.statistic | str |  | what is compared of the epochs in the window | mean median quantile slope
training.early_stopping.noise_factor | float |  | standard errors of the curve's own noise that count as no gain | 0..
training.early_stopping.mode | str |  | stop early, or run to the end and keep the best epoch | stop best_checkpoint
training.reduce_on_plateau.factor | float |  | factor on the learning rate at a plateau | 0..1
training.reduce_on_plateau.patience | int | epochs | epochs without gain before the rate is cut | 1..
data.validation_fraction | float |  | share of the rows used for validation | 0..1
data.num_folds | int |  | folds of cross-validation; 1 means one split | 1..
data.stratify | bool |  | splits keep the class shares
search.strategy | str |  | search strategy | random quasi_random iterative_random grid bayesian tpe cma evolution hyperband asha priorband i_epoch nsga2 portfolio gradient
search.num_trials | int | trials | trials to run | 1..
search.min_epochs | int | epochs | shortest training that is compared | 1..
search.max_epochs | int | epochs | longest training in the search | 1..
search.reduction_factor | int |  | one trial in this many is kept per rung | 2..
search.objective | str |  | metric that ranks the trials
search.range_test | bool |  | the learning-rate range test runs before the first trial
search.batch_probe | bool |  | the largest useful batch is measured before the first trial
search.num_confirmation_seeds | int |  | seeds with which finalists are run again | 0..
search.seed_policy | str |  | how seeds are set
search.tuned | str |  | what a search varies; the rest keeps its recommended value | rate rate_and_regularization all
"""


def _parse(line: str) -> HyperparameterDef:
    name, kind, unit, about, domain = ([p.strip() for p in line.split("|")] + [""])[:5]
    if kind == "str":
        return HyperparameterDef(name, kind, unit, about, tuple(domain.split()))  # type: ignore[arg-type]
    low, _, high = domain.partition("..")
    bounds = (float(low) if low else None, float(high) if high else None)
    return HyperparameterDef(name, kind, unit, about, (), *bounds)  # type: ignore[arg-type]


HYPERPARAMETERS: dict[str, HyperparameterDef] = {
    d.name: d for d in map(_parse, _CANONICAL.strip().splitlines())
}
