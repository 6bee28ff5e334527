"""The classic functions have the minima that they claim, and gradients everywhere."""

import jax
import numpy as np
import pytest
from scipy import optimize
from threadpoolctl import threadpool_limits

import jaxdescent as jd
from experiments.instances import SwitchedFunction
from experiments.studies.hybrid.functions import DEVELOPMENT, REPORT

ALL = {**DEVELOPMENT, **REPORT}
DIMENSIONS = sorted({known.dimension for known in ALL.values()})
TOLERANCE = 1e-6  # a hundredth of what the study calls solved


def test_the_suites_do_not_overlap_with_each_other_or_with_the_classic_suite():
    assert (len(DEVELOPMENT), len(REPORT), len(ALL)) == (30, 20, 50)
    assert not ALL.keys() & jd.problems.CLASSIC_SUITE.keys()


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_minima_are_attained_and_searches_find_no_lower_values(dimension):
    names = [name for name, known in ALL.items() if known.dimension == dimension]
    functions = SwitchedFunction([ALL[name].function for name in names])
    one = jax.jit(jax.value_and_grad(functions))
    many = jax.jit(jax.vmap(one, (0, None)))
    rng = np.random.default_rng(0)
    with jax.enable_x64(True), threadpool_limits(1):
        for number, name in enumerate(names):
            problem = ALL[name].problem()
            lower, upper = np.asarray(problem.lower), np.asarray(problem.upper)
            optimum, minimum = np.asarray(problem.optima[0]), float(problem.minimum)
            assert np.all((lower <= optimum) & (optimum <= upper)), name

            middle = (lower + upper) / 2
            origin = np.clip(np.zeros(dimension), lower, upper)
            random = rng.uniform(lower, upper, (2_000, dimension))
            points = np.concatenate([[optimum, middle, origin, lower, upper], random])
            values, grads = map(np.asarray, many(points, number))
            assert np.isfinite(values).all(), name
            assert np.isfinite(grads).all(), name
            assert abs(values[0] - minimum) < TOLERANCE, name
            assert values.min() > minimum - TOLERANCE, name

            lowest = min(descend(one, number, points[i], lower, upper) for i in lowest_20(values))
            assert lowest > minimum - TOLERANCE, name


def lowest_20(values):
    return np.argsort(values)[:20]


def descend(one, number, start, lower, upper):
    def value_and_grad(x):
        value, grads = one(x, number)
        return float(value), np.asarray(grads)

    bounds = list(zip(lower, upper, strict=True))
    options = {"maxfun": 30}
    return optimize.minimize(
        value_and_grad, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    ).fun
