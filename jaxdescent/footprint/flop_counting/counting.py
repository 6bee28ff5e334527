"""The FLOPs of a function, counted from its jaxpr.

XLA's own analysis counts the body of a loop once, however often it runs, so the count is made
here, on the program as JAX traced it and before a compiler rewrites it. How often an operation
runs is in `traversal`, what it costs in `operations`.

What no output depends on is left out, as a compiler leaves it out. Rematerialized work counts
as often as it is done.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from jaxdescent.footprint.flop_counting import traversal
from jaxdescent.footprint.flop_counting.traversal import FlopsByKind
from jaxdescent.footprint.quantities import Quantity

_CONVENTION = "a multiply-add is 2 FLOPs; only matrix products and convolutions are dense"
_ELEMENTWISE = "an elementwise output is 1 FLOP, and so is an element that is reduced"
_LEADING_ORDER = (
    "half to twice of what is estimated: linear algebra, sorts and FFTs by leading-order "
    "formulas, Pallas kernels by their author's word"
)


class Flops(NamedTuple):
    """What one call of a function costs.

    Attributes:
      dense: of matrix products and convolutions, exact: what the field's 6N counts.
      elementwise: one for each output of an elementwise operation or element reduced.
      estimated: of linear algebra, sorts and FFTs by leading-order formulas, and of kernels
        by their author's word.
      by_primitive: all of them by the primitive's name, the dearest first.
      unknown: what could not be counted, in words. Nothing of it is in the numbers.
      least: the first three if every `cond` takes the branch with the least of each.
      most: likewise with the most of each.
    """

    dense: int
    elementwise: int
    estimated: int
    by_primitive: dict[str, int]
    unknown: tuple[str, ...]
    least: FlopsByKind
    most: FlopsByKind

    @property
    def total(self) -> int:
        """Dense, elementwise and estimated together."""
        return self.dense + self.elementwise + self.estimated

    def quantity(self, kind: Literal["total", "dense"] = "total") -> Quantity:
        """The count as a quantity in FLOP.

        The interval holds every branch that a `cond` can take, and half to twice of what is
        estimated; it has no upper end if something is unknown.

        Args:
          kind: "dense" for matrix products and convolutions alone.

        Raises:
          ValueError: another kind.

        Example:
          >>> import jax.numpy as jnp
          >>> step = flops(jnp.dot, jnp.ones((100, 50)), jnp.ones((50, 20)))
          >>> print(step.quantity("dense").times(1000, "1000 steps"))
          200 MFLOP (counted: jaxpr)
        """
        if kind not in ("total", "dense"):
            raise ValueError(f"kind must be 'total' or 'dense', got {kind!r}")
        constants, how = [_CONVENTION], "counted: jaxpr"
        if kind == "dense":
            low, value, high = self.least.dense, self.dense, self.most.dense
        else:
            constants += [_ELEMENTWISE]
            low = self.least.dense + self.least.elementwise + self.least.estimated // 2
            value = self.total
            high = self.most.dense + self.most.elementwise + 2 * self.most.estimated
        if kind == "total" and self.most.estimated:
            constants += [_LEADING_ORDER]
            how += " + estimated: leading order"
        constants += [f"not counted: {what}" for what in self.unknown]
        if self.unknown:
            high = math.inf
        return Quantity(float(value), float(low), float(high), "FLOP", how, tuple(constants))

    def __str__(self) -> str:
        shown = [
            f"{Quantity.exact(number, 'FLOP', 'counted: jaxpr').shown()} {kind}"
            for kind, number in zip(FlopsByKind._fields, self[:3], strict=True)
            if number or kind == "dense"
        ]
        lines = [f"{', '.join(shown)} (counted: jaxpr)"]
        return "\n".join([*lines, *(f"not counted: {what}" for what in self.unknown)])


def flops(
    fn: Callable[..., Any],
    /,
    *args: Any,
    while_trips: int | Sequence[int] | None = None,
    **kwargs: Any,
) -> Flops:
    """The FLOPs of one call of a function, which is traced and not run.

    Args:
      fn: a function of arrays; compiled by `jax.jit` or not. Static arguments must be named
        to `jax.jit`, or closed over.
      *args: its arguments: arrays, numbers, or `jax.ShapeDtypeStruct`s.
      while_trips: how often a `while_loop` turns: one number for all of them, or one for each
        in the order in which they are met (the outer before the inner; those in all branches
        of a `cond`). Without it they are listed as unknown. A `fori_loop` whose bounds are
        Python numbers is a scan, and needs none.
      **kwargs: keyword arguments of `fn`.

    Returns:
      The counts. They are exact Python integers.

    Raises:
      TypeError: `fn` is not callable, an argument is no array, or `while_trips` no number.
      ValueError: `while_trips` is negative, or of another length than there are loops.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> layer = lambda x, w: jnp.tanh(x @ w)
      >>> counted = flops(layer, jnp.ones((100, 50)), jnp.ones((50, 20)))
      >>> print(counted)
      200 kFLOP dense, 2 kFLOP elementwise (counted: jaxpr)
      >>> counted.by_primitive
      {'dot_general': 200000, 'tanh': 2000}
    """
    if not callable(fn):
        raise TypeError(f"fn must be a function of arrays, got {fn!r}")
    jaxpr = _without_dead_code(_traced(fn, args, kwargs))
    dearest = traversal.tally(jaxpr, while_trips, traversal.dearest)
    by_primitive = Counter[str]()
    for (_, name), number in dearest.flops.items():
        by_primitive[name] += number
    ordered = sorted(by_primitive.items(), key=lambda item: (-item[1], item[0]))
    times = {1: ""}
    return Flops(
        *dearest.kinds(),
        by_primitive={name: number for name, number in ordered if number},
        unknown=tuple(what + times.get(n, f", {n} times") for what, n in dearest.unknown.items()),
        least=traversal.tally(jaxpr, while_trips, traversal.least).kinds(),
        most=traversal.tally(jaxpr, while_trips, traversal.most).kinds(),
    )


def _traced(fn: Callable[..., Any], args: Any, kwargs: Any) -> core.ClosedJaxpr:
    if isinstance(fn, jax.stages.Wrapped):  # knows which of its arguments are static
        traced = fn.trace(*args, **kwargs)
        return getattr(traced, "traced", traced).jaxpr  # flax's nnx.jit wraps what jax traced
    for path, leaf in jax.tree_util.tree_leaves_with_path((args, kwargs)):
        number = isinstance(leaf, (bool, int, float, complex, np.ndarray, np.generic))
        if not (number or (hasattr(leaf, "shape") and hasattr(leaf, "dtype"))):
            where = jax.tree_util.keystr(path[1:])
            raise TypeError(
                f"the arguments of fn must be arrays, numbers or ShapeDtypeStructs, got {leaf!r} "
                f"at {'args' if path[0].idx == 0 else 'kwargs'}{where}; close over it, or make "
                "it static in jax.jit"
            )
    return jax.make_jaxpr(fn)(*args, **kwargs)


def _without_dead_code(jaxpr: core.ClosedJaxpr) -> core.Jaxpr:
    live, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    return live
