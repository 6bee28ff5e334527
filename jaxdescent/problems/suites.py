"""The twenty, by name, and the hard eight of them."""

import inspect
from collections.abc import Callable

import jax

from jaxdescent import validation
from jaxdescent.problem import Problem
from jaxdescent.problems import multimodal, two_dimensional, valleys

CLASSIC_SUITE: dict[str, Callable[..., Problem]] = {
    maker.__name__: maker
    for maker in (
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
"""The makers of the twenty, by name."""


def classic_suite(
    dimension: int = 2, *, key: jax.Array | None = None, rotated: bool = False
) -> dict[str, Problem]:
    """The twenty test functions.

    Args:
      dimension: of those that have a choice, at least 2; eight are of two variables.
      key: what shifts are drawn from, one for each; None leaves all as in the textbook.
      rotated: whether the key also gives rotations; rotated Rastrigin has one regardless.

    Returns:
      The problems by the names of their makers.

    Raises:
      ValueError: the dimension is too small, or there is no key to draw rotations from.

    Example:
      >>> problems = classic_suite(5)
      >>> len(problems), problems["levy"].dimension, problems["booth"].dimension
      (20, 5, 2)
    """
    n = validation.integer_in("dimension", dimension, 2)
    key = key if key is None else validation.random_key("key", key)
    problems = {}
    for index, (name, maker) in enumerate(CLASSIC_SUITE.items()):
        takes = inspect.signature(maker).parameters
        options = {"dimension": n, "rotated": rotated}
        options = {option: value for option, value in options.items() if option in takes}
        own = None if key is None else jax.random.fold_in(key, index)
        problems[name] = maker(key=own, **options)
    return problems


def hard_suite(dimension: int = 2, *, key: jax.Array) -> dict[str, Problem]:
    """The first eight of the twenty, all shifted and rotated.

    Rastrigin's function is in it twice, with two draws.

    Args:
      dimension: at least 2.
      key: what shifts and rotations are drawn from.

    Returns:
      The problems by the names of their makers. Those of another key and the same dimension
      run in the same compiled programs.

    Raises:
      ValueError: the dimension is too small.

    Example:
      >>> list(hard_suite(key=jax.random.key(0)))[:4]
      ['ackley', 'rastrigin', 'rotated_rastrigin', 'griewank']
    """
    n = validation.integer_in("dimension", dimension, 2)
    key = validation.random_key("key", key)
    problems = {}
    for index, (name, maker) in enumerate(list(CLASSIC_SUITE.items())[:8]):
        options = {} if name == "rotated_rastrigin" else {"rotated": True}
        problems[name] = maker(n, key=jax.random.fold_in(key, index), **options)
    return problems
