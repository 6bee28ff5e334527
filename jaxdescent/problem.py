"""A problem: what is minimized, where its answers may lie, and what they are known to be.

    minimize value_fn(x, *data)    for x in the box [lower, upper]

The arrays (data such as shifts and rotations, the box, the known minima) are a pytree's leaves
and the functions are static: a compiled program takes another instance of the same problem as
an argument.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescent import validation

_DATA = ("lower", "upper", "data", "optima", "minimum")


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A function to minimize, with its box.

    Attributes:
      value_fn: from (x, *data) to a scalar; x is a tree like `lower`. Two problems share
        compiled programs if they share this function, `sample_fn` and `name`, and their
        arrays' shapes and types.
      lower, upper: the box that starts are drawn from, trees of arrays of x's shapes. Descent
        may leave it.
      data: tuple of further arguments of `value_fn`, trees of arrays.
      optima: the known global optima, like x with a leading axis; or None.
      minimum: f[], the value there; or None.
      name: for tables and pictures.
      sample_fn: from (key, problem) to a start, a tree like x; by default uniform in the box.
      optimizer: from an agent's hyperparameters, as keywords, to the transformation that
        descends; a driver sets it for its rules.

    Raises:
      ValueError: the box is empty, not finite, or its sides disagree in shape.
      TypeError: a function is none, or `data` no tuple.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> sphere = lambda x, shift: jnp.sum((x - shift) ** 2)
      >>> box = jnp.full(3, 5.0)
      >>> problem = jd.Problem(sphere, -box, box, data=(jnp.ones(3),), minimum=0.0)
      >>> float(problem.value(jnp.zeros(3))), problem.sample(jax.random.key(0)).shape
      (3.0, (3,))
    """

    value_fn: Callable[..., jax.Array]
    lower: Any
    upper: Any
    data: tuple[Any, ...] = ()
    optima: Any = None
    minimum: Any = None
    name: str = ""
    sample_fn: Callable[[jax.Array, "Problem"], Any] | None = None
    optimizer: Callable[..., optax.GradientTransformationExtraArgs] | None = None

    def __post_init__(self) -> None:
        if not callable(self.value_fn):
            raise TypeError(f"value_fn must be callable, got {self.value_fn!r}")
        if not isinstance(self.data, tuple):
            raise TypeError(f"data must be a tuple of value_fn's arguments, got {self.data!r}")
        for name in ("sample_fn", "optimizer"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be callable or None, got {value!r}")
        validation.shaped_like("upper", self.upper, self.lower, "lower")
        for low, high in zip(jax.tree.leaves(self.lower), jax.tree.leaves(self.upper), strict=True):
            if isinstance(low, jax.core.Tracer) or isinstance(high, jax.core.Tracer):
                continue
            low, high = (
                validation.finite_array("lower", low),
                validation.finite_array("upper", high),
            )
            if not np.all(low < high):
                raise ValueError(f"lower must be below upper everywhere, got {low} and {high}")

    def value(self, x: Any) -> jax.Array:
        """The value at x, a scalar.

        Raises:
          ValueError: x does not have the box's shapes; many points are for `jax.vmap`.
        """
        validation.shaped_like("x", x, self.lower, "the problem's box")
        return self.value_fn(x, *self.data)

    def value_and_grad(self, x: Any) -> tuple[jax.Array, Any]:
        """The value at x and its gradient, a tree like x.

        Raises:
          ValueError: x does not have the box's shapes.
        """
        validation.shaped_like("x", x, self.lower, "the problem's box")
        return jax.value_and_grad(self.value_fn)(x, *self.data)

    def sample(self, key: jax.Array) -> Any:
        """A start for one agent."""
        if self.sample_fn is not None:
            return self.sample_fn(key, self)
        lower, structure = jax.tree.flatten(self.lower)
        upper = structure.flatten_up_to(self.upper)
        keys = jax.random.split(key, len(lower))
        drawn = [
            jax.random.uniform(k, jnp.shape(a), jnp.result_type(float, a, b), a, b)
            for k, a, b in zip(keys, lower, upper, strict=True)
        ]
        return structure.unflatten(drawn)

    def in_unit_box(self) -> "Problem":
        """The same problem with each coordinate of the box scaled to [0, 1].

        One learning rate then means the same in a box of 2 and in one of 1,000.

        Example:
          >>> import jax.numpy as jnp, jaxdescent as jd
          >>> problem = jd.problems.booth()
          >>> scaled = problem.in_unit_box()
          >>> scaled.optima.round(2)
          Array([[0.55, 0.65]], dtype=float32)
          >>> scaled.from_unit_box(scaled.optima[0])
          Array([1., 3.], dtype=float32)
        """
        scaled = lambda x: _scaled(x, self.lower, self.upper)
        return Problem(
            InUnitBox(self.value_fn),
            jax.tree.map(jnp.zeros_like, self.lower),
            jax.tree.map(jnp.ones_like, self.upper),
            (self.lower, self.upper, *self.data),
            None if self.optima is None else scaled(self.optima),
            self.minimum,
            self.name,
            None if self.sample_fn is None else SampleInUnitBox(self.value_fn, self.sample_fn),
        )

    def from_unit_box(self, x: Any) -> Any:
        """The point that x is, of a problem made by `in_unit_box`, in the original box.

        Raises:
          ValueError: this problem was not made by it.
        """
        if not isinstance(self.value_fn, InUnitBox):
            raise ValueError("problem must come from in_unit_box, got one that does not")
        return _placed(x, *self.data[:2])

    @property
    def dimension(self) -> int:
        """How many numbers x has."""
        return sum(int(np.prod(jnp.shape(x))) for x in jax.tree.leaves(self.lower))

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Arrays and the rest."""
        arrays = tuple(getattr(self, name) for name in _DATA)
        return arrays, (self.value_fn, self.name, self.sample_fn, self.optimizer)

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Self:
        """A problem of these leaves, whatever they are: a tree's need not be arrays."""
        problem = object.__new__(cls)
        names = ("value_fn", "name", "sample_fn", "optimizer")
        for name, value in zip((*_DATA, *names), (*arrays, *static), strict=True):
            object.__setattr__(problem, name, value)
        return problem


@dataclasses.dataclass(frozen=True)
class InUnitBox:
    """A function of coordinates in [0, 1]; two of the same function are equal, as jit needs."""

    value_fn: Callable[..., jax.Array]

    def __call__(self, x: Any, lower: Any, upper: Any, *data: Any) -> jax.Array:
        """The value at the point of the box."""
        return self.value_fn(_placed(x, lower, upper), *data)


@dataclasses.dataclass(frozen=True)
class SampleInUnitBox:
    """Starts of a problem in coordinates in [0, 1], equal like its functions."""

    value_fn: Callable[..., jax.Array]
    sample_fn: Callable[[jax.Array, Problem], Any]

    def __call__(self, key: jax.Array, problem: Problem) -> Any:
        """A start, of a problem that `in_unit_box` made."""
        lower, upper, *data = problem.data
        optima = problem.optima
        if optima is not None:
            optima = _placed(optima, lower, upper)
        original = dataclasses.replace(
            problem,
            value_fn=self.value_fn,
            lower=lower,
            upper=upper,
            data=tuple(data),
            optima=optima,
            sample_fn=self.sample_fn,
        )
        return _scaled(self.sample_fn(key, original), lower, upper)


def _scaled(z: Any, lower: Any, upper: Any) -> Any:
    return jax.tree.map(lambda z, low, high: (z - low) / (high - low), z, lower, upper)


def _placed(x: Any, lower: Any, upper: Any) -> Any:
    return jax.tree.map(lambda u, low, high: low + u * (high - low), x, lower, upper)
