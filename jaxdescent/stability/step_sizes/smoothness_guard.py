"""Long steps for an unknown smoothness: an estimate that gradients can contradict.

With the previous and current parameters x, x', their gradients g, g' and an estimate L,

    |g' - g| <= L |x' - x|        holds for consecutive points of an L-smooth function.

The proofs for long steps use such inequalities only at visited points, so an estimate only needs to
be as large as the smoothness along the run. A pair of points that violates the inequality refutes
the estimate: it is too low, up to rounding. Then the run returns to the point with the smallest
gradient so far, L is doubled (or set to 1.1 times the curvature that the pair shows, if that is
larger) and the schedule restarts. No gradient is computed twice. An estimate that is not refuted
may still be too low for pairs of points that are not consecutive. An initial estimate L is refuted
at most ceil(log2(L* / L)) times, where L* is the global smoothness.

If the estimate is too high by some factor, the run takes longer by about this factor, and the
curvature often decreases on the way to a minimum. After 63, 127, 255, ... steps, where silver steps
have their guarantee, `state.due` is True: it is a good time to measure the smoothness again.

Source: the steps are from J. M. Altschuler and P. A. Parrilo (2023, arXiv:2309.16530); the guard
is ours, similar to backtracking (A. Beck, M. Teboulle 2009).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import containers, validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.numerics import tree_norm

FIRST_DUE = 63  # measuring after fewer steps costs more than it gains


class GuardedState(NamedTuple):
    """State of `guarded`.

    Attributes:
      smoothness: L, f32[] or f64[]. You may replace it by a measured value at any time; if that
        is not positive, updates are zero.
      count: i32[], number of steps since the schedule (re)started.
      refuted: i32[], number of refuted estimates.
      grads: the previous gradient, like the parameters.
      moved: norm of the previous step.
      best_params, best_grads: the point with the smallest gradient, and that gradient.
      best_norm: norm of that gradient.
      max_norm: largest norm of all gradients, the scale of their rounding errors.
    """

    smoothness: jax.Array
    count: jax.Array
    refuted: jax.Array
    grads: Any
    moved: jax.Array
    best_params: Any
    best_grads: Any
    best_norm: jax.Array
    max_norm: jax.Array

    @property
    def due(self) -> jax.Array:
        """True if now is a good time to measure the smoothness again, bool[]."""
        count = containers.unboxed(self.count)  # as nnx.Optimizer holds it
        return (count >= FIRST_DUE) & (count & (count + 1) == 0)


def guarded(
    schedule: optax.Schedule, smoothness: ArrayLike
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent with scheduled steps and an estimated smoothness that may be too low.

    For the full gradient of a convex function, without a horizon. The state holds three copies of
    the parameters. A non-finite gradient refutes the estimate too. Updates are zero until the first
    finite gradient.

    Args:
      schedule: steps for a smoothness of 1, such as `silver(1.0)`.
      smoothness: the first estimate of L, above 0, such as 1.1 times the top eigenvalue of the
        Hessian at the start; a number, which may be traced.

    Returns:
      A transformation that needs the parameters. Its updates are complete steps: do not scale
      them.

    Raises:
      TypeError: `schedule` is not callable, or `smoothness` is not a number.
      ValueError: `smoothness` is not positive; from `init`, a leaf is not floating-point.

    Example:
      >>> import jaxdescent as jd
      >>> def loss(x):  # with a smoothness of 100
      ...     return 50 * x[0] ** 2 + x[1] ** 2
      >>> tx = jd.step_sizes.guarded(jd.step_sizes.silver(1.0), smoothness=3.0)
      >>> @jax.jit
      ... def step(x, state):
      ...     updates, state = tx.update(jax.grad(loss)(x), state, x)
      ...     return optax.apply_updates(x, updates), state
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(200):
      ...     x, state = step(x, state)
      ...     if state.due:  # set a measured value
      ...         state = state._replace(smoothness=jnp.array(105.0))
      >>> bool(loss(x) < 1e-6), int(state.refuted)
      (True, 1)
    """
    if not callable(schedule):
        raise TypeError(f"schedule must be a function of the step count, got {schedule!r}")
    validation.positive("smoothness", smoothness)
    if jnp.ndim(smoothness):
        raise ValueError(f"smoothness must be a number, got shape {jnp.shape(smoothness)}")

    def init(params: Any) -> GuardedState:
        validation.check_arrays("params", params)
        params = jax.tree.map(lambda x: x if hasattr(x, "dtype") else jnp.asarray(x), params)
        validation.check_floating("params", params)
        dtype = jnp.result_type(float)

        def zeros() -> Any:
            return jax.tree.map(jnp.zeros_like, params)

        return GuardedState(
            smoothness=jnp.array(smoothness).astype(dtype, copy=True),
            count=jnp.zeros((), jnp.int32),
            refuted=jnp.zeros((), jnp.int32),
            grads=zeros(),
            moved=jnp.zeros((), dtype),
            best_params=zeros(),
            best_grads=zeros(),
            best_norm=jnp.full((), jnp.inf, dtype),
            max_norm=jnp.zeros((), dtype),
        )

    @compile_eager_calls
    def update(updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, GuardedState]:
        if params is None:
            raise ValueError("params must be given: update(updates, state, params)")
        params, grads = containers.params_like(params, updates), updates
        norm = _norm(grads)
        finite = jnp.isfinite(norm)
        curvature = _curvature(grads, params, state)
        accepted = finite & ~(curvature > state.smoothness)
        max_norm = jnp.where(finite, jnp.maximum(norm, state.max_norm), state.max_norm)

        measured = jnp.where(jnp.isfinite(curvature), curvature, 0)
        raised = jnp.maximum(2 * state.smoothness, 1.1 * measured)
        better = accepted & (norm < state.best_norm)
        best_params = optax.tree.where(better, params, state.best_params)
        best_grads = optax.tree.where(better, grads, state.best_grads)
        best_norm = jnp.where(better, norm, state.best_norm)

        has_best = jnp.isfinite(best_norm)
        L = jnp.where(accepted | ~has_best, state.smoothness, raised)
        base = optax.tree.where(accepted, grads, best_grads)
        count = jnp.where(accepted, state.count, 0)
        step = jnp.asarray(schedule(count)).astype(L.dtype) / L
        step = jnp.where(has_best & (L > 0), step, 0)

        def move(best: jax.Array, current: jax.Array, grad: jax.Array) -> jax.Array:
            back = jnp.where(accepted | ~has_best, 0, best - current)
            return back - (step * grad.astype(step.dtype)).astype(grad.dtype)

        moves = jax.tree.map(move, best_params, params, base)
        return moves, GuardedState(
            smoothness=L,
            count=jnp.where(has_best, optax.safe_increment(count), 0),
            refuted=state.refuted + (has_best & ~accepted).astype(jnp.int32),
            grads=base,
            moved=step * jnp.where(accepted, norm, jnp.where(has_best, best_norm, 0)),
            best_params=best_params,
            best_grads=best_grads,
            best_norm=best_norm,
            max_norm=max_norm,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _curvature(grads: Any, params: Any, state: GuardedState) -> jax.Array:
    """Returns a lower bound of the curvature from the last two points; 0 before there are two.

    Possible rounding errors are subtracted, both of the gradients and of the parameters. The
    latter change a gradient by up to L times as much.
    """
    eps = max((float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(grads)), default=0.0)
    change = _norm(jax.tree.map(jnp.subtract, grads, state.grads))
    change = change - 16 * eps * (state.max_norm + state.smoothness * _norm(params))
    shown = change / jnp.where(state.moved > 0, state.moved, 1)
    return jnp.where(state.moved > 0, shown / (1 + 4 * eps**0.5), 0)


def _norm(tree: Any) -> jax.Array:
    """Returns the Euclidean norm in JAX's default float dtype."""
    dtype = jnp.result_type(float)
    return tree_norm(jax.tree.map(lambda leaf: leaf.astype(dtype), tree)).astype(dtype)
