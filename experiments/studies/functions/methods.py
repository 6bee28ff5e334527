"""Methods against test functions, at budgets of gradients: who finds the minimum how often.

Every function is drawn anew for each run, shifted and rotated, and its box scaled to [0, 1], so
that a learning rate means the same for all. One function of a number and the other's arrays
stands for all functions of a dimension: a method is compiled once and not twenty times.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd

SOLVED = 1e-4
"""Above the minimum, where a run counts as a success."""

QUOTED, TUNING, TUNED = 0, 1000, 40
"""The first seeds of runs that are quoted, and of those that settings are chosen on, so many."""


class AnyOf:
    """A number and a point to the value there of the function of that number."""

    def __init__(self, functions: Sequence[Callable[..., jax.Array]]):
        self.functions = tuple(functions)

    def __call__(self, x: jax.Array, number: jax.Array, *data: jax.Array) -> jax.Array:
        """The value."""
        return jax.lax.switch(number, self.functions, x, *data)


@dataclasses.dataclass(frozen=True)
class Instances:
    """The same function, drawn for many runs.

    Attributes:
      name: of the function.
      problem: with a leading axis of runs in all that is drawn.
      keys: of the runs.
    """

    name: str
    problem: jd.Problem
    keys: jax.Array

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, run: int) -> tuple[jd.Problem, jax.Array]:
        return jax.tree.map(lambda x: x[run], self.problem), self.keys[run]

    def first(self, runs: int) -> "Instances":
        """So many of them."""
        problem, keys = jax.tree.map(lambda x: x[:runs], (self.problem, self.keys))
        return Instances(self.name, problem, keys)


def instances(names: Sequence[str], dimension: int, seeds: Sequence[int]) -> list[Instances]:
    """Functions of the twenty by their names, for runs of these seeds."""

    def draw(key: jax.Array) -> dict[str, jd.Problem]:
        drawn = jd.problems.classic_suite(dimension, key=key, rotated=True)
        return {name: drawn[name].in_unit_box() for name in names}

    keys = jax.vmap(jax.random.key)(np.array([seed % 2**32 for seed in seeds], np.uint32))
    starts = jax.vmap(lambda key: jax.random.fold_in(key, 7))(keys)
    scaled = jax.jit(jax.vmap(draw))(keys)
    scaled = {name: scaled[name] for name in names}
    any_of = _any_of(tuple(problem.value_fn for problem in scaled.values()))
    found = []
    for number, (name, problem) in enumerate(scaled.items()):
        data = (jnp.full(len(keys), number), *problem.data)
        same = jd.Problem(any_of, problem.lower, problem.upper, data, None, problem.minimum)
        found.append(Instances(name, same, starts))
    return found


_known: dict[Any, AnyOf] = {}


def _any_of(functions: tuple[Any, ...]) -> AnyOf:
    return _known.setdefault(functions, AnyOf(functions))


class Found(NamedTuple):
    """What a method came to, run by run.

    Attributes:
      excess: f64[runs], the best value minus the minimum.
      gradients: i64[runs].
      evaluations: i64[runs], of the function, those that came with a gradient included.
    """

    excess: np.ndarray
    gradients: np.ndarray
    evaluations: np.ndarray

    @property
    def solved(self) -> np.ndarray:
        """bool[runs]."""
        return self.excess < SOLVED

    def __getitem__(self, runs: Any) -> "Found":
        return Found(*(x[runs] for x in tuple(self)))


Method = Callable[[Instances, int], Found]
"""From runs of a function and a budget of gradients to what was found."""


def wilson(successes: int, runs: int) -> tuple[float, float]:
    """The 95% score interval of a proportion (E. Wilson 1927)."""
    z = 1.959964
    center = (successes + z * z / 2) / (runs + z * z)
    share = successes / runs
    reach = z / (runs + z * z) * np.sqrt(runs * share * (1 - share) + z * z / 4)
    return max(float(center - reach), 0.0), min(float(center + reach), 1.0)


# One setting for all functions and dimensions, chosen by hand on the tuning keys.
AGENTS, RUNGS, ETA = 768, 6, 4.0
SCALES, PERIODS = (4e-3, 2e-2), (32.0, 512.0)
B1, B2 = 0.8, 0.9


def agent(scale: jax.Array, period: jax.Array, key: jax.Array) -> optax.GradientTransformation:
    """Adam whose rate falls as an inverse square over each period, and jumps between them."""
    rate = lambda count: scale / 2 * (1 + 20 * count / period) ** -2.0
    return jd.basin_hopping(optax.adam(rate, b1=B1, b2=B2), period=period, jump=scale, key=key)


def spread(agents: int, key: jax.Array) -> dict[str, jax.Array]:
    """Each agent's own scale and period, spread evenly in the logarithms (a golden lattice).

    Its jumps are drawn from a key of its own and the run's: runs are independent.
    """
    number = jnp.arange(agents)
    shares = {"scale": (number * 0.6180339887) % 1, "period": (number + 0.5) / agents}
    ends = {"scale": SCALES, "period": PERIODS}
    own = {name: low * (high / low) ** shares[name] for name, (low, high) in ends.items()}
    return own | {"key": jax.random.split(key, agents)}


HALVING = jd.pruning.successive_halving(ETA, by="best")
NEVER = jd.pruning.no_pruning()


def magd(runs: Instances, budget: int, agents: int = AGENTS, rule: jd.Rule = HALVING) -> Found:
    """The population of `agent`s, pruned. One run at a time: their loops differ in length."""
    found = []
    for run in range(len(runs)):
        problem, key = runs[run]
        result = jd.minimize(
            problem,
            agent,
            key=key,
            num_agents=agents,
            hyperparams=spread(agents, key),
            gradients=budget,
            rungs=RUNGS,
            rule=rule,
            chunk_size=32,
        )
        excess = float(result.value) - float(problem.minimum)
        found.append((excess, result.gradients, result.evaluations))
    return Found(*map(np.array, zip(*found, strict=True)))


def unpruned(runs: Instances, budget: int, agents: int) -> Found:
    """Agents of the same kind, so many and never pruned, each with an equal share of the budget."""
    hyperparams = jax.vmap(partial(spread, agents))(runs.keys)
    return _all_go_on(runs, budget, agents, agent, hyperparams)


def multistart(runs: Instances, budget: int, agents: int, rate: float) -> Found:
    """Adam at a rate that falls to 0 as a cosine over the steps that the budget allows."""
    hyperparams = {"learning_rate": rate, "steps": float(budget // agents)}
    return _all_go_on(runs, budget, agents, _falling, _alike(runs, agents, hyperparams))


def descent(runs: Instances, budget: int, rate: float) -> Found:
    """Plain gradient descent at a constant rate, from one start."""
    return _all_go_on(runs, budget, 1, optax.sgd, _alike(runs, 1, {"learning_rate": rate}))


def backtracking(runs: Instances, budget: int) -> Found:
    """Gradient descent from one start, each step halved from twice the last until it descends."""
    return _all_go_on(runs, budget, 1, _armijo, {})


def _alike(runs: Instances, agents: int, hyperparams: dict[str, float]) -> dict[str, jax.Array]:
    return {name: jnp.full((len(runs), agents), value) for name, value in hyperparams.items()}


def _falling(learning_rate: jax.Array, steps: jax.Array) -> optax.GradientTransformation:
    share = lambda count: jnp.minimum(count / steps, 1.0)
    return optax.adam(lambda count: learning_rate * (1 + jnp.cos(jnp.pi * share(count))) / 2)


class Counting(NamedTuple):
    """A line search's state, and the values that it has asked for."""

    inner: Any
    evaluations: jax.Array


