"""Step sizes for logistic regression on data that a hyperplane through the origin separates.

    L(w) = mean_i log(1 + exp(-y_i <x_i, w>))    |x_i| <= radius    <x_i, y_i w*> >= margin |w*|

L has no minimum: it decreases to 0 as w grows, and is flatter where it is lower. Three ways to use
larger steps than the classical step size 8 / radius^2, written for radius 1:

    large_constant   eta = margin^2 T       L rises and falls, then L = O(1 / (margin^4 T^2))
    growing          eta_t = c / B_t        B_t a known bound on L(w_t); L never rises
    step_over_loss   eta_t = eta / L(w_t)   L rises and falls; the average of the path is good

Sources: J. Wu, P. L. Bartlett, M. Telgarsky, B. Yu, COLT 2024, arXiv:2402.15926 (constant);
S. Kale et al. 2026, arXiv:2602.18946 (growing: that it is possible; the schedule and its proof
here are ours); R. Zhang, J. Wu, L. Lin, P. L. Bartlett 2025, arXiv:2504.04105 (step over loss).
"""

import functools
import math
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import containers, numerics, validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.stability.step_sizes import arguments

STABLE = 4.0  # times 1 / radius^2: one over the largest curvature of L
# The proof in `growing` needs c e^c exp(c e^c) <= 1, whose root is .3857.
GROWTH = 0.385

Bound = Literal["proven", "asymptotic"]
Loss = Literal["logistic", "exponential"]


def large_constant(
    margin: ArrayLike, horizon: ArrayLike, *, radius: ArrayLike = 1.0, multiple: ArrayLike = 1.0
) -> optax.Schedule:
    """Constant step size for a known number of steps.

        eta = max(4 / radius^2, multiple margin^2 horizon / radius^4)

    On n examples the loss may rise for O(max(eta, n) / margin^2) steps. From then on it decreases,
    and L = O(1 / (margin^2 eta t)) for radius 1, both up to logarithms. A step of the order
    margin^2 horizon makes that O(1 / (margin^4 horizon^2)). This is better than a step of 4 only
    if horizon is above 4 / margin^2; below, eta is 4, and L never rises. In practice it stops
    rising much earlier, and multiples of 100 or more are better still
    (`python -m experiments logistic`).

    Args:
      margin: the largest min_i y_i <x_i, w> / |w| over w, in (0, radius].
      horizon: number of steps to take, in (0, inf). After fewer, L may still be rising.
      radius: length of the longest x_i, in (1e-15, 1e15).
      multiple: a factor, in (0, inf).

    Returns:
      A schedule: called with the number of steps taken, returns f32[...] of the arguments' common
      shape, at most a quarter of the largest number of its dtype.

    Raises:
      TypeError: an argument is not a real number.
      ValueError: an argument is out of range.

    Example:
      >>> float(large_constant(margin=0.1, horizon=16_000)(0))
      160.0
    """
    margin, radius = _margin_and_radius(margin, radius)
    horizon = validation.positive("horizon", horizon)
    multiple = validation.positive("multiple", multiple)

    def schedule(_: ArrayLike) -> jax.Array:
        logs = [_log(x) for x in _floats(margin, radius, horizon, multiple)]
        log_margin, log_radius, log_horizon, log_multiple = logs
        large = log_multiple + log_horizon + 2 * (log_margin - log_radius)
        return _rate(large, log_radius)

    return schedule


