"""Traversal of a jaxpr, which counts each operation as often as it runs.

scan          the body times the length
cond          the most expensive branch; for the interval, the least and the most of any branch
while         unknown, unless the caller gives the number of iterations
shard_map     the body times the number of devices
calls         the called jaxpr: jit, remat, custom_jvp, custom_vjp, linear solves
"""

import dataclasses
import functools
import math
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdescent import jax_internals as core
from jaxdescent.footprint.flop_counting import primitives
from jaxdescent.footprint.quantities import Quantity


class FlopsByKind(NamedTuple):
    """FLOPs by kind.

    Attributes:
      dense: FLOPs of matrix products and convolutions, exact.
      elementwise: one for each output of an elementwise operation, and for each reduced element.
      estimated: FLOPs by leading-order formulas or by a declared cost.
    """

    dense: int
    elementwise: int
    estimated: int


@dataclasses.dataclass(frozen=True)
class Tally:
    """FLOPs by kind and primitive, and the number of occurrences of each unknown operation."""

    flops: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    unknown: Counter[str] = dataclasses.field(default_factory=Counter)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.flops + other.flops, self.unknown + other.unknown)

    def times(self, factor: int) -> "Tally":
        """Multiplies all counts by a factor."""
        scaled = ({k: n * factor for k, n in part.items()} for part in (self.flops, self.unknown))
        return Tally(*map(Counter, scaled))

    def by_kind(self) -> FlopsByKind:
        """Returns the FLOPs of each kind, summed over primitives."""
        totals = dict.fromkeys(FlopsByKind._fields, 0)
        for (kind, _), number in self.flops.items():
            totals[kind] += number
        return FlopsByKind(**totals)


def most_expensive(branches: list[Tally]) -> Tally:
    """Returns the branch with the most FLOPs, with the unknown operations of all branches."""
    chosen = max(branches, key=lambda branch: sum(branch.by_kind()))
    unknown = functools.reduce(operator.or_, (branch.unknown for branch in branches))
    return Tally(chosen.flops, unknown)


def least(branches: list[Tally]) -> Tally:
    """Returns the smallest count of each kind in any branch."""
    return _reduce_kinds(min, branches)


def most(branches: list[Tally]) -> Tally:
    """Returns the largest count of each kind in any branch."""
    return _reduce_kinds(max, branches)


def _reduce_kinds(choose: Callable[..., int], branches: list[Tally]) -> Tally:
    columns = zip(*(branch.by_kind() for branch in branches), strict=True)
    chosen = zip(FlopsByKind._fields, map(choose, columns), strict=True)
    return Tally(Counter({(kind, "cond"): number for kind, number in chosen}))


# Primitives that run an inner jaxpr once. It is held by one of the parameters _INNER.
_CALLS = """
    call closed_call composite custom_jvp_call custom_partitioning custom_vjp_call
    custom_vmap_call eval_jaxpr jit linear_call remat2 run_state
"""
_INNER = ("jaxpr", "call_jaxpr", "callee", "call")


def tally(
    jaxpr: core.Jaxpr,
    while_trips: int | Sequence[int] | None,
    choose: Callable[[list[Tally]], Tally],
) -> Tally:
    """Counts a jaxpr and its inner jaxprs.

    Args:
      jaxpr: the program.
      while_trips: the number of iterations of every `while`, or of each in program order.
      choose: selects among the branches of a `cond`.

    Raises:
      TypeError: `while_trips` is not an integer or a sequence of integers.
      ValueError: a number is negative, or the length is not the number of loops.
    """
    trips = _trips(while_trips)
    counted = _Walk(trips, choose).jaxpr(jaxpr)
    if trips.each is not None and trips.num_loops != len(trips.each):
        raise ValueError(
            f"while_trips must have a number for each of the {trips.num_loops} while loops, got "
            f"{while_trips!r}"
        )
    return counted


