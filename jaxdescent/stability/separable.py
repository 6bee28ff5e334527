"""Step sizes for logistic regression on data that a hyperplane through the origin separates.

    L(w) = mean_i log(1 + exp(-y_i <x_i, w>))    |x_i| <= radius    <x_i, y_i w*> >= margin |w*|

L has no minimum: it falls to 0 as w grows, and it is the flatter the lower it is. Three ways to
step further than the classical 8 / radius^2 allows, written for radius 1:

    large_constant   eta = margin^2 T       L rises and falls, then L = O(1 / (margin^4 T^2))
    growing          eta_t = c / B_t        B_t a bound on L(w_t) known beforehand; L never rises
    step_over_loss   eta_t = eta / L(w_t)   L rises and falls; the average of the path is good

Sources: J. Wu, P. L. Bartlett, M. Telgarsky, B. Yu, COLT 2024, arXiv:2402.15926 (constant);
S. Kale et al. 2026, arXiv:2602.18946 (growing: that it can be done; the schedule and its proof
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

from jaxdescent import validation
from jaxdescent.stability import inputs

STABLE = 4.0  # times 1 / radius^2: one over the greatest curvature of L
# c e^c exp(c e^c) = 1 has the root .3857: the proof in `growing` needs no more than that.
GROWTH = 0.385

Bound = Literal["proven", "asymptotic"]
Loss = Literal["logistic", "exponential"]


def large_constant(
    margin: ArrayLike, horizon: ArrayLike, *, radius: ArrayLike = 1.0, multiple: ArrayLike = 1.0
) -> optax.Schedule:
    """The constant step size for a known number of steps.

        eta = max(4 / radius^2, multiple margin^2 horizon / radius^4)

    After O(max(eta, n) / margin^2) steps, in which the loss may rise, gradient descent on n
    examples descends for good, and L = O(1 / (margin^2 eta t)) for radius 1, both up to
    logarithms; a step of the order margin^2 horizon makes that O(1 / (margin^4 horizon^2)),
    which is less than what a step of 4 gives only if horizon is above 4 / margin^2: until
    then, eta is 4, and L never rises. In practice it stops rising far sooner, and multiples of
    100 or more are better still (`python -m experiments logistic`).

    Args:
      margin: the greatest min_i y_i <x_i, w> / |w|, in (0, radius].
      horizon: how many steps will be taken, in (0, inf). With fewer, L may still be rising.
      radius: the length of the longest x_i, in (1e-15, 1e15).
      multiple: a factor, in (0, inf).

    Returns:
      A schedule: from the count of steps to f32[...] of the arguments' common shape, a quarter
      of the largest number of its dtype at most.

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
        logs = [_log(x) for x in inputs.floats(margin, radius, horizon, multiple)]
        log_margin, log_radius, log_horizon, log_multiple = logs
        large = log_multiple + log_horizon + 2 * (log_margin - log_radius)
        return _rate(large, log_radius)

    return schedule


