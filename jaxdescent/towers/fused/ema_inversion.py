"""Rewinding a moment: its value before the last update from its value after it.

A moving average is affine in its last value, with one number for all coordinates as slope:

    s_t = a s_{t-1} + b_t(g_{t-1})      so      s_{t-1} = (s_t - b_t) / a.

It is needed for how s_t moves with a. Rounding in s_t is divided by a. In the derivative by
a's logarithm or logit s_{t-1} is used times a, so that this is no more than rounding again; in
the derivative by a itself it would be more (see `fused`, which refuses that). Where a is so
small that nothing of s_{t-1} is left, it counts as zero.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxdescent.towers.fused.elementwise import Leaf, NotElementwiseError


class Rewind(NamedTuple):
    """How a leaf of the state is rewound.

    Attributes:
      leaf: its update, in which itself is the first array.
      before: which of the update's inputs that is.
      after: which of the update's inputs holds its value after the update.
      factors: which numbers the slope a is a product of.
    """

    leaf: Leaf
    before: int
    after: int
    factors: tuple[int, ...]

    def inverse_slope(self, numbers: Sequence[jax.Array]) -> jax.Array:
        """The number 1 / a."""
        zero = jnp.zeros((), self.leaf.dtype)
        given = [numbers[i] for i in self.leaf.numbers]
        others = [zero] * (len(self.leaf.arrays) - 1)
        of_itself = lambda s: self.leaf.update(given, [s, *others], ())
        _, slope = jax.jvp(of_itself, (zero,), (jnp.ones_like(zero),))
        lost = jnp.abs(slope) < jnp.finfo(slope.dtype).eps
        return jnp.where(lost, 0, 1 / slope)

    def rewound(
        self, numbers: Sequence[jax.Array], inverse_slope: Any, arrays: Mapping[int, Any]
    ) -> jax.Array:
        """The value before the update at some coordinates, from the others of its arrays."""
        after = arrays[self.after]
        others = [arrays[i] for i in self.leaf.arrays[1:]]
        added = self.leaf.update(
            [numbers[i] for i in self.leaf.numbers],
            [jnp.zeros_like(after), *others],
            after.shape,
        )
        return (after - added) * inverse_slope


def rewind(leaf: Leaf, itself: int, after: int) -> Rewind:
    """How to rewind a leaf of the state.

    Args:
      leaf: its update.
      itself: which of the update's inputs it is.
      after: which of them holds it after the update.

    Raises:
      NotElementwiseError: its update is not affine in itself.
    """
    if itself not in leaf.arrays:
        raise NotElementwiseError("a state that forgets what it was")
    count = len(leaf.numbers)
    own = leaf.arrays.index(itself)
    numbers, arrays = leaf.program.invars[:count], list(leaf.program.invars[count:])
    factors = _factors(leaf.program, arrays[own])
    arrays.insert(0, arrays.pop(own))
    places = (itself, *(i for i in leaf.arrays if i != itself))
    program = leaf.program.replace(invars=[*numbers, *arrays])
    entering = dict(zip(numbers, leaf.numbers, strict=True))
    if any(v not in entering for v in factors):
        raise NotElementwiseError("a slope that is made on the way")
    found = tuple(entering[v] for v in factors)
    return Rewind(leaf._replace(program=program, arrays=places), itself, after, found)


def _factors(program: Any, source: core.Var) -> list[core.Var]:
    """The numbers whose product is the slope of a program in `source`.

    Raises:
      NotElementwiseError: the slope is no product of numbers.
    """
    reached, factors = {source}, []
    for eqn in program.eqns:
        moving = [atom for atom in eqn.invars if isinstance(atom, core.Var) and atom in reached]
        if not moving:
            continue
        name = eqn.primitive.name
        rest = [atom for atom in eqn.invars if atom not in moving]
        scales = len(moving) == 1 and all(not atom.aval.shape for atom in rest)
        affine = (
            (name in ("add", "sub", "neg") and len(moving) == 1)
            or (name == "mul" and scales)
            or (name == "div" and scales and eqn.invars[0] is moving[0])
            or (name == "integer_pow" and eqn.params["y"] == 1)
        )
        if not affine:
            raise NotElementwiseError(f"{name} of a state")
        if name in ("mul", "div"):
            factors += [atom for atom in rest if isinstance(atom, core.Var)]
        reached.update(eqn.outvars)
    if program.outvars[0] not in reached:
        raise NotElementwiseError("a state that forgets what it was")
    return factors
