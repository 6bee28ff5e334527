"""Coin betting with the estimator of Krichevsky and Trofimov: no learning rate, no diameter.

Each coordinate bets a fraction of its wealth on the sign of its next negative gradient:

    theta_t = -(g_1 + ... + g_t) / L    wealth_t = epsilon - sum_s g_s (w_s - w_1) / L
    w_{t+1} = w_1 + theta_t / (t + 1) wealth_t                              |g| <= L

The regret of a coordinate against w_1 + u is at most

    L (|u| sqrt(T log(1 + 24 T^2 u^2 / epsilon^2)) + epsilon)

for every u at once, as if the learning rate had been tuned for it. `optax.contrib.cocob` is
another member of the family: it estimates L for each coordinate while it runs, and bets less at
first.

Source: F. Orabona, D. Pal, "Coin Betting and Parameter-Free Online Learning", NIPS 2016,
arXiv:1602.04128, algorithm 1 and corollary 5, for each coordinate.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import numerics, validation
from jaxdescent.streaming.learners import containment


class CoinBettingState(NamedTuple):
    """State of `coin_betting`.

    Attributes:
      start: w_1, the initial parameters.
      theta: a tree like the parameters, sums of outcomes of the coins.
      gain: a tree like the parameters, the wealth minus the initial wealth.
      count: i32[], number of rounds until now.
      skipped: i32[], number of rounds that were not finite; they are not in `count`.
    """

    start: Any
    theta: Any
    gain: Any
    count: jax.Array
    skipped: jax.Array


def coin_betting(
    gradient_bound: ArrayLike = 1.0, *, initial_wealth: ArrayLike = 1.0
) -> optax.GradientTransformationExtraArgs:
    """Descends without a learning rate, by betting on the sign of each partial derivative.

    Larger partial derivatives are clipped to the bound; the guarantee is then about the clipped
    ones. If no bound is known, use `optax.contrib.cocob`.

    Args:
      gradient_bound: L, the largest absolute value of a partial derivative, a number in (0, inf).
      initial_wealth: epsilon, a number in (0, inf), in units of the parameters. It changes the
        regret by a logarithm only.

    Returns:
      A transformation. `update(grads, state, params)` takes the gradient of the loss at `params`,
      and returns the new parameters minus the old.

    Raises:
      TypeError: an argument is not a number.
      ValueError: an argument is out of its range.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.streaming.coin_betting()
      >>> w = jnp.zeros(())
      >>> state = tx.init(w)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array(-1.0), state, w)
      ...     w = optax.apply_updates(w, updates)
      ...     print(float(w))  # 1 / 2, then 2 / 3 (1 + 1 / 2), then 3 / 4 (1 + 1 / 2 + 1)
      0.5
      1.0
      1.875
    """
    bound = validation.positive_number("gradient_bound", gradient_bound)
    wealth = validation.positive_number("initial_wealth", initial_wealth)

    def init(params: Any) -> CoinBettingState:
        start = jax.tree.map(numerics.wide_copy, params)
        trees = start, containment.zeros_like(params), containment.zeros_like(params)
        return CoinBettingState(*trees, containment.no_rounds(), containment.no_rounds())

    def step(grads: Any, state: Any, params: Any, **extra: Any) -> tuple[Any, Any]:
        del extra
        count = containment.next_round(state.count)

        def outcome(g: jax.Array) -> jax.Array:
            return jnp.clip(-g / containment.number(bound, g), -1, 1)

        coins = jax.tree.map(outcome, containment.widened(grads))
        theta = jax.tree.map(jnp.add, state.theta, coins)
        weights = jax.tree.map(lambda w, c: w.astype(c.dtype), params, coins)
        gain = jax.tree.map(
            lambda r, c, w, w1: r + c * (w - w1), state.gain, coins, weights, state.start
        )

        def bet(w1: jax.Array, theta: jax.Array, gain: jax.Array) -> jax.Array:
            fraction = theta / (count.astype(theta.dtype) + 1)
            return w1 + fraction * (containment.number(wealth, gain) + gain)

        new = jax.tree.map(bet, state.start, theta, gain)
        moves = jax.tree.map(jnp.subtract, new, weights)
        return moves, state._replace(theta=theta, gain=gain, count=count)

    return containment.gradient_learner(init, step)
