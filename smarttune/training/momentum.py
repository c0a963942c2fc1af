"""Optimizers whose momentum follows a schedule: down while the learning rate rises, and back.

Smith 2018, section 4.3: a large rate and a large momentum push the same way, so the best course
lets one fall while the other rises. The course itself is `OneCycle.momentum`.

The momentum of an update is a function of the step count, which is a variable of the optimizer:
nothing is compiled anew when it changes, and a training that is continued goes on as if it had
never stopped. Like the learning rate, it counts batches, also where gradients are accumulated.

Adam's first moment after t updates is a weighted sum of gradients whose weights add up to
1 - b(1) b(2) ... b(t). Keras and PyTorch's OneCycleLR divide by 1 - b(t)**t, which is the same
only while b never changes: ten updates into a fall from 0.95 to 0.85 it makes the update a fifth
too small. Here the product is kept, as a variable, so that a constant gradient g moves a weight
by exactly the learning rate in every update, the promise of Kingma and Ba 2015, section 3. Nadam
keeps its product anyway (Dozat 2016).

Nesterov's step and Nadam's look one update ahead; with a momentum that changes that is the
momentum of the next update (Sutskever et al. 2013, eqs. 3 and 4; Dozat 2016).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from smarttune.errors import OptionError

# Dozat 2016, as Keras has it: the momentum of update t is b (1 - 0.96**t / 2).
_NADAM_BASE, _NADAM_HALF = 0.96, 0.5


class _MomentumCycle:
    """What the cycled optimizers share: the schedule, its checks and its place in a file."""

    # What Keras calls the momentum of this optimizer; it holds the momentum of step 0.
    _momentum_name: str

    def __init__(self, *args: Any, momentum_schedule: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        found: Any = self._learning_rate if momentum_schedule is None else momentum_schedule  # type: ignore[attr-defined]
        if not callable(getattr(found, "momentum", None)):
            raise OptionError(
                "momentum_schedule",
                received=f"{type(found).__name__}, which has no momentum",
                expected="a schedule of the momentum, such as OneCycle",
                mend="Give a OneCycle as momentum_schedule or as learning_rate.",
            )
        first = float(found.momentum(0))
        if not 0.0 < first < 1.0:
            raise OptionError(
                "momentum_schedule",
                received=f"a momentum of {first} at step 0",
                expected="one above 0 and below 1",
                mend="Give a schedule that begins there.",
            )
        self._momentum_schedule = found
        setattr(self, self._momentum_name, first)

    def _momenta(self) -> tuple[Any, Any]:
        """The momentum of this update and that of the next; float32."""
        step = self._iterations  # type: ignore[attr-defined]
        apart = self.gradient_accumulation_steps or 1  # type: ignore[attr-defined]
        schedule = self._momentum_schedule
        return schedule.momentum(step), schedule.momentum(step + apart)

    def _num_updates(self) -> Any:
        """Updates including this one; float32."""
        return ops.cast(self.iterations + 1, "float32")  # type: ignore[attr-defined]

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        schedule = keras.saving.serialize_keras_object(self._momentum_schedule)
        return {**super().get_config(), "momentum_schedule": schedule}  # type: ignore[misc]

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The optimizer that gave this configuration."""
        schedule = config.get("momentum_schedule")
        if isinstance(schedule, dict):
            schedule = keras.saving.deserialize_keras_object(
                schedule, custom_objects=custom_objects
            )
        config = {**config, "momentum_schedule": schedule}
        return super().from_config(config, custom_objects=custom_objects)  # type: ignore[misc]


class _SGDCycle(_MomentumCycle):
    """Gradient descent, plain or Nesterov's, with the momentum of the step.

    The velocity holds the learning rate, as in Keras and in Sutskever et al. 2013, eq. 1:
    a change of the rate reaches it only gradually.
    """

    _momentum_name = "momentum"
    momentums: list[Any]
    nesterov: bool

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        it: Any = self
        now, later = (ops.cast(one, variable.dtype) for one in self._momenta())
        step = ops.multiply(
            ops.cast(gradient, variable.dtype), ops.cast(learning_rate, variable.dtype)
        )
        velocity = self.momentums[it._get_variable_index(variable)]  # noqa: SLF001
        it.assign(velocity, ops.subtract(ops.multiply(velocity, now), step))
        if self.nesterov:
            it.assign_add(variable, ops.subtract(ops.multiply(velocity, later), step))
        else:
            it.assign_add(variable, velocity)


