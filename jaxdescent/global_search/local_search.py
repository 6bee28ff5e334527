"""L-BFGS within bounds, as a state machine that needs one value and one gradient per step.

    d  = -H g on the free coordinates,     H from the last differences s, y of points and gradients
    x' = clip(x + t d),    accepted if f(x') <= f(x) + 1e-4 <g, x' - x>;  otherwise t shrinks

A coordinate is free unless it is at a bound and descent would leave the box. Each step evaluates
one trial point, so that many searches run side by side under `jax.vmap` without waiting for each
other's line searches, and every evaluation is counted. `optax.lbfgs` has neither bounds nor a line
search whose evaluations can be counted.

Sources: J. Nocedal, 1980, Math. Comp. 35 (L-BFGS); D. Bertsekas, 1982, SIAM J. Control Optim. 20
(projected Newton methods: quasi-Newton steps on the free coordinates).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.numerics import norm

MEMORY = 8
"""Number of differences that approximate the Hessian."""

LONGEST = 0.3
"""Longest step, as root mean square over coordinates, in widths of the box. Outside of the box it
grows with the distance from the center."""

_DECREASE = 1e-4  # part of the predicted decrease that a step must reach (Armijo's condition)
_STALLED = 2  # successive small decreases that end a search


class LocalSearch(NamedTuple):
    """State of one search; coordinates are in widths of the box.

    Attributes:
      point: f[n], the last accepted point.
      value: f[], the value there; inf before the first evaluation.
      unit: f[], the largest slope at the start, by which gradients are divided so that their
        products neither overflow nor underflow.
      grad: f[n], the gradient at `point`, in that unit.
      trial: f[n], the point whose value and gradient `advance` is given next.
      direction: f[n].
      step: f[], the trial is at `point + step * direction`, clipped to the bounds.
      differences: f[MEMORY, n], of accepted points, the newest first.
      grad_differences: f[MEMORY, n], of their gradients.
      inverse_curvatures: f[MEMORY], 1 / <difference, gradient difference>.
      stored: i32[], number of differences so far, at most MEMORY.
      small_decreases: i32[], number of successive accepted steps with a small decrease.
      evaluations: i32[].
      done: bool[].
    """

    point: jax.Array
    value: jax.Array
    unit: jax.Array
    grad: jax.Array
    trial: jax.Array
    direction: jax.Array
    step: jax.Array
    differences: jax.Array
    grad_differences: jax.Array
    inverse_curvatures: jax.Array
    stored: jax.Array
    small_decreases: jax.Array
    evaluations: jax.Array
    done: jax.Array


def begin(start: jax.Array) -> LocalSearch:
    """Returns the state of a search that has not evaluated its start, f[n], yet."""
    zeros = jnp.zeros_like(start)
    memory = jnp.zeros((MEMORY, start.size), start.dtype)
    return LocalSearch(
        point=start,
        value=jnp.asarray(jnp.inf, start.dtype),
        unit=jnp.ones((), start.dtype),
        grad=zeros,
        trial=start,
        direction=zeros,
        step=jnp.ones((), start.dtype),
        differences=memory,
        grad_differences=memory,
        inverse_curvatures=jnp.zeros(MEMORY, start.dtype),
        stored=jnp.int32(0),
        small_decreases=jnp.int32(0),
        evaluations=jnp.int32(0),
        done=jnp.zeros((), bool),
    )


def advance(
    search: LocalSearch,
    value: jax.Array,
    grad: jax.Array,
    *,
    lower: jax.Array,
    upper: jax.Array,
    first_step: jax.Array,
    tolerance: jax.Array,
    target: jax.Array,
    max_evaluations: jax.Array,
) -> LocalSearch:
    """Returns the search after the evaluation of its trial point.

    A search ends where the projected gradient is 0, where the trial equals the point within
    rounding, after two successive decreases of at most `tolerance`, at a value of at most
    `target`, after `max_evaluations`, and at a start whose value or gradient is not finite. With a
    tolerance of 0, steps that decrease the gradient go on where rounding hides their decrease of
    the value.

    Args:
      search: one search.
      value: f[], the value at `search.trial`.
      grad: f[n], the gradient there.
      lower: f[n], bounds; they may be infinite.
      upper: f[n].
      first_step: f[], length of the first step, like `LONGEST`.
      tolerance: f[], at least 0.
      target: f[].
      max_evaluations: i32[], at least 1.
    """
    eps = jnp.finfo(search.point.dtype).eps
    tiny = jnp.finfo(search.point.dtype).tiny
    difference = search.trial - search.point
    is_first = search.evaluations == 0
    is_finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(grad))
    steepest = jnp.max(jnp.abs(grad))
    unit = jnp.where(is_first & is_finite & (steepest > 0), steepest, search.unit)
    grad = grad / unit
    change = (value - search.value) / unit
    slope = jnp.vdot(search.grad, difference)
    # Where rounding hides a decrease of the value, the gradient decides.
    hidden = jnp.abs(value - search.value) <= 8 * eps * jnp.abs(search.value)
    hidden &= jnp.vdot(grad, grad) < jnp.vdot(search.grad, search.grad)
    decreased = change <= _DECREASE * slope
    accepted = (is_first | decreased | hidden) & is_finite

    grad_difference = grad - search.grad
    curvature = jnp.vdot(difference, grad_difference)
    sizes = jnp.vdot(difference, difference) * jnp.vdot(grad_difference, grad_difference)
    stores = accepted & ~is_first & (curvature > 1e-12 * jnp.sqrt(sizes))

    def push(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(stores, jnp.concatenate([new[None], old[:-1]]), old)

    differences = push(difference, search.differences)
    grad_differences = push(grad_difference, search.grad_differences)
    inverse_curvatures = push(1 / jnp.where(stores, curvature, 1), search.inverse_curvatures)
    stored = jnp.where(stores, jnp.minimum(search.stored + 1, MEMORY), search.stored)

    small = search.value - value <= tolerance
    small &= ~(hidden & (tolerance == 0))
    small_decreases = jnp.where(
        accepted,
        jnp.where(~is_first & small, search.small_decreases + 1, 0),
        search.small_decreases,
    )
    point = jnp.where(accepted, search.trial, search.point)
    point_grad = jnp.where(accepted, grad, search.grad)
    is_free = ~(((point <= lower) & (point_grad > 0)) | ((point >= upper) & (point_grad < 0)))
    free_grad = jnp.where(is_free, point_grad, 0)

    newton = -_inverse_hessian_times(
        free_grad, is_free, differences, grad_differences, inverse_curvatures, stored
    )
    descends = (jnp.vdot(newton, free_grad) < 0) & (stored > 0)
    direction = jnp.where(descends, newton, -free_grad)
    length = jnp.maximum(_root_mean_square(direction), tiny)
    longest = LONGEST * jnp.maximum(1, 2 * _root_mean_square(point - 0.5))
    # Without positive curvature so far, steps become longer.
    steepest_step = jnp.where(is_first, first_step, 2 * _root_mean_square(difference))
    longest_descent = jnp.where(descends, length, steepest_step)
    first = jnp.minimum(longest_descent, longest) / length
    # The minimizer of the parabola through both values and the slope.
    shrunk = -slope / (2 * (change - slope) + tiny)
    shrunk = jnp.where(is_finite, jnp.clip(shrunk, 0.1, 0.5), 0.1)
    direction = jnp.where(accepted, direction, search.direction)
    step = jnp.where(accepted, first, search.step * shrunk).astype(search.step.dtype)
    trial = jnp.clip(point + step * direction, lower, upper)

    evaluations = search.evaluations + 1
    done = jnp.all(free_grad == 0) | (jnp.max(jnp.abs(trial - point)) <= 4 * eps)
    done |= (small_decreases >= _STALLED) | (evaluations >= max_evaluations)
    done |= accepted & (value <= target)
    return LocalSearch(
        point=point,
        value=jnp.where(accepted, value, search.value),
        unit=unit,
        grad=point_grad,
        trial=trial,
        direction=direction,
        step=step,
        differences=differences,
        grad_differences=grad_differences,
        inverse_curvatures=inverse_curvatures,
        stored=stored,
        small_decreases=small_decreases,
        evaluations=evaluations,
        done=done | (is_first & ~is_finite),
    )


def descend(
    value_and_grad: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    starts: jax.Array,
    is_used: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    *,
    first_step: jax.Array,
    tolerance: jax.Array,
    target: jax.Array,
    max_evaluations: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Runs searches from several starts side by side.

    Args:
      value_and_grad: Called with f[n]; returns f[] and f[n].
      starts: f[searches, n], within the bounds.
      is_used: bool[searches], False for searches that do not begin.
      lower: see `advance`, as the arguments below.
      upper: f[n].
      first_step: f[].
      tolerance: f[].
      target: f[].
      max_evaluations: i32[].

    Returns:
      The last accepted points f[searches, n], their values f[searches], inf where even the start's
      value or gradient is not finite, the numbers of evaluations i32[searches], and i32[], the
      number of values that are computed, including searches that have ended.
    """

    def advance_one(search: LocalSearch) -> LocalSearch:
        value, grad = value_and_grad(search.trial)
        new = advance(
            search,
            value,
            grad,
            lower=lower,
            upper=upper,
            first_step=first_step,
            tolerance=tolerance,
            target=target,
            max_evaluations=max_evaluations,
        )
        return jax.tree.map(lambda new, old: jnp.where(search.done, old, new), new, search)

    def has_unfinished(carry: tuple[LocalSearch, jax.Array]) -> jax.Array:
        return ~jnp.all(carry[0].done)

    def advance_all(carry: tuple[LocalSearch, jax.Array]) -> tuple[LocalSearch, jax.Array]:
        searches, computed = carry
        return jax.vmap(advance_one)(searches), computed + len(starts)

    searches = jax.vmap(begin)(starts)._replace(done=~is_used)
    searches, computed = jax.lax.while_loop(has_unfinished, advance_all, (searches, jnp.int32(0)))
    return searches.point, searches.value, searches.evaluations, computed


