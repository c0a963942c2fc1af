"""What the program of a trial will be, told from the model's configuration.

Tracing a model's training step is most of the cost of a small trial, and most models are made of
Keras's own classes, whose configuration says everything. Here it is taken apart into the floats
that may become numbers in a program, and all the rest, on which its form depends. What follows
from the floats is learnt in `smarttune.execution.forms`.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import re
import sys
import types
import warnings
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any

import keras
import numpy as np

from smarttune.backend import tensorflow_left_out
from smarttune.execution.forms import Forms, Structure
from smarttune.models.compiling import InRawUnits

__all__ = ["Forms", "Structure", "structure_of"]

_TRUSTED = ("keras", "smarttune")
# Their programs hang on functions or files, or on the paths of variables, which no config holds.
_UNTOLD = frozenset(
    (
        "FlaxLayer",
        "JaxLayer",
        "Lambda",
        "MultiOptimizer",
        "Muon",
        "TFSMLayer",
        "TorchModuleWrapper",
    )
)
# What a class may define and still do all that its bases do; how it is constructed ends up in the
# configuration that a base tells.
_DOES_NOTHING = frozenset(
    f"__{name}__"
    for name in (
        "annotations",
        "dict",
        "doc",
        "firstlineno",
        "init",
        "module",
        "new",
        "parameters",
        "qualname",
        "static_attributes",
        "weakref",
    )
)
# Initial weights, and random streams that live in variables: not part of the program.
_STATE = ("seed", "initializer")
# Whole numbers that Keras's own schedules turn into floats, on JAX before they are traced.
_STEP_COUNTS = frozenset(("decay_steps", "first_decay_steps", "warmup_steps"))
# Set by the first training of a model, which leaves its program as it was.
_MADE_BY_FIT = frozenset(("train_function", "test_function", "predict_function"))
# What Keras calls an input that the user has not named.
_UNNAMED_INPUTS = ("input_layer", "keras_tensor")
_CALLABLE = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    partial,
)
_PLAIN = frozenset((type(None), type(...), bool, int, str, slice))
_WHOLE_NUMBER = re.compile(r"\d+")
NUM_CLASSES_KEPT = 512  # ours: more than Keras and SmartTune have


class _Untold(Exception):  # noqa: N818 -- not an error: the trial is traced
    """The configuration does not say everything."""


def structure_of(model: Any) -> Structure | None:
    """Take the configuration of a model and of its `compile()` apart.

    Names of layers and variables, seeds, initializers and a plain learning rate are left out:
    they are state of the trial, not part of its program. Names of metrics are kept, as are those
    of several outputs, for they are the keys of the logs. Shapes of batches are not part of it.

    Args:
        model: A built and compiled model.

    Returns:
        None where the configuration does not say everything: a subclassed model, anything that
        is not of a class of Keras or SmartTune, a function of the user's, a replaced method.
    """
    try:
        with warnings.catch_warnings(), tensorflow_left_out():
            # Keras warns so where it cannot serialize something well.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", UserWarning)
            return _taken_apart(model)
    except Exception:  # noqa: BLE001 -- whatever a get_config raises, the model can be traced
        return None


def _taken_apart(model: Any) -> Structure:
    if not (model.built and model.compiled) or keras.distribution.distribution() is not None:
        raise _Untold
    config = keras.config
    writer = _Writer()
    writer.put([config.backend(), config.floatx(), config.image_data_format()])
    writer.say(repr(config.epsilon()))
    writer.put_model(model)
    _put_variables(writer, model)
    _put_compiled(writer, model)
    told = "\x1f".join(writer.words)
    family = _WHOLE_NUMBER.sub("#", told)
    return Structure(_hash(told), tuple(writer.leaves), _hash(family))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class _Writer:
    """Writes configurations down as words, and keeps the leaves apart."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.leaves: list[float] = []
        self._operations: dict[int, int] = {}

    def say(self, *words: str) -> None:
        self.words += words

    def put(self, value: Any) -> None:
        """Write down any value of a configuration.

        Raises:
            _Untold: If it, or something in it, is not known to be all that there is to say.
        """
        kind = type(value)
        if kind is float:
            self._put_float(value)
        elif isinstance(value, np.floating):
            self.say(kind.__name__)  # it may bring its own precision into the program
            self._put_float(float(value))
        elif kind in _PLAIN or isinstance(value, np.generic):
            # Types apart: a program with the whole number 1 is not that with 1.0.
            self.say(f"{kind.__name__}:{value!r}")
        elif isinstance(value, dict):
            self._put_mapping(value)
        elif isinstance(value, (list, tuple)):
            self.say("[")
            for one in value:
                self.put(one)
            self.say("]")
        elif isinstance(value, keras.KerasTensor):
            operation, node, tensor = value._keras_history  # noqa: SLF001 -- the graph's edges
            self.say(f"tensor:{self._operations[id(operation)]},{node},{tensor}")
        elif isinstance(value, _CALLABLE):
            self.say(_function_name(value))
        elif hasattr(value, "get_config"):
            self.put_object(value)
        else:
            self._put_array(value)

    def _put_float(self, value: float) -> None:
        # On these the code of a layer may branch, as in `if rate > 0`.
        if value <= 0.0 or value == 1.0 or not math.isfinite(value):
            self.say(f"float:{value!r}")
        else:
            self.say("leaf")
            self.leaves.append(value)

    def _put_array(self, value: Any) -> None:
        if isinstance(value, keras.Variable):
            raise _Untold
        if not isinstance(value, np.ndarray):
            if not keras.ops.is_tensor(value):
                raise _Untold
            value = keras.ops.convert_to_numpy(value)
        content = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16)
        self.say(f"array:{value.shape},{value.dtype},{content.hexdigest()}")

    def _put_mapping(self, value: dict[Any, Any]) -> None:
        if "class_name" not in value:
            self._put_items(value)
        elif "module" in value:
            self._put_serialized(value)
        elif value["class_name"] in ("__numpy__", "__tensor__", "__slice__", "__ellipsis__"):
            self.say(repr(value))
        else:
            raise _Untold

    def _put_items(self, config: dict[Any, Any]) -> None:
        self.say("{")
        for key, value in config.items():
            self.say(f"{key!r}=")
            self.put(value)
        self.say("}")

    def _put_config(self, config: dict[str, Any], left_out: Iterable[str] = ()) -> None:
        """Write down the configuration of an object, without what is state."""
        self._put_items(
            {k: v for k, v in config.items() if k not in left_out and not k.endswith(_STATE)}
        )

    def _put_serialized(self, value: dict[Any, Any]) -> None:
        """Write down what Keras has serialized already, such as a regularizer in a layer."""
        module, name, config = str(value["module"]), value["class_name"], value["config"]
        root = module.partition(".")[0]
        if root not in _TRUSTED or name in _UNTOLD:
            raise _Untold
        self.say(f"<{module}.{name}")
        if root != "keras":
            kind = keras.saving.get_registered_object(value["registered_name"])
            if kind is None or not _is_known(kind):
                raise _Untold
            _check_told(kind, config)
        if not isinstance(config, dict):
            self.say(repr(config))
        elif module == "keras.optimizers.schedules":
            counts = _STEP_COUNTS if keras.config.backend() == "jax" else ()
            self._put_config(
                {k: float(v) if k in counts and v > 1 else v for k, v in config.items()}, ("name",)
            )
        else:
            named = module.startswith(("keras.layers", "keras.optimizers"))
            self._put_config(config, ("name",) if named else ())
        told = ("module", "class_name", "config", "registered_name")
        self.say(*(f"{key}={one!r}" for key, one in value.items() if key not in told))

    def put_object(self, it: Any, left_out: Iterable[str] = ()) -> None:
        """Write down a layer, an operation, a loss, a metric or an optimizer."""
        kind: Any = type(it)
        if not _is_known(kind) or kind.__name__ in _UNTOLD:
            raise _Untold
        if not isinstance(it, keras.Layer):  # those are looked at with their variables
            _check_own(it)
        self.say("<" + _class_name(kind))
        if kind is InRawUnits:
            codec = it.codec
            self.put(it.inner)
            self.say(repr((codec.scale, codec.center, codec.shift, codec.transform, codec.bounds)))
            return
        config = it.get_config()
        _check_told(kind, config)
        self._put_config(config, left_out)

    def put_model(self, model: Any) -> None:
        """Write down the graph of a functional or sequential model."""
        kind: Any = type(model)
        if not _is_known(kind) or kind.__name__ not in ("Functional", "Sequential"):
            raise _Untold
        # A sequential model keeps its graph in a functional one.
        graph = getattr(model, "_functional", None) or model
        own = {id(node) for nodes in graph._nodes_by_depth.values() for node in nodes}  # noqa: SLF001
        self.say(kind.__name__, repr(model.trainable), repr(model.dtype_policy.name))
        for operation in graph.operations:
            self._operations[id(operation)] = len(self._operations)
        for operation in graph.operations:
            if hasattr(operation, "_nodes_by_depth") or hasattr(operation, "_functional"):
                self.put_model(operation)
            else:
                self.put_object(operation, ("name",))
            for node in operation._inbound_nodes:  # noqa: SLF001 -- the graph has no public form
                if id(node) in own:
                    self.put([node.arguments.args, node.arguments.kwargs])
        self.put([graph._inputs_struct, graph._outputs_struct])  # noqa: SLF001


