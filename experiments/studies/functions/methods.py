"""Methods that minimize a test function with a budget of gradients.

Multi-agent gradient descent (MAGD) prunes a population of `agent`s by successive halving. The
baselines are the same agents without pruning, Adam from many starts and from one, and gradient
descent with a constant learning rate or with backtracking.
"""

import enum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

import jaxdescent as jd
from experiments.instances import Instances
from experiments.studies.functions.settings import SOLVED


class SearchResult(NamedTuple):
    """Results of a method on one function, run by run.

    Attributes:
      excess: f64[runs], the best value minus the minimum.
      gradients: i64[runs], the number of gradients.
      evaluations: i64[runs], the number of function values, including those that come with a
        gradient.
    """

    excess: np.ndarray
    gradients: np.ndarray
    evaluations: np.ndarray

    @property
    def solved(self) -> np.ndarray:
        """bool[runs], True where the run succeeded."""
        return self.excess < SOLVED

    def select(self, runs: Any) -> "SearchResult":
        """Returns the results of a slice of the runs."""
        return SearchResult(*(x[runs] for x in self))


class Kind(enum.StrEnum):
    """Kinds of methods."""

    MAGD = "MAGD"
    MAGD_ADAPTIVE = "MAGD, adaptive rule"
    UNPRUNED = "unpruned"
    MULTISTART = "multistart"
    ADAM = "Adam"
    GD = "GD"
    BACKTRACKING = "GD with backtracking"


class Method(NamedTuple):
    """A method with its settings.

    Attributes:
      kind: the kind of method.
      budget: the number of gradients per run.
      agents: the number of agents.
      learning_rate: the initial or constant learning rate, where the kind has one.
    """

    kind: Kind
    budget: int
    agents: int = 1
    learning_rate: float = 0.0

    def search(self, runs: Instances, mesh: jax.sharding.Mesh | None = None) -> SearchResult:
        """Minimizes a function in all of its runs.

        Args:
          runs: the runs.
          mesh: divides the agents of MAGD among devices; by default one device has all.
        """
        match self.kind:
            case Kind.MAGD:
                return magd(runs, self.budget, self.agents, mesh=mesh)
            case Kind.MAGD_ADAPTIVE:
                return magd(runs, self.budget, self.agents, rule=ADAPTIVE, mesh=mesh)
            case Kind.UNPRUNED:
                return unpruned(runs, self.budget, self.agents)
            case Kind.MULTISTART | Kind.ADAM:
                return multistart(runs, self.budget, self.agents, self.learning_rate)
            case Kind.GD:
                return gradient_descent(runs, self.budget, self.learning_rate)
            case Kind.BACKTRACKING:
                return backtracking(runs, self.budget)


# One setting for all functions and dimensions, chosen by hand on the tuning seeds. It is a
# baseline; `jd.hybrid` finds more minima with fewer gradients, and without any setting.
RUNGS, ETA = 6, 4.0
JUMP_SCALES, JUMP_PERIODS = (4e-3, 2e-2), (32.0, 512.0)
B1, B2 = 0.8, 0.9
HALVING = jd.pruning.successive_halving(ETA, by="best")
ADAPTIVE = jd.pruning.adaptive(by="best")
NO_PRUNING = jd.pruning.no_pruning()


def agent(scale: jax.Array, period: jax.Array, key: jax.Array) -> optax.GradientTransformation:
    """Adam with jumps away from the best point so far.

    The learning rate decays as an inverse square within each period; a jump starts the next.
    """

    def learning_rate(count: ArrayLike) -> ArrayLike:
        return scale / 2 * (1 + 20 * count / period) ** -2.0

    return jd.basin_hopping(
        optax.adam(learning_rate, b1=B1, b2=B2), period=period, jump=scale, key=key
    )


def agent_hyperparams(agents: int, key: jax.Array) -> dict[str, jax.Array]:
    """Returns each agent's scale, period and key.

    Scales and periods are spread evenly on a logarithmic scale, on a golden-ratio lattice. Keys
    differ between agents and, because `key` belongs to a run, between runs.
    """
    number = jnp.arange(agents)
    positions = {"scale": (number * 0.6180339887) % 1, "period": (number + 0.5) / agents}
    ranges = {"scale": JUMP_SCALES, "period": JUMP_PERIODS}
    hyperparams = {
        name: low * (high / low) ** positions[name] for name, (low, high) in ranges.items()
    }
    return hyperparams | {"key": jax.random.split(key, agents)}


def magd(
    runs: Instances,
    budget: int,
    agents: int,
    rule: jd.Rule = HALVING,
    mesh: jax.sharding.Mesh | None = None,
) -> SearchResult:
    """Runs the pruned population of `agent`s, one run at a time because loop lengths differ."""
    results = []
    for run in range(len(runs)):
        problem, key = runs[run]
        result = jd.minimize(
            problem,
            agent,
            key=key,
            num_agents=agents,
            hyperparams=agent_hyperparams(agents, key),
            gradient_budget=budget,
            num_rungs=RUNGS,
            rule=rule,
            chunk_size=32,
            mesh=mesh,
        )
        excess = float(result.value) - float(problem.minimum)
        results.append((excess, result.gradients, result.evaluations))
    return SearchResult(*map(np.array, zip(*results, strict=True)))