class _AdamCycle(_MomentumCycle):
    """Adam and AdamW with the beta_1 of the step."""

    _momentum_name = "beta_1"
    beta_2: float
    epsilon: float
    amsgrad: bool
    _momentums: list[Any]
    _velocities: list[Any]
    _velocity_hats: list[Any]

    def build(self, variables: Any) -> None:
        """Create the moments, and the product of all beta_1 so far."""
        it: Any = self
        if it.built:
            return
        super().build(variables)  # type: ignore[misc]
        self._product = it.add_variable(
            shape=(),
            initializer="ones",
            dtype="float32",
            aggregation="only_first_replica",
            name="beta_1_product",
        )

    def _backend_update_step(self, gradients: Any, variables: Any, learning_rate: Any) -> None:
        # Once for each update, before the variables have theirs.
        it: Any = self
        it.assign(self._product, self._product * self._momenta()[0])
        super()._backend_update_step(gradients, variables, learning_rate)  # type: ignore[misc]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        it: Any = self
        dtype = variable.dtype
        correction = ops.sqrt(1.0 - ops.power(self.beta_2, self._num_updates()))
        correction = correction / (1.0 - ops.cast(self._product, "float32"))
        rate = ops.cast(ops.cast(learning_rate, "float32") * correction, dtype)
        gradient = ops.cast(gradient, dtype)
        index = it._get_variable_index(variable)  # noqa: SLF001
        first, second = self._momentums[index], self._velocities[index]
        fresh = ops.cast(1.0 - self._momenta()[0], dtype)
        it.assign_add(first, ops.multiply(ops.subtract(gradient, first), fresh))
        change = ops.subtract(ops.square(gradient), second)
        it.assign_add(second, ops.multiply(change, 1 - self.beta_2))
        if self.amsgrad:
            largest = self._velocity_hats[index]
            it.assign(largest, ops.maximum(largest, second))
            second = largest
        scale = ops.add(ops.sqrt(second), self.epsilon)
        it.assign_sub(variable, ops.divide(ops.multiply(first, rate), scale))


class _NadamCycle(_MomentumCycle):
    """Nadam with the beta_1 of the step."""

    _momentum_name = "beta_1"
    beta_1: float
    beta_2: float
    epsilon: float
    _momentums: list[Any]
    _velocities: list[Any]
    _u_product: Any

    def build(self, variables: Any) -> None:
        """Create the moments, and the product of all shares so far."""
        it: Any = self
        if it.built:
            return
        super().build(variables)  # type: ignore[misc]
        # Within LossScaleOptimizer, Keras 3.15 forgets to track it: it would be neither saved
        # nor, on JAX, updated.
        if all(one is not self._u_product for one in it.variables):
            it._track_variable(self._u_product)  # noqa: SLF001

    def _backend_update_step(self, gradients: Any, variables: Any, learning_rate: Any) -> None:
        # Nadam multiplies its product by the beta_1 of step 0, which is replaced here.
        it: Any = self
        now = ops.cast(self._momenta()[0] / self.beta_1, self._u_product.dtype)
        it.assign(self._u_product, self._u_product * now)
        super()._backend_update_step(gradients, variables, learning_rate)  # type: ignore[misc]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        it: Any = self
        dtype = variable.dtype
        updates = self._num_updates()
        now, later = self._momenta()
        ahead = later * _nadam_share(updates + 1.0)
        product = ops.cast(self._u_product, "float32")
        of_moment = ops.cast(ahead / (1.0 - product * ahead), dtype)
        of_gradient = ops.cast((1.0 - now * _nadam_share(updates)) / (1.0 - product), dtype)
        unbias = ops.cast(1.0 - ops.power(self.beta_2, updates), dtype)
        gradient = ops.cast(gradient, dtype)
        index = it._get_variable_index(variable)  # noqa: SLF001
        first, second = self._momentums[index], self._velocities[index]
        fresh = ops.cast(1.0 - now, dtype)
        it.assign_add(first, ops.multiply(ops.subtract(gradient, first), fresh))
        change = ops.subtract(ops.square(gradient), second)
        it.assign_add(second, ops.multiply(change, 1 - self.beta_2))
        moved = ops.add(ops.multiply(first, of_moment), ops.multiply(gradient, of_gradient))
        scale = ops.add(ops.sqrt(ops.divide(second, unbias)), self.epsilon)
        rate = ops.cast(learning_rate, dtype)
        it.assign_sub(variable, ops.divide(ops.multiply(moved, rate), scale))