def _put_variables(writer: _Writer, model: Any) -> None:
    """What variables hold, and where; and what layers are beside their configuration."""
    place = {id(variable): i for i, variable in enumerate(model.variables)}
    for variable in model.variables:
        writer.say(f"{variable.shape},{variable.dtype},{variable.trainable}")
        writer.say(repr(getattr(variable, "overwrite_with_gradient", False)))
        # A user may have set them after the layer did.
        writer.put([variable.regularizer, variable.constraint])
    for layer in model._flatten_layers():  # noqa: SLF001 -- layers of layers have no public list
        _check_own(layer)
        if getattr(layer, "_losses", ()):
            raise _Untold
        own = layer._trainable_variables + layer._non_trainable_variables  # noqa: SLF001
        writer.say(repr([place.get(id(v)) for v in own]), repr(layer.autocast))
        if isinstance(layer, keras.layers.Normalization):
            # Adapted, it holds them as constants.
            writer.put([layer.mean, layer.variance])
        elif hasattr(layer, "adapt"):
            raise _Untold


def _put_compiled(writer: _Writer, model: Any) -> None:
    config = dict(model._compile_config.config)  # noqa: SLF001 -- get_compile_config, not serialized
    del config["optimizer"]
    custom = keras.saving.get_custom_objects()
    if any(isinstance(one, str) and one in custom for one in keras.tree.flatten(config)):
        raise _Untold
    writer.put(config)
    if len(model.outputs) > 1:
        writer.put(list(model.output_names))
    inputs = [one._keras_history.operation.name for one in model.inputs]  # noqa: SLF001
    writer.put([one for one in inputs if not one.startswith(_UNNAMED_INPUTS)])
    _put_optimizer(writer, model.optimizer, model.trainable_variables)


