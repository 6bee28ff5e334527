"""A population's descent, rung by rung, with as little work as its rule leaves.

    descend:  those who live take `length` steps, a chunk of them at a time
    archive:  the best finite point ever is kept apart
    clear:    agents whose value is not finite are removed and counted
    rule:     looks at the population, and changes it

The whole is one program whatever is pruned: `chunking` loops over as many chunks as there are
survivors. How a chunk descends is the business of `minimize_loop` and `fit_loop`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import chunking, validation
from jaxdescent.agents import lending, pruning
from jaxdescent.agents.arguments import factory
from jaxdescent.agents.diversity import diversity
from jaxdescent.agents.population import Population
from jaxdescent.agents.rules import Rule, act, check_rule
from jaxdescent.problem import Problem

SMALL_CHUNK = 2**16
"""Bytes of agents that keep a CPU's vector units busy and its nearest cache warm..."""
LARGE_CHUNK = 2**22
"""...and the most that 32 agents, which share the cost of each operation, may take."""

CARRIED = ("params", "opt_state", "model_state", "values", "grads")
"""Fields of a population that descent changes, each agent's in its own way..."""
BEST = ("best_params", "best_model_state", "best_values")
"""...and those that it changes too if an agent's best is that of all steps, not of rungs' ends."""

READ = ("hyperparams", "ids", "evaluated")
"""Fields that it reads."""

Chunk = dict[str, Any]


class DescentState(NamedTuple):
    """What is carried from rung to rung; it goes through a checkpoint unchanged.

    Attributes:
      population: the agents.
      rule_state: the rule's.
      key: from which a rung's random numbers are drawn, by its number.
      rung: i32[], how many are done.
      steps: i32[], how many an agent has taken that was never pruned.
      best_params: the best finite point ever, of any agent, dead ones included.
      best_model_state: that of its agent there; () if there is none.
      best_value: f[], its value; inf if there is none.
      best_id: i32[], the agent that found it.
    """

    population: Population
    rule_state: Any
    key: jax.Array
    rung: jax.Array
    steps: jax.Array
    best_params: Any
    best_model_state: Any
    best_value: jax.Array
    best_id: jax.Array


class Rung(NamedTuple):
    """What is reported of a rung; a history is one of these with a leading axis.

    Attributes:
      steps: i32[], steps of an agent never pruned, at the end of the rung.
      values: f[agents], at the end; nan for those that did not descend.
      alive: bool[agents], after the rule.
      survivors: i32[], how many they are.
      descended: i32[], how many took the rung's steps.
      not_finite: i32[], how many of them ended at a value that is not finite.
      best_value: f[], the least ever.
      diversity: f[], root mean square distance per coordinate of those that descended from
        their mean; its share of the largest so far tells exploration from exploitation.
      aux: from names to f[agents], means over the rung's steps, nan for those that did not
        descend; {} if the driver has none.
      info: the rule's report.
      params: like the population's, if they are recorded; else None.
    """

    steps: jax.Array
    values: jax.Array
    alive: jax.Array
    survivors: jax.Array
    descended: jax.Array
    not_finite: jax.Array
    best_value: jax.Array
    diversity: jax.Array
    aux: Any
    info: Any
    params: Any


class Descent(NamedTuple):
    """Pure functions, to be compiled.

    Attributes:
      init: from (key, starts, ...) to a `DescentState`.
      advance: from (state, length, ...) to (state, `Rung`).
    """

    init: Callable[..., DescentState]
    advance: Callable[..., tuple[DescentState, Rung]]