def _armijo() -> optax.GradientTransformationExtraArgs:
    search = optax.scale_by_backtracking_linesearch(
        max_backtracking_steps=30, decrease_factor=0.5, increase_factor=2.0, max_learning_rate=1e6
    )
    inner = optax.chain(optax.sgd(1.0), search)

    def init(params: Any) -> Counting:
        return Counting(inner.init(params), jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        updated: Any = inner.update(updates, state.inner, params, **extra)
        updates, after = updated
        steps = after[1].info.num_linesearch_steps.astype(jnp.int32)
        return updates, Counting(after, state.evaluations + steps)

    return optax.GradientTransformationExtraArgs(init, update)


TOGETHER = 16
"""Agents in one program: more of them are groups that it takes one after the other."""


def _all_go_on(
    runs: Instances, budget: int, agents: int, optimizer: Any, hyperparams: Any
) -> Found:
    groups, steps = max(agents // TOGETHER, 1), budget // agents - 1
    each = agents // groups
    outcomes = []
    for group in range(groups):
        keys = jax.vmap(partial(jax.random.fold_in, data=group))(runs.keys)
        own = jax.tree.map(lambda x, at=group * each: x[:, at : at + each], hyperparams)
        outcomes.append(_lockstep(runs.problem, keys, own, steps, optimizer, each))
    values, gradients, evaluations = map(np.array, zip(*outcomes, strict=True))
    excess = values.min(0).astype(float) - np.asarray(runs.problem.minimum, float)
    return Found(excess, gradients.sum(0, np.int64), evaluations.sum(0, np.int64))


@partial(jax.jit, static_argnums=(4, 5))
def _lockstep(
    problem: jd.Problem, keys: Any, hyperparams: Any, steps: Any, optimizer: Any, agents: int
) -> Any:
    number, *data = problem.data  # the same number in all runs: only that function is computed

    def one(data: Any, key: jax.Array, hyperparams: Any, lower: Any, upper: Any) -> Any:
        own = jd.Problem(problem.value_fn, lower, upper, (number[0], *data))
        drive = jd.minimize_loop(own, optimizer, num_agents=agents, rule=NEVER, chunk_size=agents)
        state, _ = drive.advance(drive.init(key, None, hyperparams), steps)
        population, inner = state.population, state.population.opt_state
        searched = jnp.sum(inner.evaluations) if isinstance(inner, Counting) else 0
        gradients, evaluations = population.gradients, population.evaluations
        return state.best_value, jnp.sum(gradients), jnp.sum(evaluations) + searched

    return jax.vmap(one)(tuple(data), keys, hyperparams, problem.lower, problem.upper)
