"""Error of estimated gradients, for equal numbers of evaluations.

    python -m experiments.benchmarks.estimators

    bowl(x)   = sum_i c_i x_i^2 / 2               c_i from 1 to 10, evenly in the logarithm
    ripple(x) = bowl(x) + sum_i sin(20 x_i) / 4    its slopes, up to 5, hide the slopes of the bowl

at 5 points drawn from N(0, I), with 50 keys each, 65 evaluations (64 samples and the value) and
sigma = 0.5. "Exact" is the gradient at the point, for 1 evaluation. The cosine is between the
estimate and the gradient of the bowl, averaged. The noise is the variance of the estimate, summed
over coordinates, over the squared length of its mean, for one evaluation: with N evaluations it is
N times smaller; theory says n + 1 for `smoothed` and n - 1 for `spsa` on the bowl, times 65 / 32,
since a pair takes two evaluations. Guided ES is given one direction at 45 degrees to the gradient
of the bowl, whose own cosine is 0.71. A value with a gradient counts as one evaluation.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd
from experiments.runner.report import table

SAMPLES, SIGMA, POINTS, KEYS = 64, 0.5, 5, 50
ESTIMATORS = {
    "exact": jd.estimators.exact(),
    "smoothed, gradients": jd.estimators.smoothed(SIGMA, SAMPLES, use_gradients=True),
    "smoothed": jd.estimators.smoothed(SIGMA, SAMPLES),
    "spsa": jd.estimators.spsa(SIGMA, SAMPLES),
    "evolution strategies": jd.estimators.evolution_strategies(SIGMA, SAMPLES),
    "guided ES": jd.estimators.guided_es(SIGMA, SAMPLES),
}


def bowl(x: jax.Array) -> jax.Array:
    """Returns a convex quadratic function of f[n]."""
    return jnp.sum(jnp.logspace(0, 1, len(x)) * x**2) / 2


def ripple(x: jax.Array) -> jax.Array:
    """Returns the bowl with ripples."""
    return bowl(x) + jnp.sum(jnp.sin(20 * x)) / 4


@partial(jax.jit, static_argnames=("function", "name"))
def errors(
    x: jax.Array, keys: jax.Array, *, function: Callable[[jax.Array], jax.Array], name: str
) -> tuple[jax.Array, jax.Array]:
    """Returns the mean cosine and the noise of one estimate at f[n]."""
    gradient = jax.grad(bowl)(x)
    aside = jax.random.normal(keys[0], x.shape)
    aside -= gradient * (aside @ gradient) / (gradient @ gradient)
    direction = gradient / jnp.linalg.norm(gradient) + aside / jnp.linalg.norm(aside)
    guide = {"subspace": direction[None]} if name == "guided ES" else {}

    def estimate(key: jax.Array) -> jax.Array:
        return ESTIMATORS[name].estimate(function, x, key=key, **guide).grads

    found = jax.lax.map(estimate, keys)
    cosines = found @ gradient / jnp.linalg.norm(found, axis=1) / jnp.linalg.norm(gradient)
    variance = jnp.sum(jnp.var(found, axis=0, ddof=1))
    squared_length = jnp.sum(jnp.mean(found, axis=0) ** 2) - variance / len(keys)
    return jnp.mean(cosines), variance / squared_length


def main() -> None:
    """Prints the table."""
    rows = []
    for function in (bowl, ripple):
        for name, estimator in ESTIMATORS.items():
            cells = []
            for n in (10, 100, 1000):
                points = jax.random.normal(jax.random.key(n), (POINTS, n))
                keys = jax.random.split(jax.random.key(0), KEYS)
                found = [errors(x, keys, function=function, name=name) for x in points]
                cosine, noise = np.mean(found, axis=0)
                cells += [f"{cosine:.2f}", f"{noise * estimator.evaluations:.2g}"]
            rows.append((function.__name__, name, *cells))
    print(f"{SAMPLES} samples, sigma = {SIGMA}")
    columns = [f"{what}, n = {n}" for n in (10, 100, 1000) for what in ("cosine", "noise")]
    print(table(("function", "estimator", *columns), rows))


if __name__ == "__main__":
    main()