class Driver(NamedTuple):
    """What all descents have in common.

    Attributes:
      num_agents: how many there are.
      optimizer: from an agent's hyperparameters, as keywords, to a transformation.
      rule: acts after each rung.
      chunk_size: agents that descend side by side, or None.
      record_params: whether a `Rung` has all parameters.
      mesh: over whose one axis agents are spread, or None.
    """

    num_agents: int
    optimizer: Callable[..., optax.GradientTransformationExtraArgs]
    rule: Rule
    chunk_size: int | None
    record_params: bool
    mesh: jax.sharding.Mesh | None

    def begin(self, key: jax.Array, population: Population, problem: Problem) -> DescentState:
        """The state before the first rung."""
        state = DescentState(
            population=population,
            rule_state=self.rule.init(jax.random.fold_in(key, 1), population, problem),
            key=jax.random.fold_in(key, 2),
            rung=jnp.zeros((), jnp.int32),
            steps=jnp.zeros((), jnp.int32),
            best_params=jax.tree.map(lambda x: x[0], population.params),
            best_model_state=jax.tree.map(lambda x: x[0], population.model_state),
            best_value=jnp.full((), jnp.inf, population.values.dtype),
            best_id=jnp.full((), -1, jnp.int32),
        )
        return self._placed(_unshared(state))

    def advance(
        self,
        state: DescentState,
        problem: Problem,
        descend: Callable[[Chunk, Chunk], Chunk],
        length: ArrayLike,
        prune: ArrayLike,
        *,
        gradients: ArrayLike,
        evaluations: ArrayLike,
        tracks_best: bool,
        aux: Mapping[str, jax.Array] = MappingProxyType({}),
        acts: ArrayLike = True,
    ) -> tuple[DescentState, Rung]:
        """A rung, in which `descend` takes (what is carried, what is read) of a chunk's agents.

        Args:
          state: before it.
          problem: that the rule is given.
          descend: changes what is carried; `aux` is a part of that.
          length: how many steps.
          prune: whether those that the rule has removed stay where they are.
          gradients: i32[] or i32[agents], how many one that descends computes.
          evaluations: likewise.
          tracks_best: whether `descend` carries `BEST` too.
          aux: from names to f[agents], what is reported of those that do not descend.
          acts: whether anybody may be removed, and the rule change anything.
        """
        before = state.population
        descending = before.alive | ~jnp.asarray(validation.boolean("prune", prune))
        names = CARRIED + BEST if tracks_best else CARRIED
        carried = {name: getattr(before, name) for name in names} | {"aux": dict(aux)}
        read = {name: getattr(before, name) for name in READ}
        size = self.chunk_size or default_chunk(carried)

        if self.mesh is None:
            order, count = chunking.chosen_first(descending)
            carried = chunking.in_chunks(descend, carried, order, count, size=size, constants=read)
        else:
            (axis,) = self.mesh.axis_names
            evenly = partial(lending.evenly_in_chunks, descend, size=size, axis=axis)
            spread = jax.sharding.PartitionSpec(axis)
            carried = jax.shard_map(
                evenly, mesh=self.mesh, in_specs=spread, out_specs=spread, check_vma=False
            )(carried, descending, read)
        aux = carried.pop("aux")
        more = lambda count, spent: count + jnp.where(descending, spent, 0).astype(count.dtype)
        population = before._replace(
            **carried,
            evaluated=before.evaluated | (descending & acts),
            age=more(before.age, length),
            gradients=more(before.gradients, gradients),
            evaluations=more(before.evaluations, evaluations),
        )
        if not tracks_best:
            population = _with_best(population, descending)
        broken = descending & ~jnp.isfinite(population.values) & acts
        state = archived(state._replace(population=population, steps=state.steps + length))
        cleared = population._replace(alive=population.alive & ~broken)
        key = jax.random.fold_in(state.key, state.rung)
        after, rule_state, info = act(self.rule, key, cleared, problem, state.rule_state)
        if acts is not True:
            pick = lambda new, old: new if new is old else jnp.where(acts, new, old)
            after, rule_state = jax.tree.map(pick, (after, rule_state), (cleared, state.rule_state))
        state = state._replace(
            population=after,
            rule_state=rule_state,
            rung=state.rung + jnp.asarray(acts, jnp.int32),
        )
        report = Rung(
            steps=state.steps,
            values=jnp.where(descending, population.values, jnp.nan),
            alive=after.alive,
            survivors=jnp.sum(after.alive, dtype=jnp.int32),
            descended=jnp.sum(descending, dtype=jnp.int32),
            not_finite=jnp.sum(broken, dtype=jnp.int32),
            best_value=state.best_value,
            diversity=diversity(population.params, descending & ~broken, size=size, mesh=self.mesh),
            aux=aux,
            info=info,
            params=population.params if self.record_params else None,
        )
        return self._placed(state), report

    def _placed(self, state: DescentState) -> DescentState:
        """What has a row for each agent spread over the mesh, the rest on each device.

        Said before and after each rung, so that one program takes what the last one left.
        """
        if self.mesh is None:
            return state
        constrained = lambda x, *axes: jax.lax.with_sharding_constraint(
            x, jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec(*axes))
        )

        def spread(x: jax.Array) -> jax.Array:
            of_agents = x.ndim and len(x) == self.num_agents
            return constrained(x, *(self.mesh.axis_names if of_agents else ()))

        placed = jax.tree.map(constrained, state)
        return placed._replace(
            population=jax.tree.map(spread, state.population),
            rule_state=jax.tree.map(spread, state.rule_state),
        )


