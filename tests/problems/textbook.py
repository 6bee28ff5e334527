"""The classic suite as in the literature, in NumPy: formula, minimum, one minimizer."""

from typing import NamedTuple

import numpy as np
from numpy import cos, exp, pi, prod, sin, sqrt


class Entry(NamedTuple):
    formula: object
    minimum: float  # published, for two variables
    minimizer: tuple[float, ...]


def index(x):
    return np.arange(1, x.size + 1)


def ackley(x):
    bowl = -20 * exp(-0.2 * sqrt(np.mean(x**2)))
    return bowl - exp(np.mean(cos(2 * pi * x))) + 20 + np.e


def rastrigin(x):
    return 10 * x.size + np.sum(x**2 - 10 * cos(2 * pi * x))


def griewank(x):
    return np.sum(x**2) / 4000 - prod(cos(x / sqrt(index(x)))) + 1


def levy(x):
    w = 1 + (x - 1) / 4
    inner = np.sum((w[:-1] - 1) ** 2 * (1 + 10 * sin(pi * w[:-1] + 1) ** 2))
    last = (w[-1] - 1) ** 2 * (1 + sin(2 * pi * w[-1]) ** 2)
    return sin(pi * w[0]) ** 2 + inner + last


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def styblinski_tang(x):
    return 0.5 * np.sum(x**4 - 16 * x**2 + 5 * x)


def schwefel(x):
    return 418.9828872724339 * x.size - np.sum(x * sin(sqrt(np.abs(x))))


def michalewicz(x):
    return -np.sum(sin(x) * sin(index(x) * x**2 / pi) ** 20)


def dixon_price(x):
    return (x[0] - 1) ** 2 + np.sum(index(x)[1:] * (2 * x[1:] ** 2 - x[:-1]) ** 2)


def zakharov(x):
    s = np.sum(0.5 * index(x) * x)
    return np.sum(x**2) + s**2 + s**4


def sum_squares(x):
    return np.sum(index(x) * x**2)


def himmelblau(v):
    x, y = v
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def beale(v):
    x, y = v
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def booth(v):
    x, y = v
    return (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2


def easom(v):
    x, y = v
    return -cos(x) * cos(y) * exp(-((x - pi) ** 2) - (y - pi) ** 2)


def goldstein_price(v):
    x, y = v
    first = 19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2
    second = 18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2
    return (1 + (x + y + 1) ** 2 * first) * (30 + (2 * x - 3 * y) ** 2 * second)


def mccormick(v):
    x, y = v
    return sin(x + y) + (x - y) ** 2 - 1.5 * x + 2.5 * y + 1


def three_hump_camel(v):
    x, y = v
    return 2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2


def six_hump_camel(v):
    x, y = v
    return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (-4 + 4 * y**2) * y**2


PUBLISHED = {
    "ackley": Entry(ackley, 0.0, (0.0, 0.0)),
    "rastrigin": Entry(rastrigin, 0.0, (0.0, 0.0)),
    "griewank": Entry(griewank, 0.0, (0.0, 0.0)),
    "levy": Entry(levy, 0.0, (1.0, 1.0)),
    "rosenbrock": Entry(rosenbrock, 0.0, (1.0, 1.0)),
    "styblinski_tang": Entry(styblinski_tang, -78.33233, (-2.903534, -2.903534)),
    "schwefel": Entry(schwefel, 0.0, (420.9687, 420.9687)),
    "himmelblau": Entry(himmelblau, 0.0, (3.584428, -1.848126)),
    "beale": Entry(beale, 0.0, (3.0, 0.5)),
    "booth": Entry(booth, 0.0, (1.0, 3.0)),
    "easom": Entry(easom, -1.0, (pi, pi)),
    "goldstein_price": Entry(goldstein_price, 3.0, (0.0, -1.0)),
    "mccormick": Entry(mccormick, -1.9133, (-0.54719, -1.54719)),
    "michalewicz": Entry(michalewicz, -1.8013, (2.2029, 1.5708)),
    "dixon_price": Entry(dixon_price, 0.0, (1.0, 2**-0.5)),
    "zakharov": Entry(zakharov, 0.0, (0.0, 0.0)),
    "sum_squares": Entry(sum_squares, 0.0, (0.0, 0.0)),
    "three_hump_camel": Entry(three_hump_camel, 0.0, (0.0, 0.0)),
    "six_hump_camel": Entry(six_hump_camel, -1.0316, (-0.0898, 0.7126)),
}
