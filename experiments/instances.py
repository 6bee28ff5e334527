"""Test functions that are drawn anew for each run, for the studies of minimization.

All functions of a dimension share one JAX function that takes the function's number as an argument,
so that each method is compiled once instead of once per function.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd


class SwitchedFunction:
    """Several functions as one: `switched(x, number, *data)` evaluates the function `number`."""

    def __init__(self, functions: Sequence[Callable[..., jax.Array]]):
        self.functions = tuple(functions)

    def __call__(self, x: jax.Array, number: jax.Array, *data: jax.Array) -> jax.Array:
        """Returns the value of the function `number` at `x`."""
        return jax.lax.switch(number, self.functions, x, *data)


@dataclasses.dataclass(frozen=True)
class Instances:
    """One test function, drawn for many runs.

    Attributes:
      name: the function's name.
      problem: the problems; arrays that are drawn have a leading axis of runs.
      keys: the random keys of the runs.
    """

    name: str
    problem: jd.Problem
    keys: jax.Array

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, run: int) -> tuple[jd.Problem, jax.Array]:
        return jax.tree.map(lambda x: x[run], self.problem), self.keys[run]

    @property
    def dimension(self) -> int:
        """The number of coordinates."""
        return self.problem.lower.shape[-1]

    def first(self, runs: int) -> "Instances":
        """Returns the first `runs` runs."""
        problem, keys = jax.tree.map(lambda x: x[:runs], (self.problem, self.keys))
        return Instances(self.name, problem, keys)


def draw_problems(
    draw: Callable[[jax.Array], Mapping[str, jd.Problem]], seeds: Sequence[int]
) -> tuple[dict[str, jd.Problem], jax.Array]:
    """Draws problems, one of each name per seed.

    Args:
      draw: Called with a random key; returns problems by name.
      seeds: numbers, which are taken modulo 2^32.

    Returns:
      The problems, whose arrays have a leading axis of seeds, and the random keys of the runs.
    """
    keys = _keys(seeds)
    # One at a time: XLA on two cores can deadlock in several batches of matrix factorizations.
    draw_one = jax.jit(lambda key: dict(draw(key)))
    drawn = jax.tree.map(lambda *each: jnp.stack(each), *map(draw_one, keys))
    return drawn, run_keys(seeds)


def run_keys(seeds: Sequence[int]) -> jax.Array:
    """Returns a random key for each run, other than the key from which its problem is drawn."""
    return jax.vmap(lambda key: jax.random.fold_in(key, 7))(_keys(seeds))


def _keys(seeds: Sequence[int]) -> jax.Array:
    return jax.vmap(jax.random.key)(np.array([seed % 2**32 for seed in seeds], np.uint32))


def share_function(problems: Mapping[str, jd.Problem], keys: jax.Array) -> list[Instances]:
    """Returns instances of the drawn problems, which all have the same JAX function."""
    switched = _switched(tuple(problem.value_fn for problem in problems.values()))
    instances = []
    for number, (name, problem) in enumerate(problems.items()):
        data = (jnp.full(len(keys), number), *problem.data)
        shared = dataclasses.replace(problem, value_fn=switched, data=data, optima=None, name="")
        instances.append(Instances(name, shared, keys))
    return instances


_cache: dict[Any, SwitchedFunction] = {}


def _switched(functions: tuple[Any, ...]) -> SwitchedFunction:
    """Returns the same object for the same functions, so that compiled programs are reused."""
    return _cache.setdefault(functions, SwitchedFunction(functions))
