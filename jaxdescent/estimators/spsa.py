"""Simultaneous perturbation stochastic approximation (SPSA).

    grads = (f(x + s d) - f(x - s d)) / (2 s) * d,    entries of d are +1 or -1 with equal chance

Two values give an estimate of all partial derivatives, however many there are. The published
formula divides by the entries of d, which equals the multiplication. The variance of an entry is
about (|grad|^2 - grad_j^2) / pairs, and in one dimension the estimate is the central difference.

Source: J. C. Spall 1992, "Multivariate stochastic approximation using a simultaneous perturbation
gradient approximation", IEEE Transactions on Automatic Control 37(3). There s is called c.
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
    half_differences,
    mean_of_pairs,
    slopes,
    values_at_pairs,
)


def spsa(sigma: ArrayLike = 0.01, num_samples: int = 2) -> Estimator:
    """Estimates the gradient from values at random corners of a cube around the parameters.

    The estimate is unbiased if the function is quadratic. Otherwise its bias is of order sigma^2.
    With noisy values choose sigma larger: noise of standard deviation e adds e^2 / (2 sigma^2) to
    the variance of a pair.

    A pair of samples whose values are not finite is left out and counted.

    Args:
      sigma: half the side of the cube, a number in (0, inf), in units of `scale`. It can also be
        given to each call, as an array: Spall's schedule is `c / step**0.101`.
      num_samples: number of points, an even integer: each pair is the two ends of a diagonal.
        Estimates from several pairs are averaged.

    Returns:
      An `Estimator` that spends `num_samples + 1` evaluations, one of them for the value.

    Raises:
      ValueError: an argument is out of its range.
      TypeError: `sigma` is not a number.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> grad_fn = jd.estimators.spsa(sigma=0.01).value_and_grad(lambda x: (x - 3.0) ** 2)
      >>> value, slope = grad_fn(jnp.array(1.0), key=jax.random.key(0))
      >>> float(value), round(float(slope), 3)
      (4.0, -4.0)
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
        directions = draw(jax.random.rademacher, key, x.params, pairs)
        weights, usable = half_differences(*values_at_pairs(x, directions))
        contributions = slopes(x, directions, weights)
        return mean_of_pairs(x, contributions, usable, jnp.sum(~usable, dtype=jnp.int32))

    return Estimator(estimate, num_samples + 1, hyperparams=("sigma",))
