"""FLOPs of a function, counted from its jaxpr.

XLA's cost analysis counts the body of a loop only once, so FLOPs are counted here from the traced
program, before compilation. `traversal` determines how often an operation runs, and `primitives`
its cost.

Operations that no output depends on are excluded, as compilers remove them. Rematerialized
operations count each time they run.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jaxdescent import jax_internals as core
from jaxdescent.footprint.flop_counting import traversal
from jaxdescent.footprint.flop_counting.traversal import FlopsByKind
from jaxdescent.footprint.quantities import Quantity

_CONVENTION = "a multiply-add is 2 FLOPs; only matrix products and convolutions are dense"
_ELEMENTWISE = "an elementwise output is 1 FLOP, and so is an element that is reduced"
_LEADING_ORDER = (
    "half to twice the estimated part: linear algebra, sorts and FFTs by leading-order formulas, "
    "Pallas kernels by their declared cost"
)


class Flops(NamedTuple):
    """FLOPs of one call of a function.

    Attributes:
      dense: FLOPs of matrix products and convolutions, exact; the rule of 6N counts these.
      elementwise: one for each output of an elementwise operation, and for each reduced element.
      estimated: FLOPs of linear algebra, sorts and FFTs by leading-order formulas, and of Pallas
        kernels by their declared cost.
      by_primitive: FLOPs by the primitive's name, in descending order.
      unknown: descriptions of operations that could not be counted. The numbers exclude them.
      least: the first three fields, if every `cond` takes the cheapest branch for each field.
      most: the first three fields, if every `cond` takes the most expensive branch for each.
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
        """The sum of dense, elementwise and estimated FLOPs."""
        return self.dense + self.elementwise + self.estimated

    def quantity(self, kind: Literal["total", "dense"] = "total") -> Quantity:
        """Returns the count as a quantity in FLOP.

        The interval contains every branch of each `cond`, and half to twice the estimated part.
        Its upper end is infinite if an operation is unknown.

        Args:
          kind: "total", or "dense" for matrix products and convolutions only.

        Raises:
          ValueError: `kind` is not one of these.

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
        constants += [f"not counted: {description}" for description in self.unknown]
        if self.unknown:
            high = math.inf
        return Quantity(float(value), float(low), float(high), "FLOP", how, tuple(constants))

    def __str__(self) -> str:
        counts = [
            f"{Quantity.exact(number, 'FLOP', 'counted: jaxpr').formatted()} {kind}"
            for kind, number in zip(FlopsByKind._fields, self[:3], strict=True)
            if number or kind == "dense"
        ]
        lines = [f"{', '.join(counts)} (counted: jaxpr)"]
        return "\n".join([*lines, *(f"not counted: {text}" for text in self.unknown)])


def flops(
    fn: Callable[..., Any],
    /,
    *args: Any,
    while_trips: int | Sequence[int] | None = None,
    **kwargs: Any,
) -> Flops:
    """Counts the FLOPs of one call of a function by tracing it; the function does not run.

    Args:
      fn: a function of arrays, which may be compiled by `jax.jit`. Static arguments must be
        declared to `jax.jit`, or closed over.
      *args: arguments of `fn`: arrays, numbers, or `jax.ShapeDtypeStruct`s.
      while_trips: the number of iterations of each `while_loop`: one number for all loops, or one
        per loop in program order (outer before inner, including the loops in all branches of a
        `cond`). By default, while loops are listed as unknown. A `fori_loop` whose bounds are
        Python numbers is a scan and needs no number.
      **kwargs: keyword arguments of `fn`.

    Returns:
      The counts, as exact Python integers.

    Raises:
      TypeError: `fn` is not callable, an argument is not an array, or `while_trips` is not an
        integer or a sequence of integers.
      ValueError: `while_trips` is negative, or its length is not the number of loops.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> def layer(x, w):
      ...     return jnp.tanh(x @ w)
      >>> counted = flops(layer, jnp.ones((100, 50)), jnp.ones((50, 20)))
      >>> print(counted)
      200 kFLOP dense, 2 kFLOP elementwise (counted: jaxpr)
      >>> counted.by_primitive
      {'dot_general': 200000, 'tanh': 2000}
    """
    if not callable(fn):
        raise TypeError(f"fn must be a function of arrays, got {fn!r}")
    jaxpr = core.without_dead_code(_traced(fn, args, kwargs))
    total = traversal.tally(jaxpr, while_trips, traversal.most_expensive)
    by_primitive = Counter[str]()
    for (_, name), number in total.flops.items():
        by_primitive[name] += number
    ordered = sorted(by_primitive.items(), key=lambda item: (-item[1], item[0]))
    repeats = {1: ""}
    return Flops(
        *total.by_kind(),
        by_primitive={name: number for name, number in ordered if number},
        unknown=tuple(text + repeats.get(n, f", {n} times") for text, n in total.unknown.items()),
        least=traversal.tally(jaxpr, while_trips, traversal.least).by_kind(),
        most=traversal.tally(jaxpr, while_trips, traversal.most).by_kind(),
    )


def _traced(fn: Callable[..., Any], args: Any, kwargs: Any) -> core.ClosedJaxpr:
    if isinstance(fn, jax.stages.Wrapped):  # its static arguments are declared
        traced = fn.trace(*args, **kwargs)
        return getattr(traced, "traced", traced).jaxpr  # flax's nnx.jit wraps JAX's result
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
