"""Test functions with known minima.

    problem = jd.problems.rastrigin(20, key=key, rotated=True)
    value, grads = problem.value_and_grad(x)

Each returns a `Problem` in pure JAX, whose gradients are finite everywhere. Boxes bound x, except
for BBOB, whose functions are defined for all x. Without a key it is the
textbook function. With a key it is shifted at random and, with `rotated=True`, rotated; its
`optima` are moved accordingly.

    ackley, rastrigin, rotated_rastrigin, griewank, levy, rosenbrock, styblinski_tang, schwefel,
    michalewicz, dixon_price, zakharov, sum_squares
                           of any dimension
    himmelblau, beale, booth, easom, goldstein_price, mccormick, three_hump_camel,
    six_hump_camel         of two variables
    classic_suite          all of these problems, by name
    CLASSIC_SUITE          the functions that create them, by name
    hard_suite             the first eight, shifted and rotated
    bbob                   the 24 BBOB functions, equal to COCO's
"""

from jaxdescent.problem import Problem
from jaxdescent.problems.coco import bbob
from jaxdescent.problems.multimodal import (
    ackley,
    griewank,
    levy,
    michalewicz,
    rastrigin,
    rotated_rastrigin,
    schwefel,
    styblinski_tang,
)
from jaxdescent.problems.suites import CLASSIC_SUITE, classic_suite, hard_suite
from jaxdescent.problems.two_dimensional import (
    beale,
    booth,
    easom,
    goldstein_price,
    himmelblau,
    mccormick,
    six_hump_camel,
    three_hump_camel,
)
from jaxdescent.problems.valleys import dixon_price, rosenbrock, sum_squares, zakharov

__all__ = [
    "CLASSIC_SUITE",
    "Problem",
    "ackley",
    "bbob",
    "beale",
    "booth",
    "classic_suite",
    "dixon_price",
    "easom",
    "goldstein_price",
    "griewank",
    "hard_suite",
    "himmelblau",
    "levy",
    "mccormick",
    "michalewicz",
    "rastrigin",
    "rosenbrock",
    "rotated_rastrigin",
    "schwefel",
    "six_hump_camel",
    "styblinski_tang",
    "sum_squares",
    "three_hump_camel",
    "zakharov",
]


def __dir__() -> list[str]:
    return __all__