@dataclasses.dataclass
class _Trips:
    """Returns the number of iterations of each `while`, in program order."""

    default: int | None
    each: tuple[int, ...] | None
    num_loops: int = 0

    def next(self) -> int | None:
        self.num_loops += 1
        if self.each is None:
            return self.default
        return self.each[self.num_loops - 1] if self.num_loops <= len(self.each) else 0


def _trips(given: Any) -> _Trips:
    if given is None:
        return _Trips(None, None)
    if _is_integer(given):
        return _Trips(_not_negative(given), None)
    if not isinstance(given, (list, tuple)) or not all(map(_is_integer, given)):
        raise TypeError(f"while_trips must be an integer or a sequence of integers, got {given!r}")
    return _Trips(None, tuple(map(_not_negative, given)))


def _is_integer(given: Any) -> bool:
    return isinstance(given, (int, np.integer)) and not isinstance(given, bool)


def _not_negative(given: Any) -> int:
    if given < 0:
        raise ValueError(f"while_trips must be at least 0, got {given!r}")
    return int(given)


class _Walk(NamedTuple):
    """Counts a jaxpr and its inner jaxprs."""

    trips: _Trips
    choose: Callable[[list[Tally]], Tally]

    def jaxpr(self, jaxpr: Any) -> Tally:
        equations = getattr(jaxpr, "jaxpr", jaxpr).eqns  # closed or not
        return sum(map(self.equation, equations), start=Tally())

    def equation(self, eqn: core.JaxprEqn) -> Tally:
        name = eqn.primitive.name
        if name in _CALLS.split():
            return self.jaxpr(next(eqn.params[key] for key in _INNER if key in eqn.params))
        if name in _CONTROL:
            return _CONTROL[name](self, eqn)
        cost = primitives.cost(eqn)
        if cost is None:
            return Tally(unknown=Counter([_label(eqn)]))
        return Tally(Counter({(cost.kind, name): cost.flops}))

    def scan(self, eqn: core.JaxprEqn) -> Tally:
        return self.jaxpr(eqn.params["jaxpr"]).times(eqn.params["length"])

    def cond(self, eqn: core.JaxprEqn) -> Tally:
        return self.choose([self.jaxpr(branch) for branch in eqn.params["branches"]])

    def while_loop(self, eqn: core.JaxprEqn) -> Tally:
        trips = self.trips.next()
        test, body = (self.jaxpr(eqn.params[key]) for key in ("cond_jaxpr", "body_jaxpr"))
        if trips is not None:
            return test.times(trips + 1) + body.times(trips)
        trip = test + body
        if not sum(trip.by_kind()):  # the number of iterations does not matter
            return Tally(unknown=trip.unknown)
        cost = Quantity.exact(sum(trip.by_kind()), "FLOP", "counted: jaxpr").formatted()
        loop = Counter([f"a while loop with an unknown number of iterations, {cost} each"])
        return Tally(unknown=loop + trip.unknown)

    def shard_map(self, eqn: core.JaxprEqn) -> Tally:
        sizes = eqn.params["mesh"].shape
        devices = math.prod(sizes[axis] for axis in eqn.params["newly_manual_axes"])
        return self.jaxpr(eqn.params["jaxpr"]).times(devices)

    def linear_solve(self, eqn: core.JaxprEqn) -> Tally:
        return self.jaxpr(eqn.params["jaxprs"].solve)


_CONTROL = {
    "cond": _Walk.cond,
    "custom_linear_solve": _Walk.linear_solve,
    "scan": _Walk.scan,
    "shard_map": _Walk.shard_map,
    "while": _Walk.while_loop,
}


def _label(eqn: core.JaxprEqn) -> str:
    """Returns a name for an unknown equation."""
    name = eqn.params.get("target_name") or eqn.params.get("name")
    return f"{eqn.primitive.name} {name}" if isinstance(name, str) else eqn.primitive.name
