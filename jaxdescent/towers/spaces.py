"""Spaces: the coordinates in which hyperparameters are learned.

A hyperparameter h is carried as a coordinate x and used as h(x):

    positive        h = exp(x)      steps multiply; h stays above zero
    unit_interval   h = sigmoid(x)  h stays in (0, 1)
    unconstrained   h = x           h is any real number

The coordinate is a NamedTuple whose type is the space. An optimizer state, in memory or in a
checkpoint, therefore records the space of each number. Any NamedTuple with the three methods of
`Space` is a space.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation


@runtime_checkable
class Space(Protocol):
    """Protocol of a coordinate and its map to the natural value: a NamedTuple of one array."""

    def natural(self) -> jax.Array:
        """Returns the value that the optimizer uses."""
        ...

    @classmethod
    def at(cls, name: str, natural: Any) -> Self:
        """Returns the coordinate of a natural value; concrete values are checked, in float64.

        Args:
          name: the argument's name in error messages.
          natural: the natural value.
        """
        ...

    def clamp(self) -> Self:
        """Returns the nearest coordinate whose natural value the dtype can hold."""
        ...


class Positive(NamedTuple):
    """A value in (0, inf), learned as its logarithm.

    Attributes:
      log: the coordinate.
    """

    log: Any

    def natural(self) -> jax.Array:
        """Returns `exp(log)`."""
        return jnp.exp(self.log)

    @classmethod
    def at(cls, name: str, natural: Any) -> "Positive":
        """Returns the coordinate of `natural`."""
        if isinstance(natural, jax.core.Tracer):
            return cls(jnp.log(jnp.maximum(natural, 0)))
        hint = "to start at or below zero, wrap it in jd.unconstrained"
        return cls(np.log(validation.open_interval(name, natural, 0.0, np.inf, hint)))

    def clamp(self) -> "Positive":
        """Clamps so that `exp(log)` is a normal number of its dtype, neither 0 nor infinite."""
        info = jnp.finfo(self.log.dtype)
        # A factor of 2 inside the range, for the rounding of exp.
        low, high = math.log(2 * float(info.tiny)), math.log(float(info.max) / 2)
        return Positive(jnp.clip(self.log, low, high))


class UnitInterval(NamedTuple):
    """A value in (0, 1), learned as its logit.

    Attributes:
      logit: the coordinate.
    """

    logit: Any

    def natural(self) -> jax.Array:
        """Returns `1 / (1 + exp(-logit))`."""
        return jax.nn.sigmoid(self.logit)

    @classmethod
    def at(cls, name: str, natural: Any) -> "UnitInterval":
        """Returns the coordinate of `natural`."""
        if isinstance(natural, jax.core.Tracer):
            inside = jnp.clip(natural, 0, 1)
            return cls(jnp.log(inside) - jnp.log1p(-inside))
        hint = "an end of the interval cannot be left again; jd.unconstrained can start there"
        value = validation.open_interval(name, natural, 0.0, 1.0, hint)
        return cls(np.log(value) - np.log1p(-value))

    def clamp(self) -> "UnitInterval":
        """Clamps so that the value is neither 0 nor 1, where bias correction divides by zero."""
        info = jnp.finfo(self.logit.dtype)
        low, high = math.log(2 * float(info.tiny)), -math.log(float(info.eps))
        return UnitInterval(jnp.clip(self.logit, low, high))


class Unconstrained(NamedTuple):
    """Any real value, learned directly.

    Attributes:
      value: the coordinate.
    """

    value: Any

    def natural(self) -> jax.Array:
        """Returns the value."""
        return jnp.asarray(self.value)

    @classmethod
    def at(cls, name: str, natural: Any) -> "Unconstrained":
        """Returns the coordinate of `natural`."""
        if isinstance(natural, jax.core.Tracer):
            return cls(natural)
        return cls(validation.finite_array(name, natural))

    def clamp(self) -> "Unconstrained":
        """Clamps so that the value is finite."""
        largest = float(jnp.finfo(self.value.dtype).max)
        return Unconstrained(jnp.clip(self.value, -largest, largest))


class PerLeaf(NamedTuple):
    """A coordinate for each leaf of the parameters.

    Attributes:
      space: a coordinate that holds a tree like the parameters; as an initial value, one coordinate
        or bare number for all leaves.
    """

    space: Any


def positive(start: ArrayLike | Sequence[float], /) -> Positive:
    """Returns the initial value of a hyperparameter in (0, inf), learned in log space.

    Args:
      start: the initial value, in natural units; a number or an array. `jd.evolution` takes both
        ends of a range here.

    Raises:
      ValueError: `start` is not in (0, inf).

    Example:
      >>> import jaxdescent as jd
      >>> float(jd.positive(1.0).log)
      0.0
    """
    return Positive.at("positive(start)", start)


def unit_interval(start: ArrayLike | Sequence[float], /) -> UnitInterval:
    """Returns the initial value of a hyperparameter in (0, 1), learned in logit space.

    Args:
      start: the initial value, in natural units; a number or an array.

    Raises:
      ValueError: `start` is not in (0, 1).

    Example:
      >>> import jaxdescent as jd
      >>> float(jd.unit_interval(0.5).logit)
      0.0
    """
    return UnitInterval.at("unit_interval(start)", start)


def unconstrained(start: ArrayLike | Sequence[float], /) -> Unconstrained:
    """Returns the initial value of a hyperparameter of any real value, learned directly.

    The published code learns learning rates in this space, where they may become negative.

    Args:
      start: the initial value; a number or an array.

    Raises:
      ValueError: `start` is not finite.

    Example:
      >>> import jaxdescent as jd
      >>> float(jd.unconstrained(-0.5).value)
      -0.5
    """
    return Unconstrained.at("unconstrained(start)", start)


def per_leaf(start: Space | float, /) -> PerLeaf:
    """Returns the initial value of a hyperparameter that is learned separately for each leaf.

    The factory is called once per leaf, and its transformation sees only that leaf: a global norm
    inside it becomes the norm of the leaf.

    Args:
      start: a coordinate such as `jd.positive(1e-3)`, or a bare number, whose space follows from
        the hyperparameter's name.

    Raises:
      TypeError: `start` is neither.
      ValueError: `start` is not finite, or an array with dimensions.

    Example:
      >>> import jax, optax, jaxdescent as jd
      >>> tx = jd.hypergradient(
      ...     optax.sgd, optax.sgd(1e-3), tune={"learning_rate": jd.per_leaf(0.5)}
      ... )
      >>> state = tx.init({"bias": jax.numpy.zeros(2), "weight": jax.numpy.zeros((2, 2))})
      >>> jax.tree.map(float, jd.get_hyperparams(state)[0]["learning_rate"])
      {'bias': 0.5, 'weight': 0.5}
    """
    number: Any = start[0] if isinstance(start, tuple) and is_space(start) else start
    if not isinstance(number, jax.core.Tracer):
        validation.finite_array("per_leaf(start)", number)
    if np.shape(number):
        raise ValueError(f"per_leaf(start) must be one number, got shape {np.shape(number)}")
    return PerLeaf(start)


_POSITIVE = ("learning_rate", "weight_decay", "weight_decay_rate", "eps", "eps_root")
_UNIT_INTERVAL = ("b1", "b2", "b3", "decay", "decay_rate", "momentum")


def start_of(name: str, start: Any) -> Space | PerLeaf:
    """Returns the coordinate at which the hyperparameter `name` starts.

    A bare number takes the space of its optax name: `positive` for the learning rate,
    weight decay and epsilons, `unit_interval` for decay rates and momentum.

    Raises:
      ValueError: the number is out of range, or no space is known for the name.
    """
    if isinstance(start, PerLeaf):
        return PerLeaf(_shared_start(name, start.space))
    return _shared_start(name, start)


def _shared_start(name: str, start: Any) -> Space:
    if is_space(start):
        return start
    label = f"tune[{name!r}]"
    if not isinstance(start, jax.core.Tracer):
        validation.finite_array(label, start)
    if name in _POSITIVE:
        return Positive.at(label, start)
    if name in _UNIT_INTERVAL:
        return UnitInterval.at(label, start)
    raise ValueError(
        f"{label} must be a coordinate, since no space is known for that name, got the number "
        f"{start!r}; wrap it in jd.positive, jd.unit_interval or jd.unconstrained "
        f"(known names: {', '.join(_POSITIVE + _UNIT_INTERVAL)})"
    )


def is_space(node: Any) -> bool:
    """True if a node of a tree is a coordinate."""
    return isinstance(node, tuple) and isinstance(node, Space)  # a flax Variable is not a tuple


def restored(node: Any) -> Any:
    """Returns the coordinate of which a mapping has the field, as `nnx.state` or Orbax returns it.

    Raises:
      ValueError: no space has a field of that name.
    """
    if not isinstance(node, Mapping):
        return node
    for kind in (Positive, UnitInterval, Unconstrained):
        if tuple(node) == kind._fields:
            return kind(*node.values())
    if tuple(node) == PerLeaf._fields:
        return PerLeaf(restored(node["space"]))
    raise ValueError(
        f"state must hold coordinates of known spaces, got a mapping of {', '.join(map(str, node))}"
        "; restore it with a template, such as tx.init(params), or pass optimizer.opt_state"
    )


def natural(node: Any) -> Any:
    """Returns the natural value of a coordinate, or a tree of them for `PerLeaf`."""
    if not isinstance(node, PerLeaf):
        return node.natural()
    kind = type(node.space)
    return jax.tree.map(lambda number: kind(number).natural(), node.space[0])


def clamp(node: Any) -> Any:
    """Clamps a coordinate, or all coordinates of `PerLeaf`."""
    if not isinstance(node, PerLeaf):
        return node.clamp()
    kind = type(node.space)
    return PerLeaf(kind(jax.tree.map(lambda number: kind(number).clamp()[0], node.space[0])))
