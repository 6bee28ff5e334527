"""Fits many agents to data: `fit_loop` as one compiled program.

Training from several initializations guards against a bad one, but training each to the end is
expensive. Here agents with high values, such as a high validation loss, are pruned during training.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.agents.arguments import checked_hyperparams, count_agents, params_of_agents
from jaxdescent.agents.loops.batches import WHOLE_DATA
from jaxdescent.agents.loops.fit_loop import FitSettings, fit_settings, loop_of
from jaxdescent.agents.loops.population_loop import (
    PopulationLoopState,
    PopulationResult,
    RungInfo,
    population_result,
    warn_if_undefined,
)
from jaxdescent.agents.loops.rungs import RungPlan, rung_plan, scan_rungs
from jaxdescent.agents.rule import Rule
from jaxdescent.estimators.estimator import Estimator
from jaxdescent.programs import compiled


def fit(
    loss_fn: Callable[..., Any],
    optimizer: Any,
    data: Any,
    *,
    init_params: Any,
    key: jax.Array,
    steps: int | None = None,
    steps_per_rung: int | None = None,
    gradient_budget: int | None = None,
    num_rungs: int | None = None,
    batch_size: int | None,
    validation_data: Any = None,
    value_fn: Callable[..., jax.Array] | None = None,
    mode: Literal["min", "max"] = "min",
    model_state: Any = None,
    hyperparams: Mapping[str, ArrayLike] | None = None,
    estimator: Estimator | None = None,
    rule: Rule | None = None,
    prune: ArrayLike = True,
    data_order: Literal["shared", "per_agent"] = "shared",
    needs_rng: bool = False,
    has_aux: bool = False,
    chunk_size: int | None = None,
    record_params: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> PopulationResult:
    """Trains a model from many initializations, and prunes agents with high values on the way.

    Give either `steps` or `gradient_budget`; there are ten rungs by default. An agent's value is
    its loss on validation data, or its mean training loss in the rung. The compiled program is
    reused for other keys, other initial parameters and other data of the same shapes, if your
    functions are the same objects, and the optimizer and the rule are made in the same way, such as
    by `optax.adam(0.05)`.

    A step whose loss is not finite does not count: one bad example among the data must not remove
    agents whose optimizer skips its batch, as `jd.hypergradient`, `jd.self_tuning` and
    `optax.apply_if_finite` do. Means of the rung leave the step out, and it changes no
    floating-point number in the model state. `history.nonfinite_losses` counts such steps. An agent
    is removed if its parameters are not finite, or if its losses were not finite in a whole rung
    and in at least 10 successive steps.

    Args:
      loss_fn: Called as `loss_fn(params, batch)`; returns the batch's mean loss, f[]. With
        `needs_rng` it is also given `key=`, with a model state `model_state=`. With `has_aux` or a
        model state it returns `(loss, aux)`, where `aux` maps names to scalars, and
        `aux["model_state"]` is the new model state.
      optimizer: a transformation that all agents share, or a factory such as `optax.adam` that
        is called with each agent's own hyperparameters, as keywords.
      data: a tree of arrays [examples, ...].
      init_params: initial parameters, a tree like the parameters with a leading axis of agents,
        such as `jax.vmap(init)(jax.random.split(key, num_agents))`.
      key: random key for the data order, the losses and the rule. Use the default kind of key:
        with `rbg` keys, random numbers under `vmap` depend on the other agents of a chunk, and so
        on pruning.
      steps: number of steps of an agent that is never pruned.
      steps_per_rung: with `steps`, number of steps between two actions of the rule; the last rung
        may be shorter. By default `num_rungs` decides.
      gradient_budget: upper bound on the gradients, each of one batch, that all agents compute
        together. Each rung gets an equal share of the remaining budget, divided by the number of
        alive agents and rounded down. With an estimator it bounds the evaluations of batches
        instead: each step of an agent takes `estimator.evaluations` of them.
      num_rungs: number of rungs, 10 by default. With `steps`, rungs differ in length by at most one
        step, the longer first, and there are at most `steps` of them.
      batch_size: examples in a batch, drawn without replacement; those that do not fill a batch
        at the end of an epoch are dropped. None to take all examples in every step.
      validation_data: a tree of arrays on which agents are evaluated at the end of a rung, all of
        it at once. Without it the value is the rung's mean training loss.
      value_fn: Called as `value_fn(params, validation_data)`, with `model_state=` if there is
        one; returns a value. By default the loss, called without `key`. An agent whose value is not
        finite is removed.
      mode: "max" if a higher value of `value_fn` is better, as of an accuracy; "min" by default, as
        of a loss. The value is reported as it is.
      model_state: the model's other variables, such as running averages of a BatchNorm, with a
        leading axis of agents. Each agent's id is folded into its random keys, so that agents draw
        different numbers even if one state was repeated for all.
      hyperparams: mapping from keywords to arrays with a leading axis of agents, or to scalars
        that all agents share. Those that the estimator takes, such as "sigma", are not passed to
        the optimizer.
      estimator: obtains gradients in another way, such as `jd.estimators.smoothed(0.1)`; by default
        they are computed by differentiation. All samples of a step see the same batch, model state
        and key, so that their differences are due to the parameters. `aux` and the new model state
        are those at the parameters. Agents draw different random numbers in each step.
      rule: acts after each rung; by default `jd.pruning.adaptive()`.
      prune: if False, agents that the rule removes continue training, which shows the result that
        they would have had. This does not affect other agents.
      data_order: with "shared" all agents see the same batch in a step, which is gathered once
        per chunk; with "per_agent" each agent has its own order, drawn from its id.
      needs_rng: whether the loss draws random numbers, for dropout for example.
      has_aux: whether the loss returns `aux`.
      chunk_size: number of agents that descend side by side, rounded up to a multiple of 8 or,
        below 8, to a power of two; by default as many as a cache holds.
      record_params: whether the history has all parameters at the end of each rung.
      mesh: mesh over whose axis "agents", or only axis, agents are sharded. Survivors are
        distributed evenly over it in each rung. The compiler may divide the work of an agent among
        the devices of other axes, for example where the loss constrains the sharding of a batch.

    Raises:
      ValueError: an argument is out of its range, shapes disagree, or the loss is not a scalar.
      TypeError: the loss function, the optimizer, the estimator, the rule, the mesh, the key or
        the hyperparameters have the wrong type.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> x = jnp.linspace(-3, 3, 256)[:, None]
      >>> data = {"x": x, "y": jnp.sin(x)}
      >>> def init(key):
      ...     a, b = jax.random.split(key)
      ...     return {"a": jax.random.normal(a, (2, 8)), "b": jax.random.normal(b, (8, 1)) / 3}
      >>> def loss(params, batch):
      ...     hidden = jnp.tanh(batch["x"] * params["a"][0] + params["a"][1])
      ...     return jnp.mean((hidden @ params["b"] - batch["y"]) ** 2)
      >>> result = jd.fit(
      ...     loss, optax.adam(0.01), data, batch_size=32, steps=800, num_rungs=8,
      ...     init_params=jax.vmap(init)(jax.random.split(jax.random.key(0), 16)),
      ...     key=jax.random.key(1), rule=jd.pruning.successive_halving())
      >>> bool(result.value < 0.01), result.history.survivors.tolist()
      (True, [8, 4, 2, 1, 1, 1, 1, 1])
    """
    init_params = params_of_agents(init_params)
    num_agents = count_agents("init_params", init_params)
    settings = fit_settings(
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
    plan = rung_plan(
        steps,
        steps_per_rung=steps_per_rung,
        gradient_budget=gradient_budget,
        num_rungs=num_rungs,
        num_agents=num_agents,
        evaluates_first=False,
        cost=settings.driver.estimator.evaluations,
    )
    key, prune = validation.random_key("key", key), validation.boolean("prune", prune)
    hyperparams = checked_hyperparams(hyperparams)
    data = validation.arrays("data", data, WHOLE_DATA)
    validation_data = validation.arrays("validation_data", validation_data, WHOLE_DATA)
    model_state = validation.arrays("model_state", model_state)
    result = _fit(
        key,
        data,
        validation_data,
        init_params,
        hyperparams,
        model_state,
        plan,
        prune,
        settings=settings,
    )
    return warn_if_undefined(result)


@compiled("settings")
def _fit(
    key: jax.Array,
    data: Any,
    validation_data: Any,
    init_params: Any,
    hyperparams: Any,
    model_state: Any,
    plan: RungPlan,
    prune: ArrayLike,
    *,
    settings: FitSettings,
) -> PopulationResult:
    loop = loop_of(settings)

    def step(state: PopulationLoopState, length: jax.Array) -> tuple[PopulationLoopState, RungInfo]:
        return loop.step(state, data, validation_data, length, prune)

    first = loop.init(key, init_params, hyperparams, model_state)
    state, history = scan_rungs(step, first, plan)
    return population_result(state, history)