def growing(
    margin: ArrayLike, *, radius: ArrayLike = 1.0, bound: Bound = "proven"
) -> optax.Schedule:
    """A step size that grows and never makes the loss rise, from w = 0, for any horizon.

    For radius 1 and S = eta_0 + ... + eta_{t-1}, and with c = 0.385:

        eta_t = max(4, c / B(S))     B(S) = (1 + log(margin^2 S)^2 / 2) / (margin^2 S)

    Why that is stable: the curvature of L is at most 1 / 4 and at most L, and along a step at
    most e^(eta L) as much, so a step of 4 or of eta L e^(eta L) <= 1 lowers L by at least
    eta |grad L|^2 / 2. If all did so far, L(w_t) <= L(u) + |u|^2 / (2 S) for any u, and
    u = log(margin^2 S) w* / margin gives B.
    In closed form, where S is replaced by the solution of dS/dt = eta (which is at most e^c
    times as large): q = log(margin^2 S) solves q + q^3 / 6 = c margin^2 t + a constant. So L
    falls like exp(-(6 c margin^2 t)^(1/3)), a stretched exponential.

    `bound="asymptotic"` leaves out the squared logarithm: L is 1 / (margin^2 S) in the long
    run, eta grows like exp(c margin^2 t), and L falls like its inverse. Nothing is proven
    then; `python -m experiments logistic` counts how often the loss rose.

    Args:
      margin: the greatest min_i y_i <x_i, w> / |w|, or less, in (0, radius].
      radius: the length of the longest x_i, or more, in (1e-15, 1e15).
      bound: on the loss, "proven" or "asymptotic".

    Returns:
      A schedule: from the count of steps to f32[...] of the arguments' common shape. It stops
      growing at a quarter of the largest number of its dtype.

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
    logarithm = 1.0 if bound == "proven" else 0.0  # whether B has it
    begin = _growth_begins(logarithm)
    flat = float(np.exp(begin)) / STABLE  # the steps before that, times ratio

    def schedule(count: ArrayLike) -> jax.Array:
        inner, outer = inputs.floats(margin, radius)
        relative = jnp.asarray((inner / outer) ** 2, float)
        elapsed = GROWTH * jnp.maximum(relative * jnp.asarray(count, float) - flat, 0)
        if logarithm:
            # q^3 + 6 q = 6 k, by the hyperbolic form of Cardano's formula
            k = begin + begin**3 / 6 + elapsed
            q = 2 * math.sqrt(2) * jnp.sinh(jnp.arcsinh(1.5 * k / math.sqrt(2)) / 3)
        else:
            q = begin + elapsed
        return _rate(q + math.log(GROWTH) - jnp.log1p(logarithm * q**2 / 2), _log(outer))

    return schedule


def _log(x: Any) -> Any:
    return _numpy(x).log(x)


def _rate(log_rate: Any, log_radius: Any) -> jax.Array:
    """A step size that is `exp(log_rate)` or `STABLE` for radius 1, scaled to another radius."""
    dtype = jnp.result_type(float)
    numpy = _numpy(log_rate, log_radius)
    log_rate, log_radius = inputs.floats(log_rate, log_radius)
    log_rate = numpy.maximum(log_rate, math.log(STABLE)) - 2 * log_radius
    # One exponential of a sum: near the largest number nothing overflows on the way.
    rate = numpy.exp(numpy.minimum(log_rate, math.log(float(jnp.finfo(dtype).max) / 4)))
    return jnp.asarray(rate, dtype)


def _numpy(*numbers: Any) -> Any:
    """NumPy, and so float64, for what is known; jax.numpy for the rest."""
    return jnp if any(isinstance(x, jax.Array) for x in numbers) else np


@functools.cache
def _growth_begins(logarithm: float) -> float:
    """The greatest q with e^q / (1 + logarithm q^2 / 2) = STABLE / GROWTH."""
    q = math.log(STABLE / GROWTH)
    for _ in range(200):  # a contraction: it has converged long before
        q = math.log(STABLE / GROWTH) + math.log1p(logarithm * q**2 / 2)
    return q


class StepOverLossState(NamedTuple):
    """What `step_over_loss` carries.

    Attributes:
      average: the mean of the parameters that steps were taken from; at first, the parameters.
      count: i32[], how many those were.
      withheld: i32[], updates that were zero: the loss or a gradient was of no use, or the
        update would not have been finite in its dtype.
    """

    average: Any
    count: jax.Array
    withheld: jax.Array


def step_over_loss(
    learning_rate: ArrayLike,
    *,
    loss: Loss = "logistic",
    max_learning_rate: ArrayLike = np.inf,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent with a step size inversely proportional to the loss.

        w <- w - eta_t grad L(w)    eta_t = eta / (1 - exp(-L(w)))    loss="logistic"
                                    eta_t = eta / L(w)                loss="exponential"

    This is plain descent with step eta on phi(w) = log(exp(L(w)) - 1) or phi(w) = log L(w), which
    agree where L is small, with slopes of at most 1 if |x_i| <= 1. The second, of the exponential
    loss, is convex. Therefore, from w = 0 with a margin, the average a of w_0 .. w_{t-1} has

        phi(a) <= -(eta / 2) (margin^2 t - 1)    so    L(a) <= exp(-(eta / 2) (margin^2 t - 1))

    for any eta: after 1 / margin^2 steps it is as low as eta makes it, while L(w_t) may rise
    and fall. The first is not convex: with two examples that have y_i <x_i, w> = -10 +- 2 and 10,
    phi in the middle is .003 above the chord (such a mean is convex only if the ratio of the
    loss's first to its second derivative is concave, which is 1 + exp(-y <x, w>) here). Its
    average may miss that bound. A step of eta <= 0.56 never let L rise.

    A loss below the smallest normal number of its dtype counts as 0: nothing is left to gain,
    and the parameters stay.

    Args:
      learning_rate: eta, a number in (0, inf), in units of 1 / radius^2.
      loss: how the loss of an example depends on its margin.
      max_learning_rate: the greatest eta_t, a number in (0, inf]; needed where parameters of
        finite size reach a loss of 0, as a square's do.

    Returns:
      A transformation. `update(grads, state, params, *, value, **extra)` needs the parameters
      and the loss `value` at them. The state's `average` is a, one buffer like the parameters.

    Raises:
      TypeError: a rate is not a real number; in `update`, the loss is none.
      ValueError: a rate is out of range, or there is no such loss.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> x = jnp.array([[0.6, 0.8], [0.6, -0.8]])  # times their labels; the margin is 0.6
      >>> loss = lambda w: jnp.mean(jax.nn.softplus(-x @ w))
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
            average=jax.tree.map(inputs.wide_copy, inputs.arrays(params)),
            count=jnp.zeros((), jnp.int32),
            withheld=jnp.zeros((), jnp.int32),
        )

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, StepOverLossState]:
        del extra
        value = inputs.checked_value(params, value)
        updates, params = inputs.arrays(updates), inputs.arrays(params)
        rate, most = (jnp.asarray(x, value.dtype) for x in (learning_rate, max_learning_rate))
        known = jnp.isfinite(value)
        value = jnp.where(known, value, 0)
        divisor = -jnp.expm1(-value) if loss == "logistic" else value
        usable = known & (divisor >= jnp.finfo(value.dtype).tiny) & inputs.all_finite(updates)
        # Not even on the way is there a 0 / 0, which jax_debug_nans would stop at.
        divisor = jnp.where(usable, divisor, 1)
        # Gradient over divisor first: eta over divisor overflows long before their product.
        factor = jnp.minimum(rate, most * divisor)

        def step(g: jax.Array) -> jax.Array:
            wide = g.astype(inputs.wide(g.dtype, value.dtype))
            moved = factor.astype(wide.dtype) * (wide / divisor.astype(wide.dtype))
            return -moved.astype(g.dtype)

        moves = jax.tree.map(step, updates)
        usable &= inputs.all_finite(moves)
        moves = jax.tree.map(lambda move: jnp.where(usable, move, 0), moves)

        count = jnp.asarray(optax.safe_increment(state.count))
        weight = 1 / count.astype(value.dtype)
        mean = lambda y, x: y + weight.astype(y.dtype) * (jnp.asarray(x, y.dtype) - y)
        seen = lambda y, x: jnp.where(known, mean(y, x), y)
        return moves, StepOverLossState(
            average=jax.tree.map(seen, state.average, params),
            count=jnp.where(known, count, state.count),
            withheld=jnp.where(usable, state.withheld, optax.safe_increment(state.withheld)),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _margin_and_radius(margin: Any, radius: Any) -> tuple[Any, Any]:
    if not isinstance(radius, jax.core.Tracer):
        # Steps are in units of 1 / radius^2, which float32 must be able to hold.
        radius = validation.open_interval("radius", radius, 1e-15, 1e15, hint="scale the data")
    margin = validation.positive("margin", margin)
    known = not any(isinstance(x, jax.core.Tracer) for x in (margin, radius))
    if known and not np.all(margin <= radius):
        raise ValueError(f"margin must be in (0, radius], got {margin} with radius={radius}")
    return margin, radius
