"""The protocol of drift detectors, which say when the mean of a stream changes.

    state = detector.init()
    state, detection = detector.update(state, value)      # one value, such as a loss or an error
    state, detections = detector.scan(state, values)      # many values, equal to many updates

Detectors are pure functions: `update` runs inside `jax.jit`, `jax.lax.scan` and `jax.vmap`. After
an alarm, the next value begins a new window: the detector forgets all values until the alarm.

Values that are not finite are ignored and counted, and so are values whose squares might overflow
once they are summed: above 2**48 in float32, and above 2**496 in float64.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import validation


class Detection(NamedTuple):
    """The outcome of an update.

    Attributes:
      drift: bool[], True if the stream has changed.
      warning: bool[], True if it may have changed. Only `ddm` warns.
    """

    drift: jax.Array
    warning: jax.Array


class Detector(NamedTuple):
    """A drift detector.

    Attributes:
      init: Called as `init()`; returns the state before the first value. Its numbers are float64 if
        64 bits are enabled, else float32.
      update: Called as `update(state, value)` with a number or a bool; returns the new state and a
        `Detection`. The estimates of the detector are attributes of its state.
      scan_values: Called as `scan_values(state, values)`; a faster way to update with many values.
        None to scan over `update`.

    Example:
      A detector of your own, of values above a limit:

      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> def update(state, value):
      ...     return state + 1, jd.streaming.Detection(value > 9, jnp.array(False))
      >>> detector = jd.streaming.Detector(lambda: jnp.int32(0), update)
      >>> count, found = detector.scan(detector.init(), jnp.array([1.0, 10.0]))
      >>> int(count), found.drift.tolist()
      (2, [False, True])
    """

    init: Callable[[], Any]
    update: Callable[[Any, Any], tuple[Any, Detection]]
    scan_values: Callable[[Any, Any], tuple[Any, Detection]] | None = None

    def scan(self, state: Any, values: Any) -> tuple[Any, Detection]:
        """Updates with values [n] in their order; n may be 0.

        Returns:
          The last state, and a `Detection` of bool[n].

        Raises:
          ValueError: `values` has another number of axes.
        """
        values = jnp.asarray(values)
        if values.ndim != 1:
            raise ValueError(
                f"values must have shape [n], got {values.shape}; use jax.vmap for many streams"
            )
        if self.scan_values is None or not len(values):
            return jax.lax.scan(self.update, state, values)
        return self.scan_values(state, values)


def check_detector(name: str, value: Any) -> None:
    """Raises TypeError unless `value` is a `Detector`."""
    if not isinstance(value, Detector):
        hint = ""
        if callable(value):
            hint = "; call it first, as in jd.streaming.adwin()"
        raise TypeError(
            f"{name} must be a jd.streaming.Detector, got {validation.shown(value)}{hint}"
        )


def floating(value: Any, like: jax.Array, *, axes: int = 0) -> jax.Array:
    """Returns values in the dtype of a state's numbers, without a gradient.

    Raises:
      ValueError: the values are not real, or have another number of axes.
    """
    array = jnp.asarray(value)
    if array.ndim != axes or jnp.iscomplexobj(array):
        expected = "one real number" if axes == 0 else "real numbers [n]"
        raise ValueError(
            f"value must be {expected}, got {array.dtype}{list(array.shape)}; use scan for many "
            "values, and jax.vmap for many streams"
        )
    return jax.lax.stop_gradient(array.astype(like.dtype))


def usable(value: jax.Array) -> jax.Array:
    """True for finite values that can be squared and summed without overflow."""
    largest = jnp.sqrt(jnp.finfo(value.dtype).max) * 2.0**-16
    return jnp.abs(value) <= largest  # False for nan


def run_if(flag: jax.Array, function: Callable[..., Any], operand: Any, *args: Any) -> Any:
    """Returns `function(operand, *args)` if a flag is set, else the operand.

    Under `jax.vmap`, `jax.lax.cond` computes both branches for every lane. Here the function runs
    only if the flag of a lane is set.
    """

    def body(carry: Any) -> Any:
        # The compiler would move computations that do not depend on the carry out of the loop.
        present, carry, inputs = jax.lax.optimization_barrier((*carry, args))
        return jnp.zeros_like(present), function(carry, *inputs)

    return jax.lax.while_loop(lambda carry: carry[0], body, (flag, operand))[1]


def increment(count: jax.Array, by: Any) -> jax.Array:
    """Returns a count that stays at its largest value."""
    largest = jnp.iinfo(count.dtype).max
    return jnp.where(count > largest - by, largest, count + by).astype(count.dtype)


def number_between(name: str, value: Any, low: float, high: float) -> Any:
    """Returns a number that must be in (low, high); a traced one is not checked."""
    if isinstance(value, jax.core.Tracer):
        return value
    return validation.number_between(name, value, low, high)