def _root_mean_square(x: jax.Array) -> jax.Array:
    return norm(x) / x.size**0.5


def _inverse_hessian_times(
    grad: jax.Array,
    is_free: jax.Array,
    differences: jax.Array,
    grad_differences: jax.Array,
    inverse_curvatures: jax.Array,
    stored: jax.Array,
) -> jax.Array:
    """Returns H grad on the free coordinates, by Nocedal's two loops."""
    free = is_free.astype(grad.dtype)
    is_stored = jnp.arange(MEMORY) < stored
    pairs = (differences * free, grad_differences * free, inverse_curvatures, is_stored)

    def forward(q: jax.Array, pair: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        s, y, inverse_curvature, used = pair
        a = jnp.where(used, inverse_curvature * jnp.vdot(s, q), 0)
        return q - a * y, a

    def backward(r: jax.Array, pair: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        s, y, inverse_curvature, used, a = pair
        b = jnp.where(used, inverse_curvature * jnp.vdot(y, r), 0)
        return r + (a - b) * s, None

    q, a = jax.lax.scan(forward, grad * free, pairs)
    newest = grad_differences[0]
    squares = jnp.vdot(newest, newest) * inverse_curvatures[0]
    scale = jnp.where(stored > 0, 1 / jnp.where(squares > 0, squares, 1), 1)
    r, _ = jax.lax.scan(backward, q * scale, (*pairs, a), reverse=True)
    return r
