"""Graduated descent: follows the minimum of a smoothed function while the smoothing decreases.

    z_k ~ N(0, I) in antithetic pairs,    g_k = gradient of f at x + s z_k
    m <- (1 - c) m + c mean_k g_k,    e = standard error of the mean, per coordinate
    x <- x - c s m / sqrt(m^2 + e^2),    s from .3 to .001 of the box, geometrically

The mean of the gradients is the gradient of f convolved with a Gaussian of width s (Gaussian
homotopy). Where it is significant, a coordinate moves by c s; where it is noise, by less. There is
no learning rate: a step is a part of the width of the kernel. L-BFGS descends from the best point
at last.

Without bounds, samples may be anywhere. Near a bound the kernel is narrower in that coordinate, at
most a third of the distance to the bound, so that the bound hardly biases the mean gradient. The
few samples beyond a bound are evaluated at their mirror images.

Sources: H. Mobahi and J. Fisher 2015, arXiv:1601.04114 (Gaussian homotopy); E. Hazan et al. 2016,
arXiv:1503.03712 (graduated optimization). The step relative to the standard error is ours.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.global_search import local_search
from jaxdescent.global_search.unit_box import Function, check_box, in_unit_box
from jaxdescent.numerics import norm
from jaxdescent.problem import Problem, in_bounds
from jaxdescent.programs import compiled

LARGEST_WIDTH, SMALLEST_WIDTH = 0.3, 0.001
"""Standard deviations of the kernel at the start and at the end, in widths of the box."""

ROOM = 1 / 3
"""Largest width of the kernel in a coordinate, relative to the distance to the nearer bound."""

LAST_STEPS = 100
"""Largest number of evaluations of the last descent."""

FIRST_STEP = 0.01  # of L-BFGS, in widths of the box


class GraduatedResult(NamedTuple):
    """Result of `graduated_descent`.

    Attributes:
      params: the best point, a tree like the box.
      value: f[], the value there; inf if no value was finite.
      evaluations: i32[], number of evaluations of value and gradient.
      centers: the centers at the end of the descent, trees with a leading axis.
    """

    params: Any
    value: jax.Array
    evaluations: jax.Array
    centers: Any


def graduated_descent(
    problem: Problem | Callable[[Any], jax.Array],
    *,
    bounds: tuple[Any, Any] | None = None,
    key: jax.Array | None = None,
    max_evaluations: int | None = None,
    centers: int = 1,
    samples: int = 64,
    step: float | None = None,
) -> GraduatedResult:
    """Descends on a smoothed function while the smoothing decreases.

    It finds the global minimum where local minima are small and many, and follow a trend, in any
    number of dimensions. It fails where the trend leads to another place.

    Args:
      problem: a function of a tree of arrays that returns a scalar, or a `jd.Problem`, whose box of
        starts must be finite.
      bounds: `(lower, upper)`, trees of arrays like the parameters; for a function, not a problem.
      key: random key; by default `jax.random.key(0)`.
      max_evaluations: upper bound on evaluations of value and gradient; by default 10,000 for each
        coordinate.
      centers: number of kernels that share the evaluations. The first starts at the center of the
        box and the others at random.
      samples: number of points of each kernel, an even number.
      step: c, the length of a step in widths of the kernel, in (0, 1]; the momentum is 1 - c. By
        default 0.03 (3,000 / T)^(1/4) for T steps, at most 0.2.

    Raises:
      ValueError: an argument is out of its range, the box is not finite, or `max_evaluations` is
        less than one step takes.
      TypeError: an argument has the wrong type.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> def ackley(x):
      ...     waves = jnp.exp(jnp.mean(jnp.cos(2 * jnp.pi * x)))
      ...     return 20 + jnp.e - 20 * jnp.exp(-0.2 * jnp.sqrt(jnp.mean(x**2))) - waves
      >>> box = jnp.full(10, 30.0)
      >>> result = jd.graduated_descent(
      ...     ackley, bounds=(-box, 1.5 * box), max_evaluations=50_000)
      >>> bool(result.value < 1e-3), int(result.evaluations) <= 50_000
      (True, True)
    """
    problem = in_bounds(problem, bounds)
    check_box(problem)
    if max_evaluations is None:
        max_evaluations = min(10_000 * problem.dimension, 2**31 - 1)
    max_evaluations = validation.integer_in("max_evaluations", max_evaluations, 1, 2**31 - 1)
    centers = validation.integer_in("centers", centers, 1)
    samples = validation.integer_in("samples", samples, 4)
    if samples % 2:
        raise ValueError(f"samples must be even, for antithetic pairs, got {samples}")
    least = centers * (samples + 1) + LAST_STEPS
    if max_evaluations < least:
        raise ValueError(
            f"max_evaluations must be at least {least}, for a step of each center and the last "
            f"descent, got {max_evaluations}"
        )
    if step is not None:
        step = float(validation.positive_up_to("step", step, 1.0))
    key = validation.random_key("key", jax.random.key(0) if key is None else key)
    validation.check_scalar("problem", jax.eval_shape(problem.value, problem.lower))
    # The best value of a step is at a sample; a center is evaluated at last.
    steps = (max_evaluations - LAST_STEPS - centers) // (centers * samples)
    if step is None:
        step = min(0.03 * (3_000 / steps) ** 0.25, 0.2)
    options = _Options(np.int32(steps), np.float32(step))
    return _descend(problem, key, options, centers=centers, samples=samples)


class _Options(NamedTuple):
    """Arrays, so that other numbers do not compile another program."""

    steps: Any
    step: Any


class _State(NamedTuple):
    """State of one kernel: its center, the mean gradient, and the best sample so far."""

    center: jax.Array
    momentum: jax.Array
    best: jax.Array
    best_value: jax.Array


@compiled("centers", "samples")
def _descend(
    problem: Problem, key: jax.Array, options: _Options, *, centers: int, samples: int
) -> GraduatedResult:
    function, middle, to_params = in_unit_box(problem)
    start_key, sample_key = jax.random.split(key)
    starts = jax.random.uniform(start_key, (centers, middle.size), middle.dtype)
    starts = starts.at[0].set(middle)

    def advance(i: jax.Array, states: _State) -> _State:
        keys = jax.random.split(jax.random.fold_in(sample_key, i), centers)
        progress = i / jnp.maximum(options.steps - 1, 1)
        width = LARGEST_WIDTH * (SMALLEST_WIDTH / LARGEST_WIDTH) ** progress

        def advance_one(state: _State, key: jax.Array) -> _State:
            return _advance(function, state, key, i, width, options, samples)

        return jax.vmap(advance_one)(states, keys)

    infinite = jnp.full(centers, jnp.inf, middle.dtype)
    states = _State(starts, jnp.zeros_like(starts), starts, infinite)
    states = jax.lax.fori_loop(0, options.steps, advance, states)

    values, _ = jax.vmap(function.value_and_grad)(states.center)
    points = jnp.concatenate([states.center, states.best])
    values = jnp.concatenate([values, states.best_value])
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    best = jnp.argmin(values)
    point, value, last_steps, _ = local_search.descend(
        function.value_and_grad,
        points[best][None],
        jnp.isfinite(values[best])[None],
        function.lower,
        function.upper,
        first_step=jnp.asarray(FIRST_STEP, middle.dtype),
        tolerance=jnp.zeros((), middle.dtype),
        target=jnp.asarray(-jnp.inf, middle.dtype),
        max_evaluations=jnp.int32(LAST_STEPS),
    )
    improved = value[0] < values[best]
    return GraduatedResult(
        params=to_params(jnp.where(improved, point[0], points[best])),
        value=jnp.where(improved, value[0], values[best]),
        evaluations=options.steps * centers * samples + centers + last_steps[0],
        centers=jax.vmap(to_params)(states.center),
    )


def _advance(
    function: Function,
    state: _State,
    key: jax.Array,
    number: jax.Array,
    width: jax.Array,
    options: _Options,
    samples: int,
) -> _State:
    """Returns the state of a kernel after one step."""
    n, dtype = state.center.size, state.center.dtype
    half = jax.random.normal(key, (samples // 2, n), dtype)
    c = options.step.astype(dtype)
    room = jnp.minimum(state.center - function.lower, function.upper - state.center)
    width = jnp.minimum(width, jnp.maximum(ROOM * room, SMALLEST_WIDTH)).astype(dtype)
    points = state.center + width * jnp.concatenate([half, -half])
    inside = _mirrored(points, function.lower, function.upper)
    values, grads = jax.vmap(function.value_and_grad)(inside)
    # Pairs are independent, but not the two samples of a pair.
    count = samples // 2
    pairs = grads[:count] / 2 + grads[count:] / 2
    mean = jnp.mean(pairs, axis=0)
    error = norm(pairs - mean, axis=0) / (count * (count - 1)) ** 0.5
    # Where gradients overflow, they say nothing.
    mean = jnp.where(jnp.isfinite(mean), mean, 0)
    error = jnp.where(jnp.isnan(error), jnp.inf, error)
    momentum = (1 - c) * state.momentum + c * mean
    corrected = momentum / (1 - (1 - c) ** (number + 1))
    length = jnp.hypot(corrected, error)
    direction = jnp.where(length > 0, corrected / jnp.where(length > 0, length, 1), 0)
    center = state.center - c * width * direction
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    best = jnp.argmin(values)
    improved = values[best] < state.best_value
    return _State(
        center=jnp.clip(center, function.lower, function.upper),
        momentum=momentum,
        best=jnp.where(improved, inside[best], state.best),
        best_value=jnp.where(improved, values[best], state.best_value),
    )


def _mirrored(x: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    """Returns points mirrored at the bounds they are beyond."""
    mirrored = jnp.where(x < lower, 2 * lower - x, jnp.where(x > upper, 2 * upper - x, x))
    return jnp.clip(mirrored, lower, upper)
