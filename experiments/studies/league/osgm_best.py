"""OSGM-Best: a diagonal step size and a momentum, both learned online, for deterministic losses.

    y    = x - P g + beta d              d = x - x_old
    P    = P + rate_P q / sqrt(sum q^2)          q = g(y) g / (|g|^2 + C)
    beta = beta - rate_b b / sqrt(sum b^2)       b = <g(y), d> / (|g|^2 + C)
    x    = y if the loss does not rise; otherwise x stays, and d = 0 (null step)

Source: Y.-C. Chu, W. Gao, Y. Ye, M. Udell 2025, "Gradient methods with online scaling, part II",
arXiv:2509.11007, and its reference implementation, from which the constants are: P starts at 0
and is kept in [0, 1e5 / L], beta starts at 0.95 and is kept in [0, 0.9995], rate_P = 1 / L,
rate_b = min(1, L). L is first estimated from three gradients at a distance of 1e-4 from the start,
which count. When accepted steps outnumber rejected ones (counted twice) by 200, L becomes the mean
of |g(y) - g| / |y - x| over the accepted steps longer than 1e-3, the sum of q^2 starts anew, and C
= L^2 |d|^2 / 4. Until then C = 1e-12, and every 50 steps rate_P is multiplied by 0.8, to 1e-3 / L
at least. The implementation's backtracking line search where |g(y)| > 2 |g|, which it does after
that, is left out: it needs further losses within a step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxdescent import validation

PROBES = 3  # gradients for the first estimate of L
PROBE_DISTANCE = 1e-4
SETTLED = 200


class OsgmBestState(NamedTuple):
    """State of `osgm_best`; vectors are of all parameters.

    Attributes:
      x, d, value, grads: the accepted parameters, x - x_old, the loss and the gradient at x.
      start: the gradient at the start.
      count: i32[], number of gradients.
      smoothness: f[], L.
      p, p_squares: P, and the sum of q^2.
      beta, beta_squares: the momentum, and the sum of b^2.
      rate: rate_P.
      balance: i32[], accepted steps minus two for each rejected one, at least 0.
      curvature_sum, curvature_count: of the next estimate of L.
      settled: bool[], True after the second estimate of L.
    """

    x: jax.Array
    d: jax.Array
    value: jax.Array
    grads: jax.Array
    start: jax.Array
    count: jax.Array
    smoothness: jax.Array
    p: jax.Array
    p_squares: jax.Array
    beta: jax.Array
    beta_squares: jax.Array
    rate: jax.Array
    balance: jax.Array
    curvature_sum: jax.Array
    curvature_count: jax.Array
    settled: jax.Array


def osgm_best(seed: int = 0) -> optax.GradientTransformationExtraArgs:
    """Returns OSGM-Best; its update needs the parameters and the loss `value`.

    The parameters of the loop are proposals y; evaluate at `best_params(state, params)`.

    Args:
      seed: of the three directions in which L is estimated.
    """

    def init(params: Any) -> OsgmBestState:
        x = ravel_pytree(params)[0]
        zeros, zero, none = jnp.zeros_like(x), jnp.zeros((), x.dtype), jnp.zeros((), jnp.int32)
        return OsgmBestState(
            x=x,
            d=zeros,
            value=jnp.asarray(jnp.inf, x.dtype),
            grads=zeros,
            start=zeros,
            count=none,
            smoothness=zero,
            p=zeros,
            p_squares=zeros,
            beta=jnp.asarray(0.95, x.dtype),
            beta_squares=zero,
            rate=zero,
            balance=none,
            curvature_sum=zero,
            curvature_count=none,
            settled=jnp.zeros((), bool),
        )

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, OsgmBestState]:
        del extra
        validation.check_params_and_loss(params, value)
        y, unravel = ravel_pytree(params)
        g = ravel_pytree(updates)[0]
        value = jnp.asarray(value, y.dtype)
        first, probing = state.count == 0, state.count <= PROBES
        state = jax.tree.map(
            lambda a, b, c: jnp.where(first, a, jnp.where(probing, b, c)),
            state._replace(value=value, grads=g, start=g),
            _after_probe(state, g),
            _after_proposal(state, y, value, g),
        )
        state = state._replace(count=state.count + 1)
        key = jax.random.fold_in(jax.random.key(seed), state.count)
        direction = jax.random.normal(key, y.shape, y.dtype)
        probe = state.x + PROBE_DISTANCE * direction / jnp.linalg.norm(direction)
        proposal = state.x - state.p * state.grads + state.beta * state.d
        return unravel(jnp.where(state.count <= PROBES, probe, proposal) - y), state

    return optax.GradientTransformationExtraArgs(init, update)


def best_params(state: OsgmBestState, params: Any) -> Any:
    """Returns the accepted parameters, in the tree of `params`."""
    return ravel_pytree(params)[1](state.x)


def _after_probe(state: OsgmBestState, g: jax.Array) -> OsgmBestState:
    found = jnp.linalg.norm(g - state.start) / PROBE_DISTANCE
    smoothness = jnp.maximum(state.smoothness, found)
    return state._replace(smoothness=smoothness, rate=1 / smoothness)


def _after_proposal(
    state: OsgmBestState, y: jax.Array, value: jax.Array, g: jax.Array
) -> OsgmBestState:
    smoothness, d = state.smoothness, state.d
    # Guards divisions that are traced, but not used, while L is estimated.
    smoothness = jnp.where(smoothness > 0, smoothness, 1)
    constant = jnp.where(state.settled, smoothness**2 * (d @ d) / 4, 1e-12)
    divisor = state.grads @ state.grads + constant
    divisor = jnp.where(divisor > 0, divisor, 1)
    q, b = g * state.grads / divisor, (g @ d) / divisor
    p_squares, beta_squares = state.p_squares + q**2, state.beta_squares + b**2
    p = state.p + state.rate * q / (jnp.sqrt(p_squares) + 1e-12)
    beta_rate = jnp.minimum(1, smoothness)
    beta = state.beta - beta_rate * b / (jnp.sqrt(beta_squares) + 1e-12)

    accepted = value <= state.value
    length = jnp.linalg.norm(y - state.x)
    counts = accepted & (length > 1e-3)
    curvature = jnp.linalg.norm(g - state.grads) / jnp.where(length > 0, length, 1)
    curvature_sum = state.curvature_sum + jnp.where(counts, curvature, 0)
    curvature_count = state.curvature_count + counts
    balance = jnp.maximum(state.balance + jnp.where(accepted, 1, -2), 0)
    settles = (balance > SETTLED) & ~state.settled
    estimate = curvature_sum / jnp.maximum(curvature_count, 1)
    steps = state.count - PROBES
    decays = (steps % 50 == 49) & ~state.settled & ~settles
    decayed = jnp.maximum(0.8 * state.rate, 1e-3 / smoothness)
    rate = jnp.where(settles, 1 / estimate, jnp.where(decays, decayed, state.rate))
    return state._replace(
        x=jnp.where(accepted, y, state.x),
        d=jnp.where(accepted, y - state.x, 0),
        value=jnp.where(accepted, value, state.value),
        grads=jnp.where(accepted, g, state.grads),
        smoothness=jnp.where(settles, estimate, state.smoothness),
        p=jnp.clip(p, 0, 1e5 / smoothness),
        p_squares=jnp.where(settles, 0, p_squares),
        beta=jnp.clip(beta, 0, 0.9995),
        beta_squares=beta_squares,
        rate=rate,
        balance=balance,
        curvature_sum=curvature_sum,
        curvature_count=curvature_count,
        settled=state.settled | settles,
    )