def growing(
    margin: ArrayLike, *, radius: ArrayLike = 1.0, bound: Bound = "proven"
) -> optax.Schedule:
    """Growing step size for any horizon: from w = 0 the loss never rises.

    For radius 1 and S = eta_0 + ... + eta_{t-1}, and with c = 0.385:

        eta_t = max(4, c / B(S))     B(S) = (1 + log(margin^2 S)^2 / 2) / (margin^2 S)

    Proof that the loss decreases: the curvature of L is at most 1 / 4 and at most L. Along a step
    it grows by at most the factor e^(eta L). So a step of 4, or with eta L e^(eta L) <= 1, lowers L
    by at least eta |grad L|^2 / 2. If all earlier steps did, L(w_t) <= L(u) + |u|^2 / (2 S) for any
    u, and u = log(margin^2 S) w* / margin gives B.
    The closed form replaces S by the solution of dS/dt = eta, which is larger by at most the
    factor e^c: q = log(margin^2 S) solves q + q^3 / 6 = c margin^2 t + a constant. So L decreases
    like exp(-(6 c margin^2 t)^(1/3)), a stretched exponential.

    `bound="asymptotic"` drops the squared logarithm: L approaches 1 / (margin^2 S), eta grows like
    exp(c margin^2 t), and L decreases like its inverse. This has no proof;
    `python -m experiments logistic` counts how often the loss rose.

    Args:
      margin: the largest min_i y_i <x_i, w> / |w| over w, or less, in (0, radius].
      radius: length of the longest x_i, or more, in (1e-15, 1e15).
      bound: on the loss, "proven" or "asymptotic".

    Returns:
      A schedule: called with the number of steps taken, returns f32[...] of the arguments' common
      shape. It stops growing at a quarter of the largest number of its dtype.

    Raises:
      TypeError: an argument is not a real number.
      ValueError: an argument is out of range.

    Example:
      >>> step_size = growing(margin=0.1)
      >>> [round(float(step_size(t)), 1) for t in (0, 1_000, 10_000, 100_000)]
      [4.0, 4.0, 10.8, 2362.1]
    """
    margin, radius = _margin_and_radius(margin, radius)
    if bound not in get_args(Bound):
        raise ValueError(f"bound must be 'proven' or 'asymptotic', got {bound!r}")
    logarithm = 1.0 if bound == "proven" else 0.0  # factor of the logarithm in B
    begin = _growth_begins(logarithm)
    flat = float(np.exp(begin)) / STABLE  # number of constant steps, times (margin / radius)^2

    def schedule(count: ArrayLike) -> jax.Array:
        inner, outer = _floats(margin, radius)
        relative = jnp.asarray((inner / outer) ** 2, float)
        elapsed = GROWTH * jnp.maximum(relative * jnp.asarray(count, float) - flat, 0)
        if logarithm:
            # Solves q^3 + 6 q = 6 k by the hyperbolic form of Cardano's formula.
            k = begin + begin**3 / 6 + elapsed
            q = 2 * math.sqrt(2) * jnp.sinh(jnp.arcsinh(1.5 * k / math.sqrt(2)) / 3)
        else:
            q = begin + elapsed
        return _rate(q + math.log(GROWTH) - jnp.log1p(logarithm * q**2 / 2), _log(outer))

    return schedule


def _floats(*numbers: Any) -> list[Any]:
    """Casts numbers to one dtype: NumPy's float64, or JAX's default float if one is JAX's."""
    if any(isinstance(x, jax.Array) for x in numbers):
        return [jnp.asarray(x, float) for x in numbers]
    return [np.asarray(x, np.float64) for x in numbers]


def _log(x: Any) -> Any:
    return _numpy(x).log(x)


def _rate(log_rate: Any, log_radius: Any) -> jax.Array:
    """Returns the larger of `exp(log_rate)` and `STABLE`, for radius 1, scaled to the radius."""
    dtype = jnp.result_type(float)
    numpy = _numpy(log_rate, log_radius)
    log_rate, log_radius = _floats(log_rate, log_radius)
    log_rate = numpy.maximum(log_rate, math.log(STABLE)) - 2 * log_radius
    # A single exponential of a sum, so that no intermediate value overflows.
    rate = numpy.exp(numpy.minimum(log_rate, math.log(float(jnp.finfo(dtype).max) / 4)))
    return jnp.asarray(rate, dtype)


def _numpy(*numbers: Any) -> Any:
    """Returns NumPy, hence float64, if all numbers are known, otherwise jax.numpy."""
    return jnp if any(isinstance(x, jax.Array) for x in numbers) else np


@functools.cache
def _growth_begins(logarithm: float) -> float:
    """Returns the largest q with e^q / (1 + logarithm q^2 / 2) = STABLE / GROWTH."""
    q = math.log(STABLE / GROWTH)
    for _ in range(200):  # a contraction, which converges in fewer iterations
        q = math.log(STABLE / GROWTH) + math.log1p(logarithm * q**2 / 2)
    return q


class StepOverLossState(NamedTuple):
    """State of `step_over_loss`.

    Attributes:
      average: mean of the parameters with a finite loss; initially the parameters.
      count: i32[], number of parameters in the average.
      skipped: i32[], number of zero updates, because the loss or a gradient was unusable or the
        update was not finite in its dtype.
    """

    average: Any
    count: jax.Array
    skipped: jax.Array