def driver(
    optimizer: Any,
    num_agents: int,
    rule: Rule | None,
    chunk_size: int | None,
    record_params: bool,
    mesh: jax.sharding.Mesh | None,
) -> Driver:
    """A driver, of arguments that are checked.

    Raises:
      ValueError: an argument is out of its range.
      TypeError: the optimizer, the rule or the mesh is none.
    """
    validation.integer_in("num_agents", num_agents, 1)
    if not isinstance(record_params, bool):
        raise ValueError(f"record_params must be True or False, got {record_params!r}")
    if chunk_size is not None:
        validation.integer_in("chunk_size", chunk_size, 1)
    rule = pruning.adaptive() if rule is None else rule
    check_rule("rule", rule)
    if mesh is not None and not isinstance(mesh, jax.sharding.Mesh):
        raise TypeError(f"mesh must be a jax.sharding.Mesh, got {mesh!r}")
    if mesh is not None and (len(mesh.axis_names) != 1 or num_agents % mesh.size):
        raise ValueError(
            "mesh must have one axis, of a size that divides num_agents, got "
            f"{dict(mesh.shape)} with num_agents = {num_agents}"
        )
    if mesh is not None:  # Explicit axes, as `jax.make_mesh` has them, take no constraint.
        mesh = jax.sharding.Mesh(mesh.devices, mesh.axis_names)
    return Driver(num_agents, factory(optimizer), rule, chunk_size, record_params, mesh)


def archived(state: DescentState) -> DescentState:
    """The state with the best point ever brought up to date."""
    population = state.population
    scores = jnp.where(jnp.isfinite(population.best_values), population.best_values, jnp.inf)
    place = jnp.argmin(scores)
    better = scores[place] < state.best_value
    pick = lambda x, old: jnp.where(better, x[place], old)
    return state._replace(
        best_params=jax.tree.map(pick, population.best_params, state.best_params),
        best_model_state=jax.tree.map(pick, population.best_model_state, state.best_model_state),
        best_value=jnp.where(better, scores[place], state.best_value),
        best_id=jnp.where(better, population.ids[place], state.best_id),
    )


def _with_best(population: Population, descending: jax.Array) -> Population:
    """Each agent's best brought up to date with where it is now."""
    values = population.values
    known = descending & population.evaluated & jnp.isfinite(values)
    better = known & (values < population.best_values)
    keep = lambda new, old: jax.tree.map(partial(chunking.where_rows, better), new, old)
    return population._replace(
        best_params=keep(population.params, population.best_params),
        best_model_state=keep(population.model_state, population.best_model_state),
        best_values=keep(values, population.best_values),
    )


def _unshared(tree: Any) -> Any:
    """The tree with each leaf an array of its own: none can be donated twice."""
    leaves, structure = jax.tree.flatten(tree)
    first = {id(leaf): place for place, leaf in reversed(list(enumerate(leaves)))}
    return structure.unflatten(
        leaf if first[id(leaf)] == place else jnp.copy(leaf) for place, leaf in enumerate(leaves)
    )


def default_chunk(carried: Chunk) -> int:
    """How many agents descend side by side: a power of two."""
    if jax.default_backend() != "cpu":
        return 4096
    leaves = jax.tree.leaves(carried)
    each = max(sum(x.nbytes for x in leaves) // len(leaves[0]), 1)
    size = max(SMALL_CHUNK // each, min(32, LARGE_CHUNK // each), 1)
    return int(2 ** np.floor(np.log2(size)))
