"""The risk of pruning the agent that would have been best, given early ranks only.

    (X, Y)  early and late value of an agent: after a monotone transformation of each, Gaussian
            with correlation r
    best    the agent with the lowest Y of N; it is kept if fewer than k other agents have a lower X

With y the late value of the best agent, x its early value and p(x, y) = P(X < x | Y > y),

    P(best is pruned) = 1 - E P(Binomial(N - 1, p(x, y)) < k).

This assumes a Gaussian copula and nothing else about the values. THEORY.md derives the formula, and
`share_to_keep`, its inverse for many agents.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri

from jaxdescent import validation


def prob_best_pruned(correlation: float, num_agents: int, kept: int) -> float:
    """Returns the probability that pruning by early values removes the agent that would be best.

    Of `num_agents` agents, the `kept` agents with the lowest early values are kept. The best agent
    is the agent with the lowest late value. The probability is computed by quadrature.

    Args:
      correlation: correlation of the normal scores of early and late values, in [-1, 1].
      num_agents: number N of agents, at least 1.
      kept: number k of agents kept, in [1, N].

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> round(prob_best_pruned(0.0, 100, 25), 6), prob_best_pruned(1.0, 9, 1)
      (0.75, 0.0)
      >>> round(prob_best_pruned(0.8, 16, 4), 3)
      0.139
    """
    from scipy import special  # a dependency of jax

    r = validation.number_in("correlation", correlation, -1.0, 1.0)
    n = validation.integer_in("num_agents", num_agents, 1)
    k = validation.integer_in("kept", kept, 1, n)
    if k == n or r == 1.0:
        return 0.0
    if r == -1.0:
        return 1.0
    nodes, weights = np.polynomial.legendre.leggauss(48)
    nodes, weights = (nodes + 1) / 2, weights / 2
    # The late value of the best agent: the least of n uniform numbers, as a quantile.
    late = -np.expm1(np.log1p(-nodes) / n)[:, None]
    # Binomials step within 1 / sqrt(n): a fine grid, on which Gaussians sum to their integral.
    normal = np.linspace(-8.0, 8.0, 1601)
    normal_weights = np.exp(-(normal**2) / 2)
    spread = np.sqrt((1 - r) * (1 + r))
    least = special.ndtri(late)
    early = r * least + spread * normal
    below = (special.ndtr(early) - _both_below(early, least, r)) / (1 - late)
    survives = special.bdtr(k - 1, n - 1, np.clip(below, 0.0, 1.0))
    return float(np.clip(1 - weights @ survives @ normal_weights / normal_weights.sum(), 0.0, 1.0))


def _both_below(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Returns P(X < x, Y < y) of standard Gaussians with correlation r, by D. Owen's T (1956)."""
    from scipy import special

    spread = np.sqrt((1 - r) * (1 + r))
    with np.errstate(divide="ignore", invalid="ignore"):
        triangles = special.owens_t(x, (y / x - r) / spread) + special.owens_t(
            y, (x / y - r) / spread
        )
    half = np.where((x * y < 0) | ((x * y == 0) & (x + y < 0)), 0.5, 0.0)
    return (special.ndtr(x) + special.ndtr(y)) / 2 - triangles - half


def share_to_keep(correlation: jax.Array, num_agents: jax.Array, risk: float) -> jax.Array:
    """Returns f[], the fraction of agents to keep so that the best one is kept at 1 - risk.

        Phi(r m + sqrt(1 - r^2) Phi^-1(1 - risk)),    m = Phi^-1(0.625 / (N + 0.25))

    The late value of the best agent is replaced by m, the score of its median rank (G. Blom 1958),
    and the early values of the others by their quantiles.
    """
    count = jnp.maximum(num_agents, 1).astype(correlation.dtype)
    least = ndtri(0.625 / (count + 0.25))
    spread = jnp.sqrt((1 - correlation) * (1 + correlation))
    return ndtr(correlation * least + spread * ndtri(jnp.asarray(1 - risk, correlation.dtype)))
