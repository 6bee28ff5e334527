"""Evolution strategies: a gradient from the ranks of values.

    u(x)  = rank of f(x) among all samples / (samples - 1) - 1/2,  from -1/2 (lowest) to 1/2
    grads = mean of (u(x + s z) - u(x - s z)) z / (2 s),           z ~ N(0, I)

Only the order of the values enters: the estimate is the same for f and for any increasing function
of f, and a single very large value has no more weight than the second largest. The price is that it
is a biased estimate of the gradient. Where f is linear over the Gaussian it has the gradient's
direction, and for many samples the length 0.282 / s, which does not depend on the slope.

Source: T. Salimans, J. Ho, X. Chen, S. Sidor, I. Sutskever 2017, arXiv:1703.03864. Equal values
share the mean of their ranks here, so that a plateau gives the gradient 0.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.estimators.estimator import Estimate, Estimator
from jaxdescent.estimators.pairs import (
    center,
    check_samples,
    draw,
    mean_of_pairs,
    slopes,
    values_at_pairs,
)


def evolution_strategies(sigma: ArrayLike = 0.1, num_samples: int = 64) -> Estimator:
    """Estimates a descent direction from the ranks of values at Gaussian samples.

    The estimate is biased by ranking: it has the direction of the smoothed gradient, roughly, and a
    length of order 1 / sigma, also near a minimum. With a learning rate of sigma^2, a step is a
    fraction of sigma.

    A value that is not finite ranks as the highest, so that descent leads away from it. Such pairs
    are counted; a pair of two such values is left out. The variance is not reported, since the
    ranks of samples depend on one another.

    Args:
      sigma: standard deviation of the Gaussian, a number in (0, inf), in units of `scale`. It can
        also be given to each call, as an array.
      num_samples: number of points, an even integer: they are antithetic pairs.

    Returns:
      An `Estimator` that spends `num_samples + 1` evaluations, one of them for the value.

    Raises:
      ValueError: an argument is out of its range.
      TypeError: `sigma` is not a number.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> estimator = jd.estimators.evolution_strategies(sigma=0.1)
      >>> def grads_of(function):
      ...     return estimator.value_and_grad(function)(jnp.ones(3), key=jax.random.key(0))[1]
      >>> slow = grads_of(lambda x: jnp.sum(x**2))
      >>> fast = grads_of(lambda x: jnp.exp(jnp.sum(x**2)))
      >>> bool(jnp.all(slow == fast))
      True
    """
    default = validation.positive_number("sigma", sigma)
    pairs = check_samples(num_samples)

    def estimate(
        function: Any,
        params: Any,
        *args: Any,
        key: Any = None,
        sigma: ArrayLike | None = None,
        scale: Any = None,
        has_aux: bool = False,
    ) -> Estimate:
        sigma = default if sigma is None else sigma
        key, x = center(function, params, args, key=key, sigma=sigma, scale=scale, has_aux=has_aux)
        directions = draw(jax.random.normal, key, x.params, pairs)
        values = jnp.concatenate(values_at_pairs(x, directions))
        ranks = centered_ranks(values)
        finite = jnp.isfinite(values).reshape(2, pairs)
        contributions = slopes(x, directions, (ranks[:pairs] - ranks[pairs:]) / 2)
        nonfinite = jnp.sum(~jnp.all(finite, axis=0), dtype=jnp.int32)
        return mean_of_pairs(
            x, contributions, jnp.any(finite, axis=0), nonfinite, has_variance=False
        )

    return Estimator(estimate, num_samples + 1, hyperparams=("sigma",))


def centered_ranks(values: jax.Array) -> jax.Array:
    """Returns f[n], ranks of values from -1/2 (lowest) to 1/2; equal values share their mean rank.

    Values that are not finite count as equal, and highest.
    """
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    ordered = jnp.sort(values)
    below = jnp.searchsorted(ordered, values, side="left")
    not_above = jnp.searchsorted(ordered, values, side="right")
    return (below + not_above - 1).astype(values.dtype) / 2 / (len(values) - 1) - 0.5