def step_over_loss(
    learning_rate: ArrayLike,
    *,
    loss: Loss = "logistic",
    max_learning_rate: ArrayLike = np.inf,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent with a step size inversely proportional to the loss.

        w <- w - eta_t grad L(w)    eta_t = eta / (1 - exp(-L(w)))    loss="logistic"
                                    eta_t = eta / L(w)                loss="exponential"

    This is gradient descent with step eta on phi(w) = log(exp(L(w)) - 1) or phi(w) = log L(w).
    The two agree where L is small, and have slopes of at most 1 if |x_i| <= 1. With the exponential
    loss phi is convex. On separable data the average a of w_0 = 0, ..., w_{t-1} therefore has

        phi(a) <= -(eta / 2) (margin^2 t - 1)    so    L(a) <= exp(-(eta / 2) (margin^2 t - 1))

    for any eta: after 1 / margin^2 steps a large eta makes it as low as you like, while L(w_t)
    may rise and fall. With the logistic loss phi is not convex, so its average can miss this
    bound. (For two examples with y_i <x_i, w> = -10 +- 2 and 10, phi in the middle is .003 above
    the chord. Such a mean is convex only if the ratio of the loss's first to its second
    derivative, here 1 + exp(-y <x, w>), is concave.) With eta <= 0.56 L never rose.

    A loss below the smallest normal number of its dtype counts as 0, and the update is zero.

    Args:
      learning_rate: eta, a number in (0, inf), in units of 1 / radius^2.
      loss: the loss of an example as a function of its margin, "logistic" or "exponential".
      max_learning_rate: the largest eta_t, a number in (0, inf]. Set it if the loss reaches 0 at
        finite parameters, as a squared error does.

    Returns:
      A transformation. `update(grads, state, params, *, value, **extra)` needs the parameters
      and the loss `value` at them. The state's `average` is a, one buffer like the parameters.

    Raises:
      TypeError: a learning rate is not a real number; in `update`, the loss is not one.
      ValueError: a learning rate is out of range, or the loss is not one of the two.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> x = jnp.array([[0.6, 0.8], [0.6, -0.8]])  # times their labels; the margin is 0.6
      >>> def loss(w):
      ...     return jnp.mean(jax.nn.softplus(-x @ w))
      >>> tx = step_over_loss(10.0)
      >>> w = jnp.zeros(2)
      >>> state = tx.init(w)
      >>> for _ in range(20):
      ...     value, grads = jax.value_and_grad(loss)(w)
      ...     updates, state = tx.update(grads, state, w, value=value)
      ...     w = optax.apply_updates(w, updates)
      >>> bool(loss(state.average) <= jnp.exp(-5.0 * (0.36 * 20 - 1)))
      True
    """
    learning_rate = validation.positive_number("learning_rate", learning_rate)
    max_learning_rate = validation.positive_number(
        "max_learning_rate", max_learning_rate, infinite=True
    )
    if loss not in get_args(Loss):
        raise ValueError(f"loss must be 'logistic' or 'exponential', got {loss!r}")

    def init(params: Any) -> StepOverLossState:
        return StepOverLossState(
            average=jax.tree.map(numerics.wide_copy, arguments.as_arrays(params)),
            count=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
        )

    @compile_eager_calls
    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, StepOverLossState]:
        del extra
        value = arguments.loss_value(params, value)
        params = arguments.as_arrays(containers.params_like(params, updates))
        updates = arguments.as_arrays(updates)
        rate, max_rate = (jnp.asarray(x, value.dtype) for x in (learning_rate, max_learning_rate))
        known = jnp.isfinite(value)
        value = jnp.where(known, value, 0)
        divisor = -jnp.expm1(-value) if loss == "logistic" else value
        usable = known & (divisor >= jnp.finfo(value.dtype).tiny) & numerics.all_finite(updates)
        # Avoids a 0 / 0, at which jax_debug_nans would stop.
        divisor = jnp.where(usable, divisor, 1)
        # Divides the gradient first: eta over divisor overflows long before the product.
        factor = jnp.minimum(rate, max_rate * divisor)

        def step(g: jax.Array) -> jax.Array:
            wide = g.astype(numerics.widest_float((g, value)))
            move = factor.astype(wide.dtype) * (wide / divisor.astype(wide.dtype))
            return -move.astype(g.dtype)

        moves = jax.tree.map(step, updates)
        usable &= numerics.all_finite(moves)
        moves = jax.tree.map(lambda move: jnp.where(usable, move, 0), moves)

        count = jnp.asarray(optax.safe_increment(state.count))
        weight = 1 / count.astype(value.dtype)

        def average(y: jax.Array, x: jax.Array) -> jax.Array:
            mean = y + weight.astype(y.dtype) * (jnp.asarray(x, y.dtype) - y)
            return jnp.where(known, mean, y)

        return moves, StepOverLossState(
            average=jax.tree.map(average, state.average, params),
            count=jnp.where(known, count, state.count),
            skipped=jnp.where(usable, state.skipped, optax.safe_increment(state.skipped)),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _margin_and_radius(margin: Any, radius: Any) -> tuple[Any, Any]:
    if not isinstance(radius, jax.core.Tracer):
        # Steps are in units of 1 / radius^2, which must be representable in float32.
        radius = validation.open_interval("radius", radius, 1e-15, 1e15, hint="scale the data")
    margin = validation.positive("margin", margin)
    known = not any(isinstance(x, jax.core.Tracer) for x in (margin, radius))
    if known and not np.all(margin <= radius):
        raise ValueError(f"margin must be in (0, radius], got {margin} with radius={radius}")
    return margin, radius
