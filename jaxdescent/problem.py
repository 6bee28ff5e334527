"""A problem: a function to minimize, its box, its data and its known optima.

    minimize value_fn(x, *data)    subject to lower <= x <= upper

The box bounds x, unless `bounds` is None. Starts are uniform in it, or in a smaller box. The box
also sets the units of x (`box.py`): in `minimize`, optimizers see

    (x - center) / scale,    scale = upper - lower,

so that a learning rate is a fraction of the box's width, for a box of any size at any place. Rules,
histories and results are in the problem's own coordinates.

A problem is a pytree. Its arrays (the box, data such as shifts and rotations, the optima) are
leaves and its functions are static. A compiled program can therefore take the problem as an
argument, and serve other instances of it.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescent import validation
from jaxdescent.box import Box, InUnitBox, SampleInUnitBox, narrowed, rounded, to_unit_box

_ARRAYS = ("lower", "upper", "data", "optima", "minimum", "start_lower", "start_upper")
_STATIC = ("value_fn", "name", "sample_fn", "optimizer", "bounds", "unit_box")
_BOUNDS = ("project", "reflect", None)


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A function to minimize in a box, from which initial points are drawn.

    Attributes:
      value_fn: Called as `value_fn(x, *data)`, x a tree like `lower`; returns a scalar. Two
        problems share compiled programs if they share this function and the other fields that are
        not arrays, and the shapes and dtypes of their arrays.
      lower, upper: the box, trees of floating-point arrays of the shapes of x. They may be
        infinite if starts are given otherwise.
      data: tuple of further arguments of `value_fn`, trees of arrays.
      optima: the known global optima, like x with a leading axis; or None.
      minimum: f[], the value at the optima; or None.
      name: name in tables and figures.
      sample_fn: Called as `sample_fn(key, problem)`; returns a start, a tree like x. By default
        starts are uniform in the box.
      optimizer: Called with an agent's hyperparameters as keywords; returns its optimizer.
        `minimize` and `fit` set it in the problem that they give to rules.
      bounds: what happens to a point that leaves the box: "project" moves it to the nearest point
        of the box, "reflect" mirrors it at the bound. With None the box does not bound x, and is
        only for starts and the scale.
      start_lower, start_upper: a box within the bounds from which starts are drawn instead.
      unit_box: whether optimizers see coordinates in units of the box in `minimize`: differences
        from its center in widths. Where the box is not finite, they see x itself.

    Raises:
      ValueError: the box is empty, its sides disagree in shape, a leaf is not floating point (an
        integer cannot descend; pass it as data), the box of starts is not finite or not within
        the bounds, or `bounds` is not one of its values.
      TypeError: a function is not callable, or `data` is not a tuple.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> def sphere(x, shift):
      ...     return jnp.sum((x - shift) ** 2)
      >>> box = jnp.full(3, 5.0)
      >>> problem = jd.Problem(sphere, -box, box, data=(jnp.ones(3),), minimum=0.0)
      >>> float(problem.value(jnp.zeros(3))), problem.sample(jax.random.key(0)).shape
      (3.0, (3,))
      >>> problem.into_bounds(jnp.array([1.0, 7.0, -6.0]))
      Array([ 1.,  5., -5.], dtype=float32)
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
    bounds: Literal["project", "reflect"] | None = "project"
    start_lower: Any = None
    start_upper: Any = None
    unit_box: bool = True

    def __post_init__(self) -> None:
        if not callable(self.value_fn):
            raise TypeError(f"value_fn must be callable, got {self.value_fn!r}")
        if not isinstance(self.data, tuple):
            raise TypeError(
                f"data must be a tuple of arguments of value_fn, got {validation.shown(self.data)}"
            )
        for name in ("sample_fn", "optimizer"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be callable or None, got {value!r}")
        if self.bounds not in _BOUNDS:
            raise ValueError(f"bounds must be 'project', 'reflect' or None, got {self.bounds!r}")
        if not isinstance(self.unit_box, bool):
            raise ValueError(f"unit_box must be True or False, got {self.unit_box!r}")
        self._check_box("lower", "upper")
        if self.start_lower is None and self.start_upper is None:
            return
        self._check_box("start_lower", "start_upper")
        validation.shaped_like("start_lower", self.start_lower, self.lower, "lower")
        names = ("start_lower", "start_upper")
        for name in names:
            for leaf in jax.tree.leaves(getattr(self, name)):
                if validation.is_concrete(leaf):
                    validation.finite_array(name, leaf)
        if self.bounds is None:
            return
        trees = (self.lower, self.start_lower, self.start_upper, self.upper)
        for low, first, last, high in zip(*map(jax.tree.leaves, trees), strict=True):
            known = all(map(validation.is_concrete, (low, first, last, high)))
            if known and not (np.all(low <= first) and np.all(last <= high)):
                shown = [validation.shown(x) for x in (first, last, low, high)]
                raise ValueError(
                    "start_lower and start_upper must be within lower and upper, got "
                    f"{shown[0]} and {shown[1]} for {shown[2]} and {shown[3]}"
                )

    def _check_box(self, low_name: str, high_name: str) -> None:
        """Raises ValueError unless two fields are the sides of a box; NaN is never one."""
        low_tree, high_tree = getattr(self, low_name), getattr(self, high_name)
        if low_tree is None or high_tree is None:
            raise ValueError(f"{low_name} and {high_name} must be given together, got None")
        for name, tree in ((low_name, low_tree), (high_name, high_tree)):
            hint = "an integer cannot descend: write a number as 1.0, pass a constant in data"
            validation.check_floating(name, tree, hint)
        validation.shaped_like(high_name, high_tree, low_tree, low_name)
        low_tree = jax.tree.map(partial(narrowed, toward=np.inf), low_tree)
        high_tree = jax.tree.map(partial(narrowed, toward=-np.inf), high_tree)
        for low, high in zip(jax.tree.leaves(low_tree), jax.tree.leaves(high_tree), strict=True):
            if not (validation.is_concrete(low) and validation.is_concrete(high)):
                continue
            below = validation.real_array(low_name, low) < validation.real_array(high_name, high)
            if not np.all(below):
                raise ValueError(
                    f"{low_name} must be below {high_name} everywhere, got "
                    f"{validation.shown(low)} and {validation.shown(high)}; pass a coordinate that "
                    "does not vary in data"
                )
        object.__setattr__(self, low_name, low_tree)
        object.__setattr__(self, high_name, high_tree)

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
        """Draws a start for one agent.

        Raises:
          ValueError: there is neither a `sample_fn` nor a finite box.
        """
        if self.sample_fn is not None:
            return self.sample_fn(key, self)
        self.check_starts()
        low, high = self.start_box
        lower, structure = jax.tree.flatten(low)
        upper = structure.flatten_up_to(high)
        keys = jax.random.split(key, len(lower))
        drawn = [
            jax.random.uniform(k, jnp.shape(a), jnp.result_type(float, a, b), a, b)
            for k, a, b in zip(keys, lower, upper, strict=True)
        ]
        return structure.unflatten(drawn)

    @property
    def start_box(self) -> tuple[Any, Any]:
        """The corners of the box from which starts are drawn, trees like `lower`."""
        if self.start_lower is None:
            return self.lower, self.upper
        return self.start_lower, self.start_upper

    def check_starts(self) -> None:
        """Raises ValueError if `sample` would draw from a box that is not finite."""
        if self.sample_fn is not None or self.start_lower is not None:
            return
        for low, high in zip(jax.tree.leaves(self.lower), jax.tree.leaves(self.upper), strict=True):
            known = validation.is_concrete(low) and validation.is_concrete(high)
            if known and not np.all(np.isfinite(low) & np.isfinite(high)):
                raise ValueError(
                    "lower and upper must be finite to draw starts from, got "
                    f"{validation.shown(low)} and {validation.shown(high)}; give start_lower and "
                    "start_upper, sample_fn, or init_params where agents start"
                )

    @property
    def scale(self) -> Any:
        """The unit of each coordinate, a tree like `lower`: the box's width, or 1."""

        def width(low: Any, high: Any) -> jax.Array:
            difference = jnp.asarray(high) - jnp.asarray(low)
            one = jnp.ones_like(difference)
            return jnp.where(jnp.isfinite(difference), difference, one) if self.unit_box else one

        return jax.tree.map(width, self.lower, self.upper)

    @property
    def center(self) -> Any:
        """The origin of each coordinate, a tree like `lower`: the middle of the box, or 0."""

        def middle(low: Any, high: Any) -> jax.Array:
            half = (jnp.asarray(high) - jnp.asarray(low)) / 2
            zero = jnp.zeros_like(half)
            return jnp.where(jnp.isfinite(half), low + half, zero) if self.unit_box else zero

        return jax.tree.map(middle, self.lower, self.upper)

    def box_like(self, x: Any) -> "Box":
        """Returns the box in the dtypes of x, rounded inward; x may have further leading axes."""

        def like(toward: float) -> Any:
            return lambda x, bound: rounded(bound, jnp.result_type(x), toward)

        def cast(x: Any, unit: jax.Array) -> jax.Array:
            return unit.astype(jnp.result_type(x))

        return Box(
            jax.tree.map(like(np.inf), x, self.lower),
            jax.tree.map(like(-np.inf), x, self.upper),
            jax.tree.map(cast, x, self.center),
            jax.tree.map(cast, x, self.scale),
        )

    def into_bounds(self, x: Any) -> Any:
        """Returns points moved into the box, by projection or reflection; x without bounds.

        A reflected point that is still outside is projected. NaN stays NaN.

        Args:
          x: a tree like `lower`, or with further leading axes.
        """
        if self.bounds is None:
            return x
        return self.box_like(x).move(x, reflect=self.bounds == "reflect")

    def in_units(self, x: Any) -> Any:
        """Returns (x - center) / scale, the coordinates that optimizers see in `minimize`.

        Args:
          x: a tree like `lower`, or with further leading axes.
        """
        return self.box_like(x).in_units(x) if self.unit_box else x

    def in_unit_box(self) -> "Problem":
        """Returns the same problem with each coordinate of the box mapped to [0, 1].

        `minimize` does not need this, because it scales coordinates itself.

        Raises:
          ValueError: the box is not finite.

        Example:
          >>> import jax.numpy as jnp, jaxdescent as jd
          >>> problem = jd.problems.booth()
          >>> scaled = problem.in_unit_box()
          >>> scaled.optima.round(2)
          Array([[0.55, 0.65]], dtype=float32)
          >>> scaled.from_unit_box(scaled.optima[0]).round(5)
          Array([1., 3.], dtype=float32)
        """
        for name in ("lower", "upper"):
            for leaf in jax.tree.leaves(getattr(self, name)):
                if validation.is_concrete(leaf):
                    validation.finite_array(name, leaf)

        def scaled(tree: Any) -> Any:
            return None if tree is None else to_unit_box(tree, self.lower, self.upper)

        return Problem(
            InUnitBox(self.value_fn, self.bounds is not None),
            jax.tree.map(jnp.zeros_like, self.lower),
            jax.tree.map(jnp.ones_like, self.upper),
            (self.lower, self.upper, *self.data),
            scaled(self.optima),
            self.minimum,
            self.name,
            None if self.sample_fn is None else SampleInUnitBox(self.value_fn, self.sample_fn),
            bounds=self.bounds,
            start_lower=scaled(self.start_lower),
            start_upper=scaled(self.start_upper),
            unit_box=self.unit_box,
        )

    def from_unit_box(self, x: Any) -> Any:
        """Maps a point of a problem made by `in_unit_box` to the original box.

        A point in the unit box is in the original box despite rounding, if the box binds.

        Raises:
          ValueError: this problem was not made by `in_unit_box`.
        """
        if not isinstance(self.value_fn, InUnitBox):
            raise ValueError("problem must be made by in_unit_box, got another problem")
        return self.value_fn.original(x, *self.data[:2])

    @property
    def dimension(self) -> int:
        """Number of coordinates of x."""
        return sum(int(np.prod(jnp.shape(x))) for x in jax.tree.leaves(self.lower))

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Returns the arrays and the static fields."""
        arrays, static = (
            tuple(getattr(self, name) for name in names) for names in (_ARRAYS, _STATIC)
        )
        return arrays, static

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Self:
        """Returns a problem of these leaves without checks: JAX also passes placeholders."""
        problem = object.__new__(cls)
        for name, value in zip((*_ARRAYS, *_STATIC), (*arrays, *static), strict=True):
            object.__setattr__(problem, name, value)
        return problem


def in_bounds(problem: Any, bounds: Any) -> Problem:
    """Returns a problem: `problem` itself, or from a function and its bounds.

    Args:
      problem: a function or a `Problem`.
      bounds: `(lower, upper)` for a function, None for a problem. Each is a tree of arrays, in
        which a list of numbers is an array and integers become floating point.

    Raises:
      ValueError: a function has no bounds or a list of pairs, or a problem is given others.
      TypeError: an argument has the wrong type.
    """
    if isinstance(problem, Problem):
        if bounds is not None:
            raise ValueError(
                "bounds must be None with a jd.Problem, which has its own, got "
                f"{validation.shown(bounds)}"
            )
        return problem
    if not callable(problem):
        raise TypeError(
            f"problem must be a function or a jd.Problem, got {validation.shown(problem)}"
        )
    if not (isinstance(bounds, tuple | list) and len(bounds) == 2):
        raise ValueError(
            "bounds must be (lower, upper) where problem is a function, got "
            f"{validation.shown(bounds)}"
        )
    if isinstance(bounds, list) and all(isinstance(pair, tuple) for pair in bounds):
        raise ValueError(
            f"bounds must be (lower, upper), got {validation.shown(bounds)}; for a list of pairs, "
            "one for each coordinate, write tuple(numpy.transpose(pairs))"
        )
    lower, upper = (jax.tree.map(_floating, side, is_leaf=_is_numbers) for side in bounds)
    return Problem(problem, lower, upper)


def _is_numbers(side: Any) -> bool:
    """True for a list of numbers, or of lists of numbers: one array rather than a tree."""
    if not isinstance(side, list):
        return False
    return all(_is_numbers(x) or isinstance(x, int | float | np.number) for x in side)


def _floating(bound: Any) -> jax.Array:
    """Returns a bound as an array, in the default dtype if it is of integers."""
    array = jnp.asarray(bound)
    is_integer = jnp.issubdtype(array.dtype, jnp.integer)
    return array.astype(jnp.result_type(float)) if is_integer else array