def _nadam_share(updates: Any) -> Any:
    return 1.0 - _NADAM_HALF * ops.power(_NADAM_BASE, updates)


@keras.saving.register_keras_serializable(package="smarttune")
class MomentumCycledSGD(_SGDCycle, keras.optimizers.SGD):  # type: ignore[misc]
    """`keras.optimizers.SGD` whose momentum follows a schedule.

    Args:
        momentum_schedule: Has `momentum(step)`, as `OneCycle` has; without one, the learning
            rate is it. The schedule takes the place of the argument `momentum`. All other
            arguments are those of `keras.optimizers.SGD`.

    Raises:
        OptionError: If there is no such schedule, or it does not begin between 0 and 1.
    """


@keras.saving.register_keras_serializable(package="smarttune")
class MomentumCycledAdam(_AdamCycle, keras.optimizers.Adam):  # type: ignore[misc]
    """`keras.optimizers.Adam` whose beta_1 follows a schedule.

    Args:
        momentum_schedule: As in `MomentumCycledSGD`; takes the place of `beta_1`.
    """


@keras.saving.register_keras_serializable(package="smarttune")
class MomentumCycledAdamW(_AdamCycle, keras.optimizers.AdamW):  # type: ignore[misc]
    """`keras.optimizers.AdamW` whose beta_1 follows a schedule.

    Args:
        momentum_schedule: As in `MomentumCycledSGD`; takes the place of `beta_1`.
    """


@keras.saving.register_keras_serializable(package="smarttune")
class MomentumCycledNadam(_NadamCycle, keras.optimizers.Nadam):  # type: ignore[misc]
    """`keras.optimizers.Nadam` whose beta_1 follows a schedule.

    Args:
        momentum_schedule: As in `MomentumCycledSGD`; takes the place of `beta_1`.
    """


_REGISTERED: dict[Any, Any] = {
    keras.optimizers.SGD: MomentumCycledSGD,
    keras.optimizers.Adam: MomentumCycledAdam,
    keras.optimizers.AdamW: MomentumCycledAdamW,
    keras.optimizers.Nadam: MomentumCycledNadam,
}
# What replaces the update of which class and its subclasses.
_CYCLES: dict[Any, Any] = {
    keras.optimizers.SGD: _SGDCycle,
    keras.optimizers.Adam: _AdamCycle,
    keras.optimizers.Nadam: _NadamCycle,
}


def with_momentum_cycle(kind: Any, schedule: Any) -> Any:
    """An optimizer class whose momentum follows the schedule.

    It has its own update rule, so it comes first and other mixins are put around it:
    `phased(with_momentum_cycle(SGD, schedule), ...)`.

    Args:
        kind: `keras.optimizers.SGD`, `Adam`, `AdamW` or `Nadam`, or a subclass that leaves
            their update of a variable alone.
        schedule: Has `momentum(step)`, as `OneCycle` has.

    Returns:
        A class that takes the arguments of `kind`. Of Keras's own four, it makes instances of
        `MomentumCycledSGD` and so on, which are found again when a saved model is loaded.

    Raises:
        OptionError: If the class has no momentum to cycle, or an update of its own.
    """
    root = next((one for one in _CYCLES if isinstance(kind, type) and issubclass(kind, one)), None)
    name = getattr(kind, "__name__", repr(kind))
    if root is None:
        raise OptionError(
            "kind",
            received=f"`{name}`",
            expected="SGD, Adam, AdamW, Nadam or a subclass",
            mend="Choose one of them, or leave its momentum as it is.",
        )
    if kind.update_step is not root.update_step:
        raise OptionError(
            "kind",
            received=f"`{name}` with an update_step of its own, which would be lost",
            expected=f"the update of keras.optimizers.{root.__name__}",
            mend="Cycle the momentum first and change the class afterwards.",
        )
    cycled: Any = _REGISTERED.get(kind) or type(name, (_CYCLES[root], kind), {})

    class Bound(cycled):  # type: ignore[misc]
        """The same optimizer with this schedule."""

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            # Keras finds only registered classes again; subclasses of this one are made as ever.
            if cls is Bound:
                return cycled(*args, **{"momentum_schedule": schedule, **kwargs})
            return super().__new__(cls)

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{"momentum_schedule": schedule, **kwargs})

    Bound.__name__ = name
    return Bound