def _put_optimizer(writer: _Writer, optimizer: Any, variables: Iterable[Any]) -> None:
    left_out = ["name"]
    rate = getattr(optimizer, "_learning_rate", None)
    if isinstance(rate, keras.Variable):
        left_out.append("learning_rate")
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        left_out += ["inner_optimizer", "learning_rate"]
        _put_optimizer(writer, inner, variables)
    writer.put_object(optimizer, left_out)
    if getattr(optimizer, "weight_decay", None) is not None:
        # Which ones are spared is not in the configuration.
        writer.say(repr([optimizer._use_weight_decay(one) for one in variables]))  # noqa: SLF001


def _function_name(function: Any) -> str:
    module, name = function.__module__, function.__qualname__
    if module.partition(".")[0] != "keras" or "<" in name:
        raise _Untold
    return f"function:{module}.{name}"


def _check_own(it: Any) -> None:
    """Refuse an object in which a method was replaced, or a function of the user's put.

    The name that Keras tells of an activation may be that of a function of its own.
    """
    for name, value in vars(it).items():
        if type(value) in _PLAIN or not callable(value) or name in _MADE_BY_FIT:
            continue
        told = value if isinstance(value, _CALLABLE) else type(value)
        if str(getattr(told, "__module__", "")).partition(".")[0] not in _TRUSTED:
            raise _Untold


@lru_cache(maxsize=NUM_CLASSES_KEPT)
def _is_known(kind: type) -> bool:
    """Whether a class is one of Keras or SmartTune, or one that adds nothing to such classes."""
    module = sys.modules.get(kind.__module__)
    if kind is object:
        return True
    if kind.__module__.partition(".")[0] not in _TRUSTED:
        return False
    if getattr(module, kind.__qualname__, None) is kind:
        return True
    return vars(kind).keys() <= _DOES_NOTHING and all(map(_is_known, kind.__bases__))


@lru_cache(maxsize=NUM_CLASSES_KEPT)
def _class_name(kind: type) -> str:
    """All classes that it inherits from, for a class made in a function has no name of its own."""
    return "/".join(f"{one.__module__}.{one.__qualname__}" for one in kind.__mro__)


@lru_cache(maxsize=NUM_CLASSES_KEPT)
def _arguments(kind: type) -> frozenset[str]:
    """Named arguments of the constructors that SmartTune wrote."""
    return frozenset(
        one.name
        for base in kind.__mro__
        if base.__module__.startswith("smarttune.") and "__init__" in vars(base)
        for one in list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    )


def _check_told(kind: type, config: dict[str, Any]) -> None:
    if not _arguments(kind) <= config.keys():
        raise _Untold
