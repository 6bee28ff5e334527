"""A population that is fitted to data, batch by batch and rung by rung.

    loss, g = the loss on the step's batch, and its gradient
    x       <- x + update(g)
    value   = at the rung's end: the value on held-out examples, or the rung's mean loss

The rule compares values; each agent's best parameters are those at the end of the rung of its
least value. All numbers that an agent draws (dropout, an order of its own) come from the key,
its id and the step, never from its place: what it becomes does not depend on who else lives.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.agents.arguments import (
    check_agents,
    check_floating,
    checked_hyperparams,
    checked_length,
)
from jaxdescent.agents.batches import Batches, batches, check_batches
from jaxdescent.agents.driver import Chunk, Descent, DescentState, Rung, driver
from jaxdescent.agents.objective import LOSS, Objective
from jaxdescent.agents.population import started
from jaxdescent.agents.rules import Rule
from jaxdescent.problem import Problem

ORDERS, LOSSES = np.uint32(2**32 - 2), np.uint32(2**32 - 1)
"""Folded into the state's key for what descent draws; a rung's number, for its rule, is less."""


def fit_loop(
    loss_fn: Callable[..., Any],
    optimizer: Any,
    *,
    num_agents: int,
    batch_size: int | None,
    value_fn: Callable[..., jax.Array] | None = None,
    rule: Rule | None = None,
    data_order: Literal["shared", "per_agent"] = "shared",
    needs_rng: bool = False,
    has_aux: bool = False,
    chunk_size: int | None = None,
    record_params: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> Descent:
    """A descent on batches to be driven rung by rung, say with a checkpoint between.

    `fit` is this in a loop, and says what the arguments are. Compile `advance` once, with the
    state donated: data, `length` and `prune` are arrays there.

    Args:
      loss_fn: see `fit`.
      optimizer: a transformation that all share, or a factory such as `optax.adam` that is
        called with each agent's own hyperparameters, as keywords.
      num_agents: how many there are.
      batch_size: see `fit`.
      value_fn: see `fit`.
      rule: acts after each rung; by default `jd.pruning.adaptive()`.
      data_order: see `fit`.
      needs_rng: see `fit`.
      has_aux: see `fit`.
      chunk_size: see `fit`.
      record_params: whether a `Rung` has all parameters.
      mesh: see `minimize`.

    Returns:
      A `Descent`:

      - `init(key, init_params, hyperparams=None, model_state=None)`: trees with a leading axis of
        agents; hyperparameters as a mapping from keyword to an array with that axis.
      - `advance(state, data, validation_data=None, length=1, prune=True)`: a rung of `length`
        steps on a tree of arrays [examples, ...]. With `prune` False agents that the rule has
        removed descend all the same; the others cannot tell. A rung of length 0 changes nothing.

    Raises:
      ValueError: an argument is out of its range; later, at tracing, shapes that disagree or a
        loss that is no scalar.
      TypeError: the loss function, the optimizer, the rule, the mesh or the key is none.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> x = jax.random.normal(jax.random.key(0), (64, 3))
      >>> data = {"x": x, "y": x @ jnp.array([1.0, -2.0, 3.0])}
      >>> loss = lambda w, batch: jnp.mean((batch["x"] @ w - batch["y"]) ** 2)
      >>> descent = jd.fit_loop(loss, optax.adam(0.1), num_agents=8, batch_size=16)
      >>> state = descent.init(jax.random.key(1), jax.random.normal(jax.random.key(2), (8, 3)))
      >>> advance = jax.jit(descent.advance)
      >>> for _ in range(4):
      ...     state, rung = advance(state, data, length=50)
      >>> state.best_params.round(2).tolist()
      [1.0, -2.0, 3.0]
    """
    for name, function in (("loss_fn", loss_fn), ("value_fn", value_fn)):
        if not callable(function) and not (function is None and name == "value_fn"):
            raise TypeError(f"{name} must be a function, got {function!r}")
    for name, flag in (("needs_rng", needs_rng), ("has_aux", has_aux)):
        if not isinstance(flag, bool):
            raise ValueError(f"{name} must be True or False, got {flag!r}")
    check_batches(batch_size, data_order)
    drive = driver(optimizer, num_agents, rule, chunk_size, record_params, mesh)

    def init(
        key: jax.Array,
        init_params: Any,
        hyperparams: Mapping[str, ArrayLike] | None = None,
        model_state: Any = None,
    ) -> DescentState:
        key = validation.random_key("key", key)
        init_params = jax.tree.map(jnp.array, init_params)
        hyperparams = checked_hyperparams(hyperparams)
        model_state = () if model_state is None else jax.tree.map(jnp.array, model_state)
        check_agents("init_params", init_params, num_agents)
        check_floating("init_params", init_params)
        check_agents("hyperparams", hyperparams, num_agents)
        check_agents("model_state", model_state, num_agents)
        problem = _problem(None, init_params, None, drive.optimizer)
        dtype = _value_dtype(init_params)
        population = started(problem, init_params, hyperparams, dtype, model_state=model_state)
        return drive.begin(key, population, problem)

    def advance(
        state: DescentState,
        data: Any,
        validation_data: Any = None,
        length: ArrayLike = 1,
        prune: ArrayLike = True,
    ) -> tuple[DescentState, Rung]:
        population = state.population
        if value_fn is not None and validation_data is None:
            raise ValueError("validation_data must be given where value_fn is, got None")
        data, validation_data = jax.tree.map(jnp.asarray, (data, validation_data))
        shapes = [leaf.shape for leaf in jax.tree.leaves(validation_data)]
        if validation_data is not None and not (shapes and all(np.prod(shape) for shape in shapes)):
            raise ValueError(
                f"validation_data must have at least one example in every leaf, got shapes {shapes}"
            )
        length = checked_length(length)
        stateful = not (isinstance(population.model_state, tuple) and not population.model_state)
        objective = Objective(loss_fn, value_fn, needs_rng, has_aux, stateful)
        dealt = batches(data, batch_size, data_order)
        fitting = _Fitting(objective, drive.optimizer, dealt, data, validation_data, state, length)
        aux = {
            name: jnp.full(num_agents, jnp.nan, population.values.dtype) for name in fitting.names()
        }
        problem = _problem(objective, population.params, validation_data, drive.optimizer)
        moved = length > 0
        return drive.advance(
            state,
            problem,
            fitting.descend,
            length,
            prune,
            gradients=length,
            evaluations=length + (moved if validation_data is not None else 0),
            tracks_best=False,
            aux=aux,
            acts=moved,
        )

    return Descent(init, advance)


class _Fitting(NamedTuple):
    """All that a rung reads and no agent owns."""

    objective: Objective
    optimizer: Callable[..., optax.GradientTransformationExtraArgs]
    batches: Batches
    data: Any
    validation_data: Any
    state: DescentState
    length: jax.Array

    @property
    def keys(self) -> tuple[jax.Array, jax.Array]:
        """Of the data's orders and of what losses draw."""
        key = self.state.key
        return jax.random.fold_in(key, ORDERS), jax.random.fold_in(key, LOSSES)

    def names(self) -> list[str]:
        """Of what the loss reports."""

        def reported(population: Any) -> Any:
            params, model_state = jax.tree.map(
                lambda x: x[0], (population.params, population.model_state)
            )
            batch = self.batches.batch(self.data, self.batches.no_order(1), self.state.steps)
            if self.batches.axis == 0:
                batch = jax.tree.map(lambda x: x[0], batch)
            return self.objective.loss(params, model_state, batch, self.keys[1])[1][0]

        return [*jax.eval_shape(reported, self.state.population)]

    def descend(self, agents: Chunk, read: Chunk) -> Chunk:
        """A chunk of agents after the rung."""
        ids, first, (order_key, noise_key) = read["ids"], self.state.steps, self.keys
        noise_keys = jax.vmap(lambda number: jax.random.fold_in(noise_key, number))(ids)

        def all_step(t: jax.Array, carry: tuple[Chunk, Any, jax.Array]) -> Any:
            moving, totals, order = carry
            order = self.batches.order(order, order_key, ids, first + t, t == 0)
            batch = self.batches.batch(self.data, order, first + t)
            step = lambda agent, hyperparams, batch, key: self._step(
                agent, hyperparams, batch, jax.random.fold_in(key, first + t)
            )
            every = jax.vmap(step, in_axes=(0, 0, self.batches.axis, 0))
            moving, reported = every(moving, read["hyperparams"], batch, noise_keys)
            totals = jax.tree.map(lambda x, new: x + new.astype(x.dtype), totals, reported)
            return moving, totals, order

        carry = (
            {name: agents[name] for name in ("params", "opt_state", "model_state")},
            jax.tree.map(jnp.zeros_like, agents["aux"]),
            self.batches.no_order(len(ids)),
        )
        moving, totals, _ = jax.lax.fori_loop(0, self.length, all_step, carry)
        return self._valued(agents | moving, totals)

    def _step(
        self, agent: Chunk, hyperparams: Any, batch: Any, key: jax.Array
    ) -> tuple[Chunk, dict[str, jax.Array]]:
        params, before = agent["params"], agent["model_state"]
        loss = lambda x: self.objective.loss(x, before, batch, key)
        (value, (reported, model_state)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = self.optimizer(**hyperparams).update(
            grads,
            agent["opt_state"],
            params,
            value=value,
            grad=grads,
            value_fn=lambda x: loss(x)[0],
        )
        params = optax.apply_updates(params, updates)
        return {"params": params, "opt_state": opt_state, "model_state": model_state}, reported

    def _valued(self, agents: Chunk, totals: Any) -> Chunk:
        """The chunk with its values at the rung's end; as it is if the rung has no steps."""
        moved = self.length > 0
        steps = jnp.maximum(self.length, 1)
        aux = jax.tree.map(
            lambda x, old: jnp.where(moved, x / steps.astype(x.dtype), old), totals, agents["aux"]
        )
        params, model_state, old = agents["params"], agents["model_state"], agents["values"]
        values = aux[LOSS]
        if self.validation_data is not None:
            every = jax.vmap(self.objective.value, in_axes=(0, 0, None))
            values = every(params, model_state, self.validation_data).astype(old.dtype)
        values = jnp.where(moved, values, old)
        return agents | {"aux": aux, "values": values}


def _problem(
    objective: Objective | None, params: Any, validation_data: Any, optimizer: Any
) -> Problem:
    """What a rule is given: values on held-out examples, where parameters alone have one."""

    def value(x: Any, validation_data: Any) -> jax.Array:
        if objective is None or objective.stateful or validation_data is None:
            raise ValueError(
                "jd.fit can give this rule no value of parameters alone: it takes validation_data "
                "examples, and no model_state"
            )
        return objective.value(x, (), validation_data)

    def sample(_key: jax.Array, _problem: Problem) -> Any:
        raise ValueError("jd.fit cannot draw starts, which this rule asks for")

    corner = jax.tree.map(lambda x: np.zeros(x.shape[1:], x.dtype), params)
    return Problem(
        value,
        corner,
        jax.tree.map(np.ones_like, corner),
        data=(validation_data,),
        sample_fn=sample,
        optimizer=optimizer,
    )


def _value_dtype(params: Any) -> Any:
    """Means of narrow numbers are taken in float32."""
    wide = any(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(params))
    return jnp.float64 if wide else jnp.float32
