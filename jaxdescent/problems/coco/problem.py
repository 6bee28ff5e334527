"""BBOB, the 24 noiseless functions that black-box optimizers are compared on, with gradients.

Sources: N. Hansen, S. Finck, R. Ros, A. Auger, 2009, INRIA RR-6829; the platform is N. Hansen
et al., 2021, arXiv:1603.08785.
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
    """A function of BBOB, of x and an instance's constants; two of a number are equal."""

    number: int

    def __call__(self, x: jax.Array, instance: Constants) -> jax.Array:
        """The value at x."""
        x = x.astype(jnp.result_type(float, x))
        of_dtype: Any = jax.tree.map(lambda c: jnp.asarray(c, x.dtype), instance)
        function = FUNCTIONS[self.number - 1]
        value = function.above(x if function.of_x else x - of_dtype.x_opt, of_dtype)
        return value + of_dtype.penalty * outside(x) + of_dtype.f_opt


def bbob(number: int, dimension: int = 2, instance: int = 1, *, offset: bool = True) -> Problem:
    """One of the 24 functions of BBOB, in an instance: the function that `cocoex` has.

    The numbers follow COCO's: 1 to 5 are separable (sphere, ellipsoid, Rastrigin,
    Bueche-Rastrigin, linear slope), 6 to 9 of low or moderate condition (attractive sector, step
    ellipsoid, Rosenbrock, the same rotated), 10 to 14 of high condition (ellipsoid, discus, bent
    cigar, sharp ridge, different powers), 15 to 19 multimodal with structure (Rastrigin,
    Weierstrass, Schaffers twice, Griewank-Rosenbrock), 20 to 24 with little of it (Schwefel,
    Gallagher twice, Katsuura, Lunacek).

    Args:
      number: in [1, 24].
      dimension: n in [2, 40].
      instance: at least 1. It moves minimizer and minimum, and draws other rotations.
      offset: whether the minimum is COCO's f_opt, up to 1000 in size, or 0. In float32 values
        near an f_opt of 1000 have steps of 6e-5; without it they are as fine as the function.

    Returns:
      The problem, in [-5, 5]^n, in float64 where x64 is on when this is called. Instances of a
      number and dimension share compiled programs. `optima` holds the one that COCO knows:
      in 5 it is a corner of the box; 7, a staircase, 16 and 23 have others.

      In float64 values are COCO's within 4e-11, relative to the larger of 1 and |f|, in 2, 5, 10,
      20 and 40 dimensions and instances 1 to 15. In float32 they are within 6e-4, but for 16
      (1e-2), 19 (8e-2) and 23 (4e-3), whose finest waves are shorter than float32's steps. Both
      are from `experiments.benchmarks.bbob`, at 1,500 uniform points of the box for each.

      Gradients are finite in the box and around it. Where there is no derivative, as on ridges
      and at the tips of cones, they are one-sided or 0. On the plateaus of 7 they are 0.

    Raises:
      ValueError: a number is out of range.

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
    return Problem(Bbob(number), -border, border, (arrays,), arrays.x_opt[None], arrays.f_opt, name)
