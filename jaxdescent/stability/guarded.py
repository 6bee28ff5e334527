"""Long steps for an unknown smoothness: start from an estimate, and let gradients refute it.

With x, g the previous parameters and gradient, x', g' the present ones and L the estimate,

    |g' - g| <= L |x' - x|        holds for consecutive points of an L-smooth function.

The proofs for long steps use such inequalities at the visited points alone, so L need not be
more than the smoothness that the run meets. A pair of points that breaks this one refutes L:
go back to the point with the least gradient so far, take L to the double (or to what the pair
shows and a tenth, if that is more) and start the schedule again. No gradient is computed
twice. What is refuted is too low, up to rounding; what is not may still be, by pairs that are not
consecutive. From an estimate L there are at most ceil(log2(L* / L)) refutations, where L* is
the smoothness everywhere.

An estimate that is too high costs steps in proportion, and curvature often falls on the way
to a minimum. When the steps done are 63, 127, 255, ..., which is where silver steps keep their
promise, `state.due` says that it is a good time to measure it again.

Source: the steps are J. M. Altschuler's and P. A. Parrilo's (2023, arXiv:2309.16530); the
guard is ours, in the manner of backtracking (A. Beck, M. Teboulle 2009).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent.stability.silver import positive

FIRST_DUE = 63  # measuring again after fewer steps costs more than it gains


class GuardedState(NamedTuple):
    """State of `guarded`.

    Attributes:
      smoothness: L, f32[] or f64[]; may be replaced by a measured value at any
        time; while that is not positive, nothing moves.
      count: steps since the schedule started, i32[].
      refuted: how many estimates were refuted, i32[].
      grads: the previous gradient, as the parameters.
      moved: the norm of the previous step.
      best_params, best_grads: of the point with the least gradient.
      best_norm: that gradient's norm.
      greatest_norm: of all gradients; what their rounding is relative to.
    """

    smoothness: jax.Array
    count: jax.Array
    refuted: jax.Array
    grads: Any
    moved: jax.Array
    best_params: Any
    best_grads: Any
    best_norm: jax.Array
    greatest_norm: jax.Array

    @property
    def due(self) -> jax.Array:
        """Whether it is a good time to measure the smoothness again, bool[]."""
        return (self.count >= FIRST_DUE) & (self.count & (self.count + 1) == 0)


def guarded(
    schedule: optax.Schedule, smoothness: ArrayLike
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent by given steps, with an estimate of the smoothness that may be wrong.

    For the whole gradient of a convex function, and no horizon. It needs the parameters, and
    holds three more copies of them. A gradient that is not finite refutes the estimate, too;
    before there was a finite one, nothing moves.

    Args:
      schedule: the steps for a smoothness of 1, such as `silver(1.0)`.
      smoothness: the first estimate of L, above 0, such as the top eigenvalue of the Hessian at
        the start and a tenth more; a number, which may be traced.

    Returns:
      A transformation; its updates are steps, not to be scaled any more.

    Raises:
      TypeError: `schedule` is not callable, or `smoothness` not a number.
      ValueError: `smoothness` is not positive; from `init`, a leaf is not of floating point.

    Example:
      >>> import jaxdescent as jd
      >>> loss = lambda x: 50 * x[0] ** 2 + x[1] ** 2  # its smoothness is 100
      >>> tx = jd.step_sizes.guarded(jd.step_sizes.silver(1.0), smoothness=3.0)
      >>> @jax.jit
      ... def step(x, state):
      ...     updates, state = tx.update(jax.grad(loss)(x), state, x)
      ...     return optax.apply_updates(x, updates), state
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(200):
      ...     x, state = step(x, state)
      ...     if state.due:  # measure, here by hand
      ...         state = state._replace(smoothness=jnp.array(105.0))
      >>> bool(loss(x) < 1e-6), int(state.refuted)
      (True, 1)
    """
    if not callable(schedule):
        raise TypeError(f"schedule must be a function of the count, got {schedule!r}")
    positive("smoothness", smoothness)
    if jnp.ndim(smoothness):
        raise ValueError(f"smoothness must be a number, got shape {jnp.shape(smoothness)}")

    def init(params: Any) -> GuardedState:
        params = jax.tree.map(lambda x: x if hasattr(x, "dtype") else jnp.asarray(x), params)
        for leaf in jax.tree.leaves(params):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ValueError(f"params must be of floating point, got a leaf of {leaf.dtype}")
        dtype = jnp.result_type(float)
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)
        return GuardedState(
            smoothness=jnp.array(smoothness).astype(dtype, copy=True),
            count=jnp.zeros((), jnp.int32),
            refuted=jnp.zeros((), jnp.int32),
            grads=zeros(),
            moved=jnp.zeros((), dtype),
            best_params=zeros(),
            best_grads=zeros(),
            best_norm=jnp.full((), jnp.inf, dtype),
            greatest_norm=jnp.zeros((), dtype),
        )

    def update(updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, GuardedState]:
        if params is None:
            raise ValueError("guarded needs the parameters: update(updates, state, params)")
        grads = updates
        norm = _norm(grads)
        finite = jnp.isfinite(norm)
        curvature = _curvature(grads, params, state)
        fine = finite & ~(curvature > state.smoothness)
        greatest_norm = jnp.where(
            finite, jnp.maximum(norm, state.greatest_norm), state.greatest_norm
        )

        at_least = jnp.where(jnp.isfinite(curvature), curvature, 0)
        raised = jnp.maximum(2 * state.smoothness, 1.1 * at_least)
        better = fine & (norm < state.best_norm)
        best_params = _where(better, params, state.best_params)
        best_grads = _where(better, grads, state.best_grads)
        best_norm = jnp.where(better, norm, state.best_norm)

        known = jnp.isfinite(best_norm)  # there is a point to go back to
        L = jnp.where(fine | ~known, state.smoothness, raised)
        base = _where(fine, grads, best_grads)
        count = jnp.where(fine, state.count, 0)
        step = jnp.asarray(schedule(count)).astype(L.dtype) / L
        step = jnp.where(known & (L > 0), step, 0)

        def move(best: jax.Array, here: jax.Array, grad: jax.Array) -> jax.Array:
            back = jnp.where(fine | ~known, 0, best - here)
            return back - (step * grad.astype(step.dtype)).astype(grad.dtype)

        moves = jax.tree.map(move, best_params, params, base)
        return moves, GuardedState(
            smoothness=L,
            count=jnp.where(known, optax.safe_increment(count), 0),
            refuted=state.refuted + (known & ~fine).astype(jnp.int32),
            grads=base,
            moved=step * jnp.where(fine, norm, jnp.where(known, best_norm, 0)),
            best_params=best_params,
            best_grads=best_grads,
            best_norm=best_norm,
            greatest_norm=greatest_norm,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _curvature(grads: Any, params: Any, state: GuardedState) -> jax.Array:
    """What the last two points show of it, less what rounding may have added; 0 if there is one.

    Far from 0 it is the parameters that are rounded: they are not quite where they were sent,
    and a gradient differs by as much as L allows.
    """
    eps = max((float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(grads)), default=0.0)
    change = _norm(jax.tree.map(jnp.subtract, grads, state.grads))
    change = change - 16 * eps * (state.greatest_norm + state.smoothness * _norm(params))
    shown = change / jnp.where(state.moved > 0, state.moved, 1)
    return jnp.where(state.moved > 0, shown / (1 + 4 * eps**0.5), 0)


def _where(choice: jax.Array, first: Any, second: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(choice, a, b), first, second)


def _norm(tree: Any) -> jax.Array:
    """The Euclidean norm, in jax's default float; of large numbers, too, whose squares overflow."""
    dtype = jnp.result_type(float)
    leaves = [leaf.astype(dtype) for leaf in jax.tree.leaves(tree)]
    greatest = [jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves]
    size = functools.reduce(jnp.maximum, greatest, jnp.zeros((), dtype))
    scale = jnp.where(size > 0, size, 1)
    squares = [jnp.sum(jnp.square(leaf / scale)) for leaf in leaves]
    return size * jnp.sqrt(sum(squares, start=jnp.zeros((), dtype)))
