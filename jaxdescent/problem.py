"""A problem: a function to minimize, a box of initial points, its data and its known optima.

    minimize value_fn(x, *data)    with starts from the box [lower, upper]

A problem is a pytree. Its arrays (the box, data such as shifts and rotations, the optima) are
leaves and its functions are static. A compiled program can therefore take the problem as an
argument, and serve other instances of it.
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
    """A function to minimize, with the box from which initial points are drawn.

    Attributes:
      value_fn: Called as `value_fn(x, *data)`, x a tree like `lower`; returns a scalar. Two
        problems share compiled programs if they share this function, `sample_fn`, `name` and
        `optimizer`, and the shapes and dtypes of their arrays.
      lower, upper: the box that starts are drawn from, trees of arrays of the shapes of x. Descent
        may leave it.
      data: tuple of further arguments of `value_fn`, trees of arrays.
      optima: the known global optima, like x with a leading axis; or None.
      minimum: f[], the value at the optima; or None.
      name: name in tables and figures.
      sample_fn: Called as `sample_fn(key, problem)`; returns a start, a tree like x. By default
        starts are uniform in the box.
      optimizer: Called with an agent's hyperparameters as keywords; returns its optimizer.
        `minimize` and `fit` set it in the problem that they give to rules.

    Raises:
      ValueError: the box is empty or not finite, or its sides disagree in shape.
      TypeError: a function is not callable, or `data` is not a tuple.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> def sphere(x, shift):
      ...     return jnp.sum((x - shift) ** 2)
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
            raise TypeError(f"data must be a tuple of arguments of value_fn, got {self.data!r}")
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
        """Returns the value at x, a scalar. Use `jax.vmap` for many points.

        Raises:
          ValueError: x does not have the box's shapes.
        """
        validation.shaped_like("x", x, self.lower, "the problem's box")
        with validation.tracing("value_fn"):
            return self.value_fn(x, *self.data)

    def value_and_grad(self, x: Any) -> tuple[jax.Array, Any]:
        """Returns the value at x and its gradient, a tree like x.

        Raises:
          ValueError: x does not have the box's shapes.
        """
        validation.shaped_like("x", x, self.lower, "the problem's box")
        return jax.value_and_grad(self.value_fn)(x, *self.data)

    def sample(self, key: jax.Array) -> Any:
        """Draws a start for one agent."""
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
        """Returns the same problem with each coordinate of the box scaled to [0, 1].

        A learning rate then does not depend on the size of the box.

        Example:
          >>> import jax.numpy as jnp, jaxdescent as jd
          >>> problem = jd.problems.booth()
          >>> scaled = problem.in_unit_box()
          >>> scaled.optima.round(2)
          Array([[0.55, 0.65]], dtype=float32)
          >>> scaled.from_unit_box(scaled.optima[0])
          Array([1., 3.], dtype=float32)
        """
        return Problem(
            InUnitBox(self.value_fn),
            jax.tree.map(jnp.zeros_like, self.lower),
            jax.tree.map(jnp.ones_like, self.upper),
            (self.lower, self.upper, *self.data),
            None if self.optima is None else _to_unit_box(self.optima, self.lower, self.upper),
            self.minimum,
            self.name,
            None if self.sample_fn is None else SampleInUnitBox(self.value_fn, self.sample_fn),
        )

    def from_unit_box(self, x: Any) -> Any:
        """Maps a point of a problem made by `in_unit_box` to the original box.

        Raises:
          ValueError: this problem was not made by `in_unit_box`.
        """
        if not isinstance(self.value_fn, InUnitBox):
            raise ValueError("problem must be made by in_unit_box, got another problem")
        return _from_unit_box(x, *self.data[:2])

    @property
    def dimension(self) -> int:
        """Number of coordinates of x."""
        return sum(int(np.prod(jnp.shape(x))) for x in jax.tree.leaves(self.lower))

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Returns the arrays and the static fields."""
        arrays = tuple(getattr(self, name) for name in _DATA)
        return arrays, (self.value_fn, self.name, self.sample_fn, self.optimizer)

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Self:
        """Returns a problem of these leaves without checks: JAX also passes placeholders."""
        problem = object.__new__(cls)
        names = ("value_fn", "name", "sample_fn", "optimizer")
        for name, value in zip((*_DATA, *names), (*arrays, *static), strict=True):
            object.__setattr__(problem, name, value)
        return problem


@dataclasses.dataclass(frozen=True)
class InUnitBox:
    """A problem's function in coordinates in [0, 1].

    Two of the same function are equal, so that they share compiled programs.
    """

    value_fn: Callable[..., jax.Array]

    def __call__(self, x: Any, lower: Any, upper: Any, *data: Any) -> jax.Array:
        """Returns the value at the point of the box."""
        return self.value_fn(_from_unit_box(x, lower, upper), *data)


@dataclasses.dataclass(frozen=True)
class SampleInUnitBox:
    """A problem's `sample_fn` in coordinates in [0, 1].

    Two of the same functions are equal, so that they share compiled programs.
    """

    value_fn: Callable[..., jax.Array]
    sample_fn: Callable[[jax.Array, Problem], Any]

    def __call__(self, key: jax.Array, problem: Problem) -> Any:
        """Draws a start of a problem that `in_unit_box` made."""
        lower, upper, *data = problem.data
        optima = problem.optima
        if optima is not None:
            optima = _from_unit_box(optima, lower, upper)
        original = dataclasses.replace(
            problem,
            value_fn=self.value_fn,
            lower=lower,
            upper=upper,
            data=tuple(data),
            optima=optima,
            sample_fn=self.sample_fn,
        )
        return _to_unit_box(self.sample_fn(key, original), lower, upper)


def _to_unit_box(z: Any, lower: Any, upper: Any) -> Any:
    return jax.tree.map(lambda z, low, high: (z - low) / (high - low), z, lower, upper)


def _from_unit_box(x: Any, lower: Any, upper: Any) -> Any:
    return jax.tree.map(lambda u, low, high: low + u * (high - low), x, lower, upper)
