"""A population that is fitted to data, batch by batch and rung by rung.

    loss, g = loss on the step's batch, and its gradient
    x       <- x + update(g)
    value   = at the end of the rung: the value on validation data, or the rung's mean loss

A step whose loss is not finite does not count: one bad example among the data must not remove an
agent whose optimizer skips its batch. Means of the rung leave the step out, and it changes no
floating-point number in the model state. An agent is removed if its parameters or its value are not
finite, or if its losses were not finite in a whole rung and in at least `NONFINITE_STREAK`
successive steps.

The rule compares values. An agent's best parameters are the parameters at the end of the rung in
which its value was lowest. Every random number of an agent (dropout, its own data order) depends
only on the key, the agent's id and the step, so that pruning other agents does not change it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.agents.arguments import (
    OptimizerFactory,
    check_agents,
    checked_hyperparams,
    checked_length,
    for_each_agent,
    params_of_agents,
)
from jaxdescent.agents.loops.batches import WHOLE_DATA, Batches, check_batches, make_batches
from jaxdescent.agents.loops.driver import (
    FINITENESS,
    Chunk,
    Driver,
    estimator_keys,
    make_driver,
)
from jaxdescent.agents.loops.objective import LOSS, Objective
from jaxdescent.agents.loops.population_loop import PopulationLoop, PopulationLoopState, RungInfo
from jaxdescent.agents.population import NONFINITE_STREAK, has_model_state, initial_population
from jaxdescent.agents.rule import Rule
from jaxdescent.estimators.estimator import Estimator
from jaxdescent.numerics import all_finite, state_unless_skipped, widest_float
from jaxdescent.problem import Problem

ORDER_STREAM, LOSS_STREAM = np.uint32(2**32 - 2), np.uint32(2**32 - 1)
"""Folded into the key for data orders and losses; rules fold in rung numbers, all smaller."""


def fit_loop(
    loss_fn: Callable[..., Any],
    optimizer: Any,
    *,
    num_agents: int,
    batch_size: int | None,
    value_fn: Callable[..., jax.Array] | None = None,
    mode: Literal["min", "max"] = "min",
    estimator: Estimator | None = None,
    rule: Rule | None = None,
    data_order: Literal["shared", "per_agent"] = "shared",
    needs_rng: bool = False,
    has_aux: bool = False,
    chunk_size: int | None = None,
    record_params: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> PopulationLoop:
    """Returns the loop of `fit` as functions, to run it rung by rung.

    Use it to save checkpoints between rungs, for example. Compile `step` once, with the state
    donated: the data, `length` and `prune` may be arrays, so that other values do not recompile.

    Args:
      loss_fn: see `fit`.
      optimizer: a transformation that all agents share, or a factory such as `optax.adam` that
        is called with each agent's own hyperparameters, as keywords.
      num_agents: number of agents.
      batch_size: see `fit`.
      value_fn: see `fit`.
      mode: see `fit`.
      estimator: see `fit`.
      rule: acts after each rung; by default `jd.pruning.adaptive()`.
      data_order: see `fit`.
      needs_rng: see `fit`.
      has_aux: see `fit`.
      chunk_size: see `fit`.
      record_params: whether a `RungInfo` has the parameters of all agents.
      mesh: see `minimize`.

    Returns:
      A `PopulationLoop`:

      - `init(key, init_params, hyperparams=None, model_state=None)`: trees with a leading axis of
        agents; `hyperparams` maps keywords to arrays with that axis, or to scalars for all.
      - `step(state, data, validation_data=None, length=1, prune=True)`: runs a rung of `length`
        steps on trees of arrays [examples, ...]. With `prune=False` agents that the rule removes
        keep training; this does not affect other agents. A rung of length 0 changes nothing.

    Raises:
      ValueError: an argument is out of its range; at tracing, shapes disagree or the loss is not
        a scalar.
      TypeError: the loss function, the optimizer, the estimator, the rule, the mesh or the key has
        the wrong type.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> x = jax.random.normal(jax.random.key(0), (64, 3))
      >>> data = {"x": x, "y": x @ jnp.array([1.0, -2.0, 3.0])}
      >>> def loss(w, batch):
      ...     return jnp.mean((batch["x"] @ w - batch["y"]) ** 2)
      >>> loop = jd.fit_loop(loss, optax.adam(0.1), num_agents=8, batch_size=16)
      >>> state = loop.init(jax.random.key(1), jax.random.normal(jax.random.key(2), (8, 3)))
      >>> step = jax.jit(loop.step)
      >>> for _ in range(4):
      ...     state, info = step(state, data, length=50)
      >>> state.best_params.round(2).tolist()
      [1.0, -2.0, 3.0]
    """
    return loop_of(
        fit_settings(
            loss_fn,
            optimizer,
            num_agents=num_agents,
            batch_size=batch_size,
            value_fn=value_fn,
            mode=mode,
            estimator=estimator,
            rule=rule,
            data_order=data_order,
            needs_rng=needs_rng,
            has_aux=has_aux,
            chunk_size=chunk_size,
            record_params=record_params,
            mesh=mesh,
        )
    )


class FitSettings(NamedTuple):
    """Checked settings of a fit; hashable, so that `jax.jit` can take them as static."""

    loss_fn: Callable[..., Any]
    value_fn: Callable[..., Any] | None
    mode: str
    needs_rng: bool
    has_aux: bool
    batch_size: int | None
    data_order: str
    driver: Driver


def fit_settings(
    loss_fn: Callable[..., Any],
    optimizer: Any,
    *,
    num_agents: int,
    batch_size: int | None,
    value_fn: Callable[..., Any] | None,
    mode: str,
    estimator: Estimator | None,
    rule: Rule | None,
    data_order: str,
    needs_rng: bool,
    has_aux: bool,
    chunk_size: int | None,
    record_params: bool,
    mesh: jax.sharding.Mesh | None,
) -> FitSettings:
    """Checks the settings of `fit_loop`; raises as it does."""
    for name, function in (("loss_fn", loss_fn), ("value_fn", value_fn)):
        if not callable(function) and not (function is None and name == "value_fn"):
            raise TypeError(f"{name} must be a function, got {function!r}")
    validation.mode("mode", mode)
    if mode == "max" and value_fn is None:
        raise ValueError(
            "mode must be 'min' without value_fn, since a loss is minimized, got 'max'"
        )
    for name, flag in (("needs_rng", needs_rng), ("has_aux", has_aux)):
        if not isinstance(flag, bool):
            raise ValueError(f"{name} must be True or False, got {flag!r}")
    check_batches(batch_size, data_order)
    driver = make_driver(optimizer, num_agents, estimator, rule, chunk_size, record_params, mesh)
    return FitSettings(loss_fn, value_fn, mode, needs_rng, has_aux, batch_size, data_order, driver)


def loop_of(settings: FitSettings) -> PopulationLoop:
    """Returns the loop of `fit_loop`, for settings that are checked."""
    driver = settings.driver

    def init(
        key: jax.Array,
        init_params: Any,
        hyperparams: Mapping[str, ArrayLike] | None = None,
        model_state: Any = None,
    ) -> PopulationLoopState:
        key = validation.random_key("key", key)
        init_params = jax.tree.map(jnp.copy, params_of_agents(init_params))
        hyperparams = checked_hyperparams(hyperparams)
        model_state = () if model_state is None else validation.arrays("model_state", model_state)
        model_state = jax.tree.map(jnp.copy, model_state)
        check_agents("init_params", init_params, driver.num_agents)
        validation.check_floating("init_params", init_params, validation.PARTITION)
        hyperparams = for_each_agent(hyperparams, driver.num_agents)
        check_agents("model_state", model_state, driver.num_agents)
        problem = _problem_for_rules(None, settings.mode, init_params, None, driver.optimizer)
        population = initial_population(
            problem,
            init_params,
            hyperparams,
            widest_float(init_params),
            model_state=model_state,
            maximize=settings.mode == "max",
        )
        return driver.begin(key, population, problem)

    def step(
        state: PopulationLoopState,
        data: Any,
        validation_data: Any = None,
        length: ArrayLike = 1,
        prune: ArrayLike = True,
    ) -> tuple[PopulationLoopState, RungInfo]:
        population = state.population
        if settings.value_fn is not None and validation_data is None:
            raise ValueError("validation_data must be given where value_fn is, got None")
        data = validation.arrays("data", data, WHOLE_DATA)
        validation_data = validation.arrays("validation_data", validation_data, WHOLE_DATA)
        shapes = [leaf.shape for leaf in jax.tree.leaves(validation_data)]
        if validation_data is not None and not (shapes and all(np.prod(shape) for shape in shapes)):
            raise ValueError(
                f"validation_data must have at least one example in every leaf, got shapes {shapes}"
            )
        length = checked_length(length)
        objective = Objective(
            settings.loss_fn,
            settings.value_fn,
            settings.needs_rng,
            settings.has_aux,
            has_model_state(population.model_state),
        )
        batches = make_batches(data, settings.batch_size, settings.data_order)
        rung = _FitRung(objective, driver, batches, data, validation_data, state, length)
        unknown = jnp.full(driver.num_agents, jnp.nan, population.values.dtype)
        reports = {
            "aux": dict.fromkeys(rung.aux_names(), unknown),
            "nonfinite_losses": jnp.zeros(driver.num_agents, jnp.int32),
        }
        has_steps = length > 0
        return driver.advance(
            state,
            _problem_for_rules(
                objective, settings.mode, population.params, validation_data, driver.optimizer
            ),
            rung.descend,
            length,
            prune,
            estimates=length,
            values=has_steps if validation_data is not None else 0,
            carries=FINITENESS,
            reports=reports,
            acts=has_steps,
        )

    return PopulationLoop(init, step)


class _FitRung(NamedTuple):
    """One rung of a fit: everything that its agents share."""

    objective: Objective
    driver: Driver
    batches: Batches
    data: Any
    validation_data: Any
    state: PopulationLoopState
    length: jax.Array

    @property
    def keys(self) -> tuple[jax.Array, jax.Array]:
        """The random keys of data orders and of losses."""
        key = self.state.key
        return jax.random.fold_in(key, ORDER_STREAM), jax.random.fold_in(key, LOSS_STREAM)

    def aux_names(self) -> list[str]:
        """Returns the names of the numbers that the loss reports."""

        def aux_of_one_agent(population: Any) -> Any:
            params, model_state = jax.tree.map(
                lambda x: x[0], (population.params, population.model_state)
            )
            batch = self.batches.batch(self.data, self.batches.empty_order(1), self.state.steps)
            if self.batches.axis == 0:
                batch = jax.tree.map(lambda x: x[0], batch)
            return self.objective.loss(params, model_state, batch, self.keys[1])[1][0]

        return [*jax.eval_shape(aux_of_one_agent, self.state.population)]

    def descend(self, agents: Chunk, read: Chunk) -> Chunk:
        """Returns a chunk of agents after the rung."""
        ids, first_step, (order_key, loss_key) = read["ids"], self.state.steps, self.keys
        loss_keys = jax.vmap(partial(jax.random.fold_in, loss_key))(ids)
        keys = loss_keys, estimator_keys(self.state.key, ids)

        def step_all(t: jax.Array, carry: tuple[Chunk, Chunk, jax.Array]) -> Any:
            moving, seen, order = carry
            order = self.batches.order(order, order_key, ids, first_step + t, t == 0)
            batch = self.batches.batch(self.data, order, first_step + t)

            def step(agent: Chunk, hyperparams: Any, batch: Any, keys: Any) -> Any:
                keys = [jax.random.fold_in(key, first_step + t) for key in keys]
                return self._step(agent, hyperparams, batch, *keys)

            step_each = jax.vmap(step, in_axes=(0, 0, self.batches.axis, 0))
            moving, aux = step_each(moving, read["hyperparams"], batch, keys)
            finite = jnp.isfinite(aux[LOSS])

            def add(total: jax.Array, new: jax.Array) -> jax.Array:
                return total + jnp.where(finite, new.astype(total.dtype), 0)

            seen = {
                "aux": jax.tree.map(add, seen["aux"], aux),
                "nonfinite_losses": seen["nonfinite_losses"] + (~finite).astype(jnp.int32),
                "nonfinite_streak": jnp.where(finite, 0, seen["nonfinite_streak"] + 1),
            }
            return moving, seen, order

        zeros = {name: agents[name] for name in ("aux", "nonfinite_losses")}
        carry = (
            {name: agents[name] for name in ("params", "opt_state", "model_state")},
            jax.tree.map(jnp.zeros_like, zeros) | {"nonfinite_streak": agents["nonfinite_streak"]},
            self.batches.empty_order(len(ids)),
        )
        moving, seen, _ = jax.lax.fori_loop(0, self.length, step_all, carry)
        agents |= moving
        values = self._values(agents, seen)
        old = {name: agents[name] for name in values}
        return agents | jax.tree.map(partial(jnp.where, self.length > 0), values, old)

    def _step(
        self,
        agent: Chunk,
        hyperparams: Any,
        batch: Any,
        loss_key: jax.Array,
        estimator_key: jax.Array,
    ) -> tuple[Chunk, dict[str, jax.Array]]:
        params, model_state = agent["params"], agent["model_state"]

        def loss(params: Any, batch: Any) -> Any:
            return self.objective.loss(params, model_state, batch, loss_key)

        estimate = self.driver.value_and_grad(loss, hyperparams, key=estimator_key, has_aux=True)
        (value, (aux, new_state)), grads = estimate(params, batch)
        updates, opt_state = self.driver.optimizer(**hyperparams).update(
            grads,
            agent["opt_state"],
            params,
            value=value,
            grad=grads,
            value_fn=lambda params: loss(params, batch)[0],
        )
        params = optax.apply_updates(params, updates)
        new_state = state_unless_skipped(jnp.isfinite(value), new_state, model_state)
        return {"params": params, "opt_state": opt_state, "model_state": new_state}, aux

    def _values(self, agents: Chunk, seen: Chunk) -> Chunk:
        """Returns the fields of a chunk that the end of a rung of at least one step changes."""
        num_finite = self.length - seen["nonfinite_losses"]
        has_loss = num_finite > 0

        def mean(total: jax.Array) -> jax.Array:
            count = jnp.maximum(num_finite, 1).astype(total.dtype)
            return jnp.where(has_loss, total / count, jnp.nan)

        aux = jax.tree.map(mean, seen["aux"])
        old = agents["values"]
        if self.validation_data is None:
            values, has_value = jnp.where(has_loss, aux[LOSS], old), has_loss
        else:
            value_of_each = jax.vmap(self.objective.value, in_axes=(0, 0, None))
            values = value_of_each(agents["params"], agents["model_state"], self.validation_data)
            values, has_value = values.astype(old.dtype), True
        diverged = ~jax.vmap(all_finite)(agents["params"])
        diverged |= seen["nonfinite_streak"] >= jnp.maximum(self.length, NONFINITE_STREAK)
        return seen | {
            "aux": aux,
            "values": jnp.where(diverged, jnp.nan, values),
            "evaluated": agents["evaluated"] | has_value | diverged,
        }


def _problem_for_rules(
    objective: Objective | None,
    mode: str,
    params: Any,
    validation_data: Any,
    optimizer: OptimizerFactory,
) -> Problem:
    """Returns the problem that rules are given: the cost of parameters on validation data.

    It is minimized: the cost is the value, negated if a higher value is better.
    """

    def value(params: Any, validation_data: Any) -> jax.Array:
        if objective is None or objective.stateful or validation_data is None:
            raise ValueError(
                "this rule evaluates new parameters, for which jd.fit must be given "
                "validation_data and no model_state"
            )
        value = objective.value(params, (), validation_data)
        return -value if mode == "max" else value

    def sample(_key: jax.Array, _problem: Problem) -> Any:
        raise ValueError("this rule draws new starts, which jd.fit cannot do; use jd.minimize")

    corner = jax.tree.map(lambda x: np.zeros(x.shape[1:], x.dtype), params)
    return Problem(
        value,
        corner,
        jax.tree.map(np.ones_like, corner),
        data=(validation_data,),
        sample_fn=sample,
        optimizer=optimizer,
        bounds=None,
        unit_box=False,
    )
