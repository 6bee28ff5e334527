"""Conditionals that skip work even under `vmap`, and that vanish where they would be slow.

Under `vmap`, `lax.cond` with a predicate for each agent becomes a select, and both branches run
for every agent in every step. In `unless` the expensive branch runs only if some agent needs it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap


def unless(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `choose(fine, value, *args)`: `value` where `fine`, else `compute(*args)`.

    Args:
      compute: a pure function of pytrees of arrays that returns a tree like `value`. Under
        `vmap` everything that depends on the agent must be an argument. Its result counts as
        constant in derivatives.

    Example:
      >>> choose = unless(jnp.sqrt)
      >>> jax.vmap(choose)(jnp.array([True, False]), jnp.array([5.0, 5.0]), jnp.array([4.0, 4.0]))
      Array([5., 2.], dtype=float32)
    """

    @custom_vmap
    def choose(fine: jax.Array, value: Any, *args: Any) -> Any:
        def mixed() -> Any:
            return jax.tree.map(lambda a, b: _select(fine, a, b), value, compute(*args))

        return jax.lax.cond(jnp.all(fine), lambda: value, mixed)

    @choose.def_vmap
    def batched(size: int, is_batched: Any, fine: Any, value: Any, *args: Any) -> Any:
        fine_batched, value_batched, *args_batched = is_batched
        axes = jax.tree.map(lambda batched: 0 if batched else None, tuple(args_batched))

        def widen(x: jax.Array, batched: bool) -> jax.Array:
            return x if batched else jnp.broadcast_to(x, (size, *x.shape))

        chosen = unless(jax.vmap(compute, in_axes=axes, axis_size=size))(
            widen(fine, fine_batched), jax.tree.map(widen, value, value_batched), *args
        )
        return chosen, jax.tree.map(lambda _: True, chosen)

    @jax.custom_jvp  # custom_vmap has no reverse mode
    def differentiable(fine: jax.Array, value: Any, *args: Any) -> Any:
        return choose(fine, value, *args)

    @differentiable.defjvp
    def jvp(primals: Any, tangents: Any) -> Any:
        fine, change = primals[0], tangents[1]

        def tangent(t: Any) -> Any:
            return t if t.dtype == jax.dtypes.float0 else _select(fine, t, jnp.zeros_like(t))

        return choose(*primals), jax.tree.map(tangent, change)

    return differentiable


def on_cpu() -> jax.Array:
    """Returns bool[], True if the program is compiled for a CPU; a constant for the compiler.

    For predicates: on a GPU a conditional makes the device wait for the host, but the compiler
    removes a conditional with a constant predicate.
    """

    def constant(value: bool) -> Callable[[], jax.Array]:
        return lambda: jnp.full((), value)

    return jax.lax.platform_dependent(cpu=constant(True), default=constant(False))


def computed_once(flag: jax.Array) -> jax.Array:
    """Returns a bool[] as it is; XLA's CPU backend will not compute it again in each of its uses.

    XLA copies cheap computations of numbers into every loop over an array that uses them. For a
    flag that selects every array of a state, the program would grow by the whole computation of the
    flag for each array. XLA does not copy a sort.
    """

    def sort(flag: jax.Array) -> jax.Array:
        return jnp.sort(jnp.stack([flag, flag]))[0]

    return jax.lax.platform_dependent(flag, cpu=sort, default=lambda flag: flag)


def either(flag: jax.Array, first: Callable[[], Any], second: Callable[[], Any]) -> Any:
    """Returns `first()` if the flag is True, else `second()`; both return trees of the same arrays.

    On a CPU it is a conditional. If one function returns an array that exists, and the other one
    replaces it, the array is updated in place. On other platforms both are computed and selected.
    """

    def branches(flag: jax.Array) -> Any:
        return jax.lax.cond(flag, first, second)

    def selection(flag: jax.Array) -> Any:
        return jax.tree.map(partial(jnp.where, flag), first(), second())

    return jax.lax.platform_dependent(flag, cpu=branches, default=selection)


def _select(fine: jax.Array, value: jax.Array, other: jax.Array) -> jax.Array:
    trailing = (1,) * (value.ndim - fine.ndim)
    return jnp.where(fine.reshape(fine.shape + trailing), value, other)
