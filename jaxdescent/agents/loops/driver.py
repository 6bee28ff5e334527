"""Runs a rung of a population with work only for the agents that are alive.

    descend:  alive agents take `length` steps, one chunk of agents at a time
    best:     the best finite point so far is stored outside the population
    clear:    evaluated agents whose value is not finite are removed and counted
    rule:     reads the population and changes it

One compiled program serves any number of survivors: `chunking` loops over as many chunks as the
survivors fill. `minimize_loop` and `fit_loop` define how a chunk descends.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import chunking, estimators, validation
from jaxdescent.agents import pruning
from jaxdescent.agents.arguments import OptimizerFactory, optimizer_factory
from jaxdescent.agents.loops.diversity import diversity
from jaxdescent.agents.loops.load_balancing import balanced_in_chunks
from jaxdescent.agents.loops.population_loop import PopulationLoopState, RungInfo
from jaxdescent.agents.population import Population, worst_values
from jaxdescent.agents.rule import Rule, apply_rule, check_rule
from jaxdescent.estimators.estimator import Estimator, check_estimator
from jaxdescent.problem import Problem

SMALL_CHUNK = 2**15
"""Bytes of a chunk that fill a CPU's vector units and fit its nearest cache. With more, XLA splits
the gradients of a chunk over threads, which takes longer than it saves."""
LARGE_CHUNK = 2**22
"""Upper bound in bytes for a chunk of 32 agents, which share the cost of each operation."""

CARRIED = ("params", "opt_state", "model_state", "values", "grads")
"""Fields of a population that every descent changes."""
BEST = ("best_params", "best_model_state", "best_values")
"""Fields that descent changes too if it tracks the best point over all steps."""
FINITENESS = ("evaluated", "nonfinite_streak")
"""Fields that descent changes too if an agent may recover from values that are not finite."""
READ = ("hyperparams", "ids", "evaluated", "evaluations")
"""Fields that descent only reads."""

ESTIMATOR_STREAM = np.uint32(2**32 - 3)
"""Folded into the key for estimators; rules fold in rung numbers, all smaller."""

DEFAULT_RULE = pruning.adaptive()

Chunk = dict[str, Any]


class Driver(NamedTuple):
    """Checked settings of a loop and its rungs; hashable, so that `jax.jit` can take it as static.

    Attributes:
      num_agents: number of agents.
      optimizer: Called with an agent's hyperparameters as keywords; returns its optimizer.
      estimator: obtains gradients.
      rule: acts after each rung.
      chunk_size: number of agents that descend side by side; None to choose it by memory.
      record_params: whether a `RungInfo` has the parameters of all agents.
      mesh: mesh over whose axis `axis` agents are sharded, or None.
    """

    num_agents: int
    optimizer: OptimizerFactory
    estimator: Estimator
    rule: Rule
    chunk_size: int | None
    record_params: bool
    mesh: jax.sharding.Mesh | None

    @property
    def axis(self) -> str:
        """Name of the axis of the mesh over which agents are sharded."""
        return agent_axis(self.mesh) if self.mesh else ""

    def begin(
        self, key: jax.Array, population: Population, problem: Problem
    ) -> PopulationLoopState:
        """Returns the state before the first rung."""
        state = PopulationLoopState(
            population=population,
            rule_state=self.rule.init(jax.random.fold_in(key, 1), population, problem),
            key=jax.random.fold_in(key, 2),
            rung=jnp.zeros((), jnp.int32),
            steps=jnp.zeros((), jnp.int32),
            best_params=jax.tree.map(lambda x: x[0], population.params),
            best_model_state=jax.tree.map(lambda x: x[0], population.model_state),
            best_value=worst_values(population.maximize[0], population.values.dtype),
            best_id=jnp.full((), -1, jnp.int32),
        )
        return self._constrain_sharding(_without_shared_leaves(state))

    def advance(
        self,
        state: PopulationLoopState,
        problem: Problem,
        descend: Callable[[Chunk, Chunk], Chunk],
        length: ArrayLike,
        prune: ArrayLike,
        *,
        estimates: ArrayLike,
        values: ArrayLike = 0,
        carries: tuple[str, ...],
        reports: Mapping[str, Any] = MappingProxyType({"aux": {}}),
        acts: ArrayLike = True,
    ) -> tuple[PopulationLoopState, RungInfo]:
        """Runs a rung.

        Args:
          state: the state before the rung.
          problem: the problem that the rule is given.
          descend: Called as `descend(carried, read)` on the rows of a chunk; returns the new
            `carried`, of which "aux" is a part.
          length: number of steps.
          prune: whether pruned agents stay where they are.
          estimates: i32[] or i32[agents], number of estimates of the gradient, each with a value,
            made by an agent that descends.
          values: i32[] or i32[agents], number of values computed by it in addition.
          carries: the fields that `descend` changes, in addition to `CARRIED`.
          reports: mapping from names of fields of a `RungInfo` to trees [agents, ...], which
            `descend` changes too; the values here are reported for agents that do not descend.
          acts: whether this rung may remove agents, by the rule or because of non-finite values.
        """
        before = state.population
        descending = before.alive | ~jnp.asarray(validation.boolean("prune", prune))
        carried = {name: getattr(before, name) for name in CARRIED + carries} | dict(reports)
        read = {name: getattr(before, name) for name in READ}
        size = self.chunk_size or default_chunk_size(carried, self.estimator.evaluations)

        if self.mesh is None:
            order, count = chunking.chosen_first(descending)
            carried = chunking.in_chunks(descend, carried, order, count, size=size, constants=read)
        else:
            balanced = partial(balanced_in_chunks, descend, size=size, axis=self.axis)
            agents = jax.sharding.PartitionSpec(self.axis)
            carried = jax.shard_map(
                balanced,
                mesh=self.mesh,
                in_specs=agents,
                out_specs=agents,
                axis_names={self.axis},
                check_vma=False,
            )(carried, descending, read)
        reports = {name: carried.pop(name) for name in reports}

        def add(count: jax.Array, spent: ArrayLike) -> jax.Array:
            return count + jnp.where(descending, spent, 0).astype(count.dtype)

        carried.setdefault("evaluated", before.evaluated | (descending & acts))
        population = before._replace(
            **carried,
            age=add(before.age, length),
            gradients=add(before.gradients, estimates * self.estimator.gradients),
            evaluations=add(before.evaluations, estimates * self.estimator.evaluations + values),
        )
        if not set(BEST) <= set(carries):
            population = _update_best_of_agents(population, descending)
        broken = descending & population.evaluated & ~jnp.isfinite(population.values) & acts
        state = update_best(state._replace(population=population, steps=state.steps + length))
        cleared = population._replace(alive=population.alive & ~broken)
        key = jax.random.fold_in(state.key, state.rung)
        after, rule_state, rule_info = apply_rule(
            self.rule, key, cleared, problem, state.rule_state
        )
        after = _into_bounds(after, cleared, problem)
        if acts is not True:

            def select(new: Any, old: Any) -> Any:
                return new if new is old else jnp.where(acts, new, old)

            after, rule_state = jax.tree.map(
                select, (after, rule_state), (cleared, state.rule_state)
            )
        state = state._replace(
            population=after,
            rule_state=rule_state,
            rung=state.rung + jnp.asarray(acts, jnp.int32),
        )
        info = RungInfo(
            steps=state.steps,
            values=jnp.where(descending, population.values, jnp.nan),
            alive=after.alive,
            survivors=jnp.sum(after.alive, dtype=jnp.int32),
            descended=jnp.sum(descending, dtype=jnp.int32),
            not_finite=jnp.sum(broken, dtype=jnp.int32),
            best_value=state.best_value,
            diversity=diversity(
                population.params,
                descending & ~broken,
                scale=problem.scale if problem.unit_box else None,
                size=size,
                mesh=self.mesh,
                axis=self.axis,
            ),
            rule_info=rule_info,
            params=population.params if self.record_params else None,
            gradients_of_agents=population.gradients,
            evaluations_of_agents=population.evaluations,
            **reports,
        )
        return self._constrain_sharding(state), info

    def value_and_grad(
        self, function: Callable[..., Any], hyperparams: Mapping[str, Any], **options: Any
    ) -> Callable[..., Any]:
        """Returns an agent's estimate as a function like `jax.value_and_grad(function)`.

        Args:
          function: the function to differentiate.
          hyperparams: the agent's hyperparameters; the estimator is given its own.
          **options: further keywords of the estimator, and `has_aux`.
        """
        has_aux = options.pop("has_aux", False)
        own = {
            name: hyperparams[name] for name in self.estimator.hyperparams if name in hyperparams
        }
        return partial(self.estimator.value_and_grad(function, has_aux=has_aux), **own, **options)

    def _constrain_sharding(self, state: PopulationLoopState) -> PopulationLoopState:
        """Shards rows of agents over the mesh and replicates the rest.

        It applies to the state before the first rung and after each one, so that the program
        compiled for the first rung accepts the states that later rungs return.
        """
        if self.mesh is None:
            return state

        def constrain(x: jax.Array, *axes: Any) -> jax.Array:
            return jax.lax.with_sharding_constraint(
                x, jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec(*axes))
            )

        def shard(x: jax.Array) -> jax.Array:
            has_agent_axis = x.ndim and len(x) == self.num_agents
            return constrain(x, *([self.axis] if has_agent_axis else []))

        replicated = jax.tree.map(constrain, state)
        return replicated._replace(
            population=jax.tree.map(shard, state.population),
            rule_state=jax.tree.map(shard, state.rule_state),
        )


def make_driver(
    optimizer: Any,
    num_agents: int,
    estimator: Estimator | None,
    rule: Rule | None,
    chunk_size: int | None,
    record_params: bool,
    mesh: jax.sharding.Mesh | None,
) -> Driver:
    """Checks the settings that all loops share and returns them as a driver.

    Raises:
      ValueError: an argument is out of its range.
      TypeError: the optimizer, the estimator, the rule or the mesh has the wrong type.
    """
    validation.integer_in("num_agents", num_agents, 1)
    estimator = estimators.exact() if estimator is None else estimator
    check_estimator("estimator", estimator)
    if not isinstance(record_params, bool):
        raise ValueError(f"record_params must be True or False, got {record_params!r}")
    if chunk_size is not None:
        validation.integer_in("chunk_size", chunk_size, 1)
    rule = DEFAULT_RULE if rule is None else rule
    check_rule("rule", rule)
    if mesh is not None and not isinstance(mesh, jax.sharding.Mesh):
        raise TypeError(f"mesh must be a jax.sharding.Mesh, got {mesh!r}")
    if mesh is not None:
        _check_mesh(mesh, num_agents)
    if mesh is not None:  # Explicit axes, as `jax.make_mesh` has them, take no constraint.
        mesh = jax.sharding.Mesh(mesh.devices, mesh.axis_names)
    factory = optimizer_factory(optimizer, not_its_own=estimator.hyperparams)
    return Driver(num_agents, factory, estimator, rule, chunk_size, record_params, mesh)


AGENTS = "agents"
"""Name of the axis of agents, in a mesh of several axes."""


def agent_axis(mesh: jax.sharding.Mesh) -> str:
    """Returns the name of the axis over which agents are sharded: "agents", or the only one."""
    return AGENTS if AGENTS in mesh.axis_names else mesh.axis_names[0]


def _check_mesh(mesh: jax.sharding.Mesh, num_agents: int) -> None:
    if len(mesh.axis_names) > 1 and AGENTS not in mesh.axis_names:
        raise ValueError(
            f"mesh must have one axis, or one named {AGENTS!r}, got axes {mesh.axis_names}"
        )
    if num_agents % mesh.shape[agent_axis(mesh)]:
        raise ValueError(
            "mesh must have an axis of agents of a size that divides num_agents, got "
            f"{dict(mesh.shape)} with num_agents = {num_agents}"
        )


def update_best(state: PopulationLoopState) -> PopulationLoopState:
    """Returns the state with its best point updated by the population's."""
    population = state.population
    costs = jnp.where(jnp.isfinite(population.best_values), population.best_costs, jnp.inf)
    best = jnp.argmin(costs)
    least = jnp.where(population.maximize[0], -state.best_value, state.best_value)
    better = costs[best] < least

    def select(x: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(better, x[best], old)

    return state._replace(
        best_params=jax.tree.map(select, population.best_params, state.best_params),
        best_model_state=jax.tree.map(select, population.best_model_state, state.best_model_state),
        best_value=select(population.best_values, state.best_value),
        best_id=select(population.ids, state.best_id),
    )


def _update_best_of_agents(population: Population, descending: jax.Array) -> Population:
    """Returns the population with each agent's best point updated by its present one."""
    values = population.values
    known = descending & population.evaluated & jnp.isfinite(values)
    better = known & (population.costs < population.best_costs)

    def select(new: Any, old: Any) -> Any:
        return jax.tree.map(partial(chunking.where_rows, better), new, old)

    return population._replace(
        best_params=select(population.params, population.best_params),
        best_model_state=select(population.model_state, population.best_model_state),
        best_values=select(values, population.best_values),
    )


def _into_bounds(after: Population, before: Population, problem: Problem) -> Population:
    """Returns the population after a rule, with parameters that it changed moved into bounds."""
    if problem.bounds is None:
        return after

    def inside(new: Any, old: Any) -> Any:
        leaves = zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
        return problem.into_bounds(new) if any(x is not y for x, y in leaves) else new

    return after._replace(
        params=inside(after.params, before.params),
        best_params=inside(after.best_params, before.best_params),
    )


def _without_shared_leaves(tree: Any) -> Any:
    """Copies leaves that occur more than once: a donated buffer must occur only once."""
    leaves, structure = jax.tree.flatten(tree)
    first = {id(leaf): place for place, leaf in reversed(list(enumerate(leaves)))}
    return structure.unflatten(
        leaf if first[id(leaf)] == place else jnp.copy(leaf) for place, leaf in enumerate(leaves)
    )


def estimator_keys(key: jax.Array, ids: jax.Array) -> jax.Array:
    """Returns a random key for the estimates of each agent of a chunk."""
    key = jax.random.fold_in(key, ESTIMATOR_STREAM)
    return jax.vmap(partial(jax.random.fold_in, key))(ids)


def default_chunk_size(carried: Chunk, points: int) -> int:
    """Returns how many agents descend side by side by default, a power of two.

    Args:
      carried: arrays with a leading axis of agents.
      points: number of points that an agent evaluates side by side.
    """
    if jax.default_backend() != "cpu":
        return max(4096 >> (points - 1).bit_length(), 1)
    leaves = jax.tree.leaves(carried)
    bytes_per_agent = max(sum(x.nbytes for x in leaves) // len(leaves[0]), 1) * points
    size = max(SMALL_CHUNK // bytes_per_agent, min(32, LARGE_CHUNK // bytes_per_agent), 1)
    return int(2 ** np.floor(np.log2(size)))
