"""Functions to minimize whose minima are known.

    problem = jd.problems.rastrigin(20, key=key, rotated=True)
    value, grads = problem.value_and_grad(x)

Each is a `Problem`, pure JAX, with gradients that are finite everywhere. Without a key it is
the textbook's; a key shifts, and on request rotates, it, and its optima follow.

    ackley, rastrigin, rotated_rastrigin, griewank, levy, rosenbrock, styblinski_tang, schwefel,
    michalewicz, dixon_price, zakharov, sum_squares
                           of any dimension
    himmelblau, beale, booth, easom, goldstein_price, mccormick, three_hump_camel,
    six_hump_camel         of two variables
    classic_suite, CLASSIC_SUITE  all of these, and their makers, by name
    hard_suite             the first eight, shifted and rotated
    bbob                   the 24 functions of BBOB, equal to COCO's
"""

from jaxdescent.problems.coco import bbob as bbob
from jaxdescent.problems.collections import CLASSIC_SUITE as CLASSIC_SUITE
from jaxdescent.problems.collections import classic_suite as classic_suite
from jaxdescent.problems.collections import hard_suite as hard_suite
from jaxdescent.problems.multimodal import ackley as ackley
from jaxdescent.problems.multimodal import griewank as griewank
from jaxdescent.problems.multimodal import levy as levy
from jaxdescent.problems.multimodal import michalewicz as michalewicz
from jaxdescent.problems.multimodal import rastrigin as rastrigin
from jaxdescent.problems.multimodal import rotated_rastrigin as rotated_rastrigin
from jaxdescent.problems.multimodal import schwefel as schwefel
from jaxdescent.problems.multimodal import styblinski_tang as styblinski_tang
from jaxdescent.problems.planar import beale as beale
from jaxdescent.problems.planar import booth as booth
from jaxdescent.problems.planar import easom as easom
from jaxdescent.problems.planar import goldstein_price as goldstein_price
from jaxdescent.problems.planar import himmelblau as himmelblau
from jaxdescent.problems.planar import mccormick as mccormick
from jaxdescent.problems.planar import six_hump_camel as six_hump_camel
from jaxdescent.problems.planar import three_hump_camel as three_hump_camel
from jaxdescent.problems.valleys import dixon_price as dixon_price
from jaxdescent.problems.valleys import rosenbrock as rosenbrock
from jaxdescent.problems.valleys import sum_squares as sum_squares
from jaxdescent.problems.valleys import zakharov as zakharov
