"""Suites of the classic test functions, by name."""

import inspect
from collections.abc import Callable

import jax

from jaxdescent import validation
from jaxdescent.problem import Problem
from jaxdescent.problems import multimodal, two_dimensional, valleys

CLASSIC_SUITE: dict[str, Callable[..., Problem]] = {
    factory.__name__: factory
    for factory in (
        multimodal.ackley,
        multimodal.rastrigin,
        multimodal.rotated_rastrigin,
        multimodal.griewank,
        multimodal.levy,
        valleys.rosenbrock,
        multimodal.styblinski_tang,
        multimodal.schwefel,
        two_dimensional.himmelblau,
        two_dimensional.beale,
        two_dimensional.booth,
        two_dimensional.easom,
        two_dimensional.goldstein_price,
        two_dimensional.mccormick,
        multimodal.michalewicz,
        valleys.dixon_price,
        valleys.zakharov,
        valleys.sum_squares,
        two_dimensional.three_hump_camel,
        two_dimensional.six_hump_camel,
    )
}
"""The functions that create the twenty classic problems, by name."""


def classic_suite(
    dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False
) -> dict[str, Problem]:
    """Returns the twenty classic test functions.

    Args:
      dimension: at least 2; eight of the functions always have two variables.
      key: random key of the shifts, or None for the textbook's functions.
      rotated: whether to rotate the functions too. Rotated Rastrigin is always rotated.

    Returns:
      The problems, by the names in `CLASSIC_SUITE`.

    Raises:
      ValueError: the dimension is too small, or `rotated` is True without a key.

    Example:
      >>> problems = classic_suite(5)
      >>> len(problems), problems["levy"].dimension, problems["booth"].dimension
      (20, 5, 2)
    """
    n = validation.integer_in("dimension", dimension, 2)
    key = key if key is None else validation.random_key("key", key)
    problems = {}
    for index, (name, factory) in enumerate(CLASSIC_SUITE.items()):
        parameters = inspect.signature(factory).parameters
        options = {"dimension": n, "rotated": rotated}
        options = {option: value for option, value in options.items() if option in parameters}
        problem_key = None if key is None else jax.random.fold_in(key, index)
        problems[name] = factory(key=problem_key, **options)
    return problems


def hard_suite(dimension: int = 2, *, key: jax.Array) -> dict[str, Problem]:
    """Returns the first eight classic test functions, shifted and rotated.

    The suite contains Rastrigin's function twice, with different shifts and rotations.

    Args:
      dimension: at least 2.
      key: random key of the shifts and rotations.

    Returns:
      The problems, by the names in `CLASSIC_SUITE`. Problems of one dimension share compiled
      programs across keys.

    Raises:
      ValueError: the dimension is too small.

    Example:
      >>> list(hard_suite(key=jax.random.key(0)))[:4]
      ['ackley', 'rastrigin', 'rotated_rastrigin', 'griewank']
    """
    n = validation.integer_in("dimension", dimension, 2)
    key = validation.random_key("key", key)
    problems = {}
    for index, (name, factory) in enumerate(list(CLASSIC_SUITE.items())[:8]):
        options = {} if name == "rotated_rastrigin" else {"rotated": True}
        problems[name] = factory(n, key=jax.random.fold_in(key, index), **options)
    return problems
