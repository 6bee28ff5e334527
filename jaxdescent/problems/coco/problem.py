"""BBOB, a benchmark of 24 noiseless functions for black-box optimizers, with gradients.

Sources: N. Hansen, S. Finck, R. Ros, A. Auger, 2009, INRIA RR-6829 (the functions); N. Hansen et
al., 2021, arXiv:1603.08785 (the COCO platform).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdescent import validation
from jaxdescent.problem import Problem
from jaxdescent.problems.coco.constants import Constants, constants
from jaxdescent.problems.coco.functions import FUNCTIONS
from jaxdescent.problems.coco.transformations import outside


@dataclasses.dataclass(frozen=True)
class Bbob:
    """A BBOB function of x and an instance's constants. Equal numbers make equal functions."""

    number: int

    def __call__(self, x: jax.Array, instance: Constants) -> jax.Array:
        """Returns the value at x."""
        x = x.astype(jnp.result_type(float, x))
        c: Any = jax.tree.map(lambda constant: jnp.asarray(constant, x.dtype), instance)
        function = FUNCTIONS[self.number - 1]
        value = function.evaluate(x if function.takes_x else x - c.x_opt, c)
        return value + c.penalty * outside(x) + c.f_opt


def bbob(number: int, dimension: int = 2, instance: int = 1, *, offset: bool = True) -> Problem:
    """Creates an instance of one of the 24 BBOB functions, equal to the function of `cocoex`.

    Functions are numbered as in COCO: 1 to 5 are separable (sphere, ellipsoid, Rastrigin,
    Bueche-Rastrigin, linear slope), 6 to 9 have low or moderate condition numbers (attractive
    sector, step ellipsoid, Rosenbrock, rotated Rosenbrock), 10 to 14 have high condition numbers
    (ellipsoid, discus, bent cigar, sharp ridge, different powers), 15 to 19 are multimodal with
    global structure (Rastrigin, Weierstrass, Schaffers twice, Griewank-Rosenbrock), 20 to 24 are
    multimodal with weak global structure (Schwefel, Gallagher twice, Katsuura, Lunacek).

    Args:
      number: the function, in [1, 24].
      dimension: n in [2, 40].
      instance: at least 1. Determines the minimizer, the minimum and the rotations.
      offset: if True, the minimum is COCO's f_opt, up to 1000 in size; if False, it is 0. Float32
        numbers near 1000 are 6e-5 apart, so that an offset limits the precision of small values.

    Returns:
      The problem, in float64 if x64 is enabled at this call. Starts are in [-5, 5]^n. As in COCO,
      x may leave this box: `bounds` is None. To stay in it, minimize
      `dataclasses.replace(problem, bounds="project")`. Instances of one number and dimension share
      compiled programs. `optima` holds the optimum that COCO documents: for 5 it is a corner of the
      box; 7, a staircase, 16 and 23 have further optima.

      In float64, values agree with COCO within 4e-11, relative to the larger of 1 and |f|, in 2,
      5, 10, 20 and 40 dimensions and instances 1 to 15. In float32, they agree within 6e-4, except
      16 (1e-2), 19 (8e-2) and 23 (4e-3), whose shortest waves float32 cannot resolve. Both results
      are from `experiments.benchmarks.bbob`, at 1,500 uniform points of the box for each function.

      Gradients are finite in the box and around it. At points without a derivative, such as
      ridges and the tips of cones, they are one-sided or 0. On the plateaus of 7 they are 0.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> problem = bbob(8, dimension=5, instance=3, offset=False)
      >>> problem.name, float(problem.value(problem.optima[0]))
      ('f8 Rosenbrock', 0.0)
    """
    number = validation.integer_in("number", number, 1, len(FUNCTIONS))
    n = validation.integer_in("dimension", dimension, 2, 40)
    numbers = constants(number, n, validation.integer_in("instance", instance, 1))
    if not offset:
        numbers = numbers._replace(f_opt=0.0)
    arrays: Any = jax.tree.map(lambda c: jnp.asarray(c, float), numbers)
    border = jnp.full(n, 5.0)
    name = f"f{number} {FUNCTIONS[number - 1].name}"
    optima, minimum = arrays.x_opt[None], arrays.f_opt
    return Problem(Bbob(number), -border, border, (arrays,), optima, minimum, name, bounds=None)
