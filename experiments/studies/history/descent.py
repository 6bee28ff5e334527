"""Paths of transformations on a landscape, for all learning rates of the grid in one program.

    x_0 = start,    x_{k+1} = x_k + update(gradient at x_k)

All methods take their steps in one scan; `vmap` runs the learning rates of a method side by side.
A step costs one gradient, which counts as one evaluation, so that x_k costs k evaluations. The
value at x_k is not counted: the next gradient has it.

A path at a large learning rate jumps from place to place, and rounding decides where. So a value
counts only if it is not exceeded by the next nine: the settled value at k is the greatest value at
x_k, ..., x_(k+9).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.history.landscapes import Landscape
from experiments.studies.history.methods import METHODS
from experiments.studies.history.settings import SOLVED

SETTLED = 10
"""Number of successive points of which the greatest value counts."""


class Path(NamedTuple):
    """Points of a method on a landscape.

    Attributes:
      points: f32[n, 2], in the plane of the landscape.
      excess: f64[n], the settled values there minus the minimum, or for searches the best values so
        far; inf where they are not finite.
      evaluations: i64[n], the number of evaluations up to each point.
      learning_rate: f64[], nan for methods without one to choose.
      reached: i64[], the number of evaluations up to the first value less than `SOLVED` above the
        minimum; -1 if it never happens.
      tuned: i64[], the same with the other learning rates of the grid, side by side; -1 likewise.
      agents: f32[n, m, 2], all agents of a population; m is 0 for other methods. NaN where an agent
        was pruned.
    """

    points: np.ndarray
    excess: np.ndarray
    evaluations: np.ndarray
    learning_rate: np.ndarray
    reached: np.ndarray
    tuned: np.ndarray
    agents: np.ndarray

    @property
    def least(self) -> np.ndarray:
        """f64[n], the least excess up to each point."""
        return np.minimum.accumulate(self.excess)


class Traces(NamedTuple):
    """Paths of a method for several learning rates.

    Attributes:
      params: f32[n, rates, 2], or f32[n, rates, 2, 2] for a matrix.
      values: f32[n, rates].
    """

    params: Any
    values: Any


def descend(
    landscape: Landscape, names: Sequence[str], rates: Sequence[float], steps: int
) -> dict[str, Traces]:
    """Returns the paths of methods for all learning rates, from the landscape's start.

    Args:
      landscape: the function and the start.
      names: keys of `METHODS`, all with a transformation.
      rates: the learning rates of methods of kind "grid"; other methods run once.
      steps: the number of steps.
    """
    grids = tuple((name, grid(name, rates)) for name in names)
    traces = _descend(landscape.problem, jnp.asarray(landscape.start), grids, steps)
    return jax.device_get(traces)


def grid(name: str, rates: Sequence[float]) -> tuple[float, ...]:
    """Returns the learning rates of a method: the given ones, or (0,) if it does not use them."""
    return tuple(rates) if METHODS[name].kind == "grid" else (0.0,)


@partial(jax.jit, static_argnums=(2, 3))
def _descend(
    problem: Any, start: jax.Array, grids: Sequence[tuple[str, Sequence[float]]], steps: int
) -> dict[str, Traces]:
    learning_rates = {name: jnp.asarray(rates, start.dtype) for name, rates in grids}

    def make(name: str, rate: jax.Array) -> Any:
        factory: Any = METHODS[name].make
        return factory(rate)

    def begin(name: str, rate: jax.Array) -> Any:
        return start, make(name, rate).init(start)

    def record(name: str, x: Any, state: Any) -> Traces:
        evaluated = METHODS[name].evaluated
        x = x if evaluated is None else evaluated(state, x)
        return Traces(x, problem.value(x))

    def step_one(name: str, rate: jax.Array, carry: Any) -> Any:
        x, state = carry
        method = METHODS[name]
        value, grad = problem.value_and_grad(x)
        extra = {"value": value} if method.takes_value else {}
        updates, state = make(name, rate).update(grad, state, x, **extra)
        x = optax.apply_updates(x, updates)
        return (x, state), record(name, x, state)

    def step(carry: Any, _: None) -> Any:
        after = {
            name: jax.vmap(partial(step_one, name))(learning_rates[name], carry[name])
            for name in learning_rates
        }
        carry = {name: new for name, (new, _) in after.items()}
        return carry, {name: trace for name, (_, trace) in after.items()}

    carry = {name: jax.vmap(partial(begin, name))(rates) for name, rates in learning_rates.items()}
    first = {name: jax.vmap(partial(record, name))(*carry[name]) for name in carry}
    _, later = jax.lax.scan(step, carry, length=steps)
    return jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), first, later)


def best_path(landscape: Landscape, traces: Traces, rates: Sequence[float]) -> Path:
    """Returns the path of the best learning rate.

    The best learning rate solves the landscape with the fewest evaluations. If no learning rate
    does, it is the one with the least settled value.

    Args:
      landscape: the function.
      traces: paths, one for each learning rate.
      rates: the learning rates; 0 stands for a method without one.
    """
    excess = np.asarray(traces.values, np.float64) - float(landscape.problem.minimum)
    excess = settled(np.where(np.isfinite(excess), excess, np.inf))
    reached = np.array([first_below(each) for each in excess.T])
    order = np.lexsort((excess.min(0), np.where(reached < 0, np.iinfo(np.int64).max, reached)))
    best = int(order[0])
    is_solved = reached[best] >= 0
    return Path(
        points=landscape.to_plane(traces.params[: len(excess), best]),
        excess=excess[:, best],
        evaluations=np.arange(len(excess)),
        learning_rate=np.array(rates[best] or np.nan),
        reached=np.array(reached[best]),
        tuned=np.array(reached[best] * (len(rates) if is_solved else 1)),
        agents=np.zeros((len(excess), 0, 2), np.float32),
    )


def settled(values: np.ndarray) -> np.ndarray:
    """Returns the greatest of `SETTLED` successive values, f[n - 9, ...], of values f[n, ...]."""
    windows = np.lib.stride_tricks.sliding_window_view(values, min(SETTLED, len(values)), axis=0)
    return windows.max(-1)


def first_below(excess: np.ndarray, threshold: float = SOLVED) -> int:
    """Returns the index of the first excess, f[n], below a threshold; -1 if it never happens."""
    below = np.flatnonzero(excess < threshold)
    return int(below[0]) if below.size else -1


def paths(
    landscape: Landscape, names: Sequence[str], rates: Sequence[float], steps: int
) -> Mapping[str, Path]:
    """Returns the path of each method at its best learning rate."""
    traces = descend(landscape, names, rates, steps)
    return {name: best_path(landscape, traces[name], grid(name, rates)) for name in names}
