"""The gradient of a function smoothed by a Gaussian.

    f_s(x)   = E f(x + s z),                     z ~ N(0, I)
    grad f_s = E grad f(x + s z)                 from gradients
             = E (f(x + s z) - f(x - s z)) z / (2 s)    from values

Both right-hand sides have the same mean, and both are averaged over antithetic pairs x +- s z. From
values, f needs no derivative. The variance of an entry is then about (|grad|^2 + grad_j^2) / pairs,
which grows with the number of parameters. From gradients, the variance is only due to how the
gradient changes over the Gaussian: on a quadratic function it is 0.

Sources: Y. Nesterov and V. Spokoiny 2017, "Random gradient-free minimization of convex functions"
(from values); H. Mobahi and J. W. Fisher 2015, arXiv:1601.04114 (Gaussian homotopy).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import numerics, validation
from jaxdescent.estimators.estimator import Estimate, Estimator
from jaxdescent.estimators.pairs import (
    at_pairs,
    center,
    check_samples,
    draw,
    half_differences,
    mean_of_pairs,
    slopes,
    values_at_pairs,
)


def smoothed(
    sigma: ArrayLike = 0.1, num_samples: int = 64, *, use_gradients: bool = False
) -> Estimator:
    """Estimates the gradient of the function smoothed by a Gaussian of standard deviation sigma.

    The estimate is unbiased for the gradient of the smoothed function, for every sigma. If the
    function is quadratic, that is the gradient of the function itself. A large sigma averages over
    local minima; as it shrinks, the smoothed function approaches the function (graduated descent).
    The module's docstring has the equations.

    A pair of samples whose values, or whose gradients, are not finite is left out and counted.

    Args:
      sigma: standard deviation of the Gaussian, a number in (0, inf), in units of `scale`. It can
        also be given to each call, as an array.
      num_samples: number of points, an even integer: they are antithetic pairs.
      use_gradients: whether to average gradients instead of values times directions. The variance
        is much lower, but the function must have a gradient that is of use: this averages the
        slopes between the jumps of a function, and does not see the jumps.

    Returns:
      An `Estimator` that spends `num_samples + 1` evaluations, one of them for the value, and with
      `use_gradients` as many gradients as samples.

    Raises:
      ValueError: an argument is out of its range.
      TypeError: `sigma` is not a number.

    Example:
      A staircase has no useful gradient; smoothed, it is a slope:

      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> def staircase(x):
      ...     return jnp.sum(jnp.round(x))
      >>> estimator = jd.estimators.smoothed(sigma=2.0, num_samples=1024)
      >>> grad_fn = jax.jit(estimator.value_and_grad(staircase))
      >>> value, grads = grad_fn(jnp.array([0.2, 3.1]), key=jax.random.key(0))
      >>> float(value), jnp.abs(grads - 1).max() < 0.2
      (3.0, Array(True, dtype=bool))
      >>> estimator.evaluations, estimator.gradients
      (1025, 0)
    """
    default = validation.positive_number("sigma", sigma)
    pairs = check_samples(num_samples)
    if not isinstance(use_gradients, bool):
        raise ValueError(f"use_gradients must be True or False, got {use_gradients!r}")

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
        if use_gradients:
            plus, minus = at_pairs(jax.grad(x.function), x, directions)
            contributions = jax.tree.map(_mean_of_two, plus, minus)
            usable = jax.vmap(numerics.all_finite)(contributions)
        else:
            weights, usable = half_differences(*values_at_pairs(x, directions))
            contributions = slopes(x, directions, weights)
        return mean_of_pairs(x, contributions, usable, jnp.sum(~usable, dtype=jnp.int32))

    gradients = num_samples if use_gradients else 0
    return Estimator(estimate, num_samples + 1, gradients, ("sigma",))


def _mean_of_two(plus: jax.Array, minus: jax.Array) -> jax.Array:
    dtype = numerics.at_least_float32(plus.dtype)
    return plus.astype(dtype) / 2 + minus.astype(dtype) / 2
