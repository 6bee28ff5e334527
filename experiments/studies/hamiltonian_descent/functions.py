"""The 22 functions of two variables on which quantum Hamiltonian descent was published.

Some differ from the textbook's: they have smaller boxes, in which one minimizer is global, or a
factor. Boxes are squares. The published probabilities are for T = 10 on a grid of 256 x 256; 1.0
stands for more than .999.

Alpine 1 is 0 wherever sin x = -0.1 in each coordinate, too. As published, only its minimizer at the
origin counts as a success.

Source: J. Leng, E. Hickman, J. Li, X. Wu 2023, arXiv:2303.01471, and the setup of its experiments.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

import jaxdescent as jd
from experiments.instances import SwitchedFunction
from experiments.studies.hybrid.functions import DEVELOPMENT, REPORT
from experiments.studies.hybrid.functions.known import Known, norm, root


class Benchmark(NamedTuple):
    """A function with its published results.

    Attributes:
      title: name in tables.
      make: returns the problem, whose first optimum is the published minimizer.
      published: the published probability of success of the quantum algorithm.
      classical: the published probabilities of Nesterov's method and of stochastic gradient
        descent, or None.
    """

    title: str
    make: Callable[[], jd.Problem]
    published: float
    classical: tuple[float, float] | None = None

    def problem(self) -> jd.Problem:
        """Returns the problem in its square."""
        problem = self.make()
        return dataclasses.replace(problem, optima=problem.optima[:1], name=self.title)


def _in_box(problem: jd.Problem, low: float, high: float) -> jd.Problem:
    """Returns a problem in another square."""
    corner = jnp.ones_like(problem.lower)
    return dataclasses.replace(problem, lower=low * corner, upper=high * corner)


def _scaled(problem: jd.Problem, factor: float) -> jd.Problem:
    """Returns a problem whose values are multiplied by a factor."""
    return dataclasses.replace(
        problem,
        value_fn=_Scaled(problem.value_fn, factor),
        minimum=factor * problem.minimum,
    )


@dataclasses.dataclass(frozen=True)
class _Scaled:
    """A function times a factor."""

    function: Callable[..., jax.Array]
    factor: float

    def __call__(self, x: jax.Array, *data: jax.Array) -> jax.Array:
        return self.factor * self.function(x, *data)


def _ackley_2(x: jax.Array) -> jax.Array:
    return -200 * jnp.exp(-0.2 * norm(x))


def _alpine_2(x: jax.Array) -> jax.Array:
    return -jnp.prod(root(x) * jnp.sin(x))


def _bohachevsky_2(x: jax.Array) -> jax.Array:
    waves = jnp.cos(3 * math.pi * x[0]) * jnp.cos(4 * math.pi * x[1])
    return x[0] ** 2 + 2 * x[1] ** 2 + 0.3 * (1 - waves)


def _csendes(x: jax.Array) -> jax.Array:
    safe = jnp.where(x == 0, 1, x)
    return jnp.sum(jnp.where(x == 0, 0, safe**6 * (2 + jnp.sin(1 / safe))))


def _deflected_corrugated_spring(x: jax.Array) -> jax.Array:
    return 0.1 * jnp.sum((x - 5) ** 2) - jnp.cos(5 * norm(x - 5))


def _centered_easom(x: jax.Array) -> jax.Array:
    return -jnp.prod(jnp.cos(x) * jnp.exp(-(x**2)))


def _short_shubert(x: jax.Array) -> jax.Array:
    a, b = x
    first = jnp.cos(2 * a + 1) + 2 * jnp.cos(3 * a + 2) + 3 * jnp.cos(4 * a + 3)
    return first * (jnp.cos(2 * b + 1) + jnp.cos(b + 2))


def _xin_she_yang_3(x: jax.Array) -> jax.Array:
    plateau = jnp.exp(-jnp.sum((x / 15) ** 6))
    return plateau - 2 * jnp.prod(jnp.exp(-(x**2)) * jnp.cos(x) ** 2)


_ALPINE_2 = 7.917052684666207  # the root of tan x = -2 x near 7.9
_SHUBERT = (-0.7146204558690397, 1.0849510482021818)

BENCHMARKS = {
    "ackley": Benchmark("Ackley", jd.problems.ackley, 0.992),
    "ackley_2": Benchmark("Ackley 2", Known(_ackley_2, -32, 32, (0, 0), -200).problem, 1.0),
    "alpine_1": Benchmark("Alpine 1", DEVELOPMENT["alpine_1"].problem, 0.968),
    "alpine_2": Benchmark(
        "Alpine 2",
        Known(_alpine_2, 0, 10, (_ALPINE_2, _ALPINE_2), -7.885600724127533).problem,
        0.596,
    ),
    "bohachevsky_2": Benchmark(
        "Bohachevsky 2", Known(_bohachevsky_2, -5, 5, (0, 0), 0).problem, 1.0
    ),
    "camel_3": Benchmark(
        "three-hump camel", lambda: _in_box(jd.problems.three_hump_camel(), -2, 2), 0.980
    ),
    "csendes": Benchmark("Csendes", Known(_csendes, -1, 1, (0, 0), 0).problem, 0.800),
    "spring": Benchmark(
        "deflected corrugated spring",
        Known(_deflected_corrugated_spring, 0, 10, (5, 5), -1).problem,
        0.000,
    ),
    "drop_wave": Benchmark("drop wave", DEVELOPMENT["drop_wave"].problem, 0.706, (0.014, 0.022)),
    "easom": Benchmark("Easom", Known(_centered_easom, -10, 10, (0, 0), -1).problem, 0.188),
    "griewank": Benchmark(
        "Griewank", lambda: _in_box(jd.problems.griewank(), -10, 10), 0.081, (0.075, 0.074)
    ),
    "holder_table": Benchmark(
        "Holder table", lambda: _in_box(DEVELOPMENT["holder_table"].problem(), 0, 10), 0.825
    ),
    "hosaki": Benchmark("Hosaki", lambda: _in_box(REPORT["hosaki"].problem(), 0, 5), 0.961),
    "levy": Benchmark("Levy", jd.problems.levy, 1.0, (0.095, 0.094)),
    "levy_13": Benchmark("Levy 13", lambda: _scaled(DEVELOPMENT["levy_13"].problem(), 0.05), 1.0),
    "michalewicz": Benchmark("Michalewicz", jd.problems.michalewicz, 0.797),
    "rastrigin": Benchmark("Rastrigin", jd.problems.rastrigin, 1.0, (0.000, 0.047)),
    "rosenbrock": Benchmark(
        "Rosenbrock",
        lambda: _scaled(_in_box(jd.problems.rosenbrock(), -1.5, 1.5), 0.01),
        0.002,
        (1.000, 0.094),
    ),
    "shubert": Benchmark(
        "Shubert, short", Known(_short_shubert, -2, 2, _SHUBERT, -11.70551804140347).problem, 0.619
    ),
    "styblinski_tang": Benchmark(
        "Styblinski-Tang",
        lambda: _scaled(jd.problems.styblinski_tang(), 1 / 78),
        0.469,
        (0.269, 0.276),
    ),
    "sum_squares": Benchmark(
        "sum of squares", lambda: _in_box(jd.problems.sum_squares(), -1, 1), 1.0
    ),
    "xin_she_yang_3": Benchmark(
        "Xin-She Yang 3", Known(_xin_she_yang_3, -20, 20, (0, 0), -1).problem, 0.007
    ),
}


def shared_problems(names: Sequence[str]) -> dict[str, jd.Problem]:
    """Returns problems that share one JAX function, so that each method is compiled once."""
    problems = {name: BENCHMARKS[name].problem() for name in names}
    switched = SwitchedFunction([problem.value_fn for problem in problems.values()])
    return {
        name: dataclasses.replace(problem, value_fn=switched, data=(jnp.asarray(number),), name="")
        for number, (name, problem) in enumerate(problems.items())
    }


class GradientBenchmark(NamedTuple):
    """A function on which the form with a gradient term was published.

    Attributes:
      title: name in tables.
      make: returns the problem.
      end_time: the time of the measurement.
      published: read off the paper's figure, the probability of a value less than 1 above the
        minimum: with the gradient term, without, Nesterov's method, and stochastic gradient descent
        with momentum.
    """

    title: str
    make: Callable[[], jd.Problem]
    end_time: float
    published: tuple[float, float, float, float]


def _cube_wave(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.cos(math.pi * x) ** 2 + x**4 / 4)


_CUBE_WAVE = 0.4938950679659781  # the root of pi sin(2 pi x) = x^3 near 1 / 2

GRADIENT_BENCHMARKS = {
    "michalewicz": GradientBenchmark(
        "Michalewicz", jd.problems.michalewicz, 10.0, (0.91, 0.75, 0.71, 0.22)
    ),
    "cube_wave": GradientBenchmark(
        "cube wave",
        Known(_cube_wave, -2, 2, (_CUBE_WAVE, _CUBE_WAVE), 0.030487086763567848).problem,
        10.0,
        (1.00, 0.93, 0.27, 0.26),
    ),
    "rastrigin": GradientBenchmark(
        "Rastrigin", lambda: _in_box(jd.problems.rastrigin(), -3, 3), 5.0, (0.61, 0.10, 0.13, 0.02)
    ),
}