def unpruned(runs: Instances, budget: int, agents: int) -> SearchResult:
    """Runs `agent`s without pruning; each has an equal part of the budget."""
    hyperparams = jax.vmap(partial(agent_hyperparams, agents))(runs.keys)
    return _descend_in_groups(runs, budget, agents, agent, hyperparams)


def multistart(runs: Instances, budget: int, agents: int, learning_rate: float) -> SearchResult:
    """Runs Adam from many starts; the learning rate decays to 0 on a cosine schedule."""
    hyperparams = {"learning_rate": learning_rate, "steps": float(budget // agents)}
    hyperparams = _broadcast(runs, agents, hyperparams)
    return _descend_in_groups(runs, budget, agents, _cosine_adam, hyperparams)


def gradient_descent(runs: Instances, budget: int, learning_rate: float) -> SearchResult:
    """Runs gradient descent with a constant learning rate from one start."""
    hyperparams = _broadcast(runs, 1, {"learning_rate": learning_rate})
    return _descend_in_groups(runs, budget, 1, optax.sgd, hyperparams)


def backtracking(runs: Instances, budget: int) -> SearchResult:
    """Runs gradient descent from one start; each step is halved from twice the last one."""
    return _descend_in_groups(runs, budget, 1, _armijo, {})


def _broadcast(runs: Instances, agents: int, hyperparams: dict[str, float]) -> dict[str, jax.Array]:
    return {name: jnp.full((len(runs), agents), value) for name, value in hyperparams.items()}


def _cosine_adam(learning_rate: jax.Array, steps: jax.Array) -> optax.GradientTransformation:
    def schedule(count: ArrayLike) -> ArrayLike:
        progress = jnp.minimum(count / steps, 1.0)
        return learning_rate * (1 + jnp.cos(jnp.pi * progress)) / 2

    return optax.adam(schedule)


class LineSearchState(NamedTuple):
    """State of a line search that counts its function values.

    Attributes:
      inner_state: the state of the line search.
      evaluations: i32[], the number of function values it has asked for.
    """

    inner_state: Any
    evaluations: jax.Array


def _armijo() -> optax.GradientTransformationExtraArgs:
    search = optax.scale_by_backtracking_linesearch(
        max_backtracking_steps=30, decrease_factor=0.5, increase_factor=2.0, max_learning_rate=1e6
    )
    inner = optax.chain(optax.sgd(1.0), search)

    def init(params: Any) -> LineSearchState:
        return LineSearchState(inner.init(params), jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        updated: Any = inner.update(updates, state.inner_state, params, **extra)
        updates, inner_state = updated
        steps = inner_state[1].info.num_linesearch_steps.astype(jnp.int32)
        return updates, LineSearchState(inner_state, state.evaluations + steps)

    return optax.GradientTransformationExtraArgs(init, update)


GROUP_SIZE = 16
"""The number of agents in one program; larger populations run group by group."""


def _descend_in_groups(
    runs: Instances, budget: int, agents: int, optimizer: Any, hyperparams: Any
) -> SearchResult:
    groups, steps = max(agents // GROUP_SIZE, 1), budget // agents - 1
    size = agents // groups
    results = []
    for group in range(groups):
        keys = jax.vmap(partial(jax.random.fold_in, data=group))(runs.keys)
        start = group * size
        group_hyperparams = jax.tree.map(
            lambda x, start=start: x[:, start : start + size], hyperparams
        )
        results.append(_descend(runs.problem, keys, group_hyperparams, steps, optimizer, size))
    values, gradients, evaluations = map(np.array, zip(*results, strict=True))
    excess = values.min(0).astype(float) - np.asarray(runs.problem.minimum, float)
    return SearchResult(excess, gradients.sum(0, np.int64), evaluations.sum(0, np.int64))


@partial(jax.jit, static_argnums=(4, 5))
def _descend(
    problem: jd.Problem, keys: Any, hyperparams: Any, steps: Any, optimizer: Any, agents: int
) -> Any:
    number, *data = problem.data  # equal in all runs, so that only this function is evaluated

    def descend_one(data: Any, key: jax.Array, hyperparams: Any, lower: Any, upper: Any) -> Any:
        instance = jd.Problem(problem.value_fn, lower, upper, (number[0], *data), bounds=None)
        loop = jd.minimize_loop(
            instance, optimizer, num_agents=agents, rule=NO_PRUNING, chunk_size=agents
        )
        state, _ = loop.step(loop.init(key, None, hyperparams), steps)
        population, opt_state = state.population, state.population.opt_state
        searched = jnp.sum(opt_state.evaluations) if isinstance(opt_state, LineSearchState) else 0
        gradients, evaluations = population.gradients, population.evaluations
        return state.best_value, jnp.sum(gradients), jnp.sum(evaluations) + searched

    return jax.vmap(descend_one)(tuple(data), keys, hyperparams, problem.lower, problem.upper)
