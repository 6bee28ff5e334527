"""Fits many agents to data and removes those that fall behind: `fit_loop` in a loop, one program.

Training from several starts is the oldest remedy against bad ones; its price is that of every
start to the end. Here those that fall behind on held-out examples are not trained to the end.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.agents.arguments import checked_hyperparams
from jaxdescent.agents.driver import DescentState, Rung
from jaxdescent.agents.fit_loop import fit_loop
from jaxdescent.agents.minimize import num_init_params, rung_lengths, total
from jaxdescent.agents.population import Population
from jaxdescent.agents.rules import Rule


class FitResult(NamedTuple):
    """What a population has come to.

    Attributes:
      params: those of the least finite value of any agent at the end of any rung.
      model_state: that agent's, at that time; () if there is none.
      value: f[], that value; inf if no agent had a finite one: `params` is then a start.
      id: i32[], the agent; -1 if there is none.
      history: a `Rung` whose arrays have a leading axis of rungs. `history.aux` has the mean
        training losses as "loss", and the means of what else the loss function reports.
      state: where the descent stands, with `population`; `fit_loop(...).advance` goes on from it.
    """

    params: Any
    model_state: Any
    value: jax.Array
    id: jax.Array
    history: Rung
    state: DescentState

    @property
    def population(self) -> Population:
        """All agents at the end."""
        return self.state.population

    @property
    def gradients(self) -> int:
        """How many gradients of a batch were computed."""
        return total(self.population.gradients)

    @property
    def evaluations(self) -> int:
        """How many losses of a batch and values on held-out examples were computed."""
        return total(self.population.evaluations)


def fit(
    loss_fn: Callable[..., Any],
    optimizer: Any,
    data: Any,
    *,
    init_params: Any,
    key: jax.Array,
    steps: int,
    rung: int,
    batch_size: int | None,
    validation_data: Any = None,
    value_fn: Callable[..., jax.Array] | None = None,
    model_state: Any = None,
    hyperparams: Mapping[str, ArrayLike] | None = None,
    rule: Rule | None = None,
    prune: ArrayLike = True,
    data_order: Literal["shared", "per_agent"] = "shared",
    needs_rng: bool = False,
    has_aux: bool = False,
    chunk_size: int | None = None,
    record_params: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> FitResult:
    """The model that many agents find, those that fall behind removed on the way.

    One compiled program, whatever is pruned; another key, other starts or other data of the same
    shapes reuse it, if the functions, the optimizer and the rule are the same objects.

    Args:
      loss_fn: from (params, batch) to the batch's mean loss. With `needs_rng` it takes `key=`,
        with a model state `model_state=`; with `has_aux` or a model state it returns (loss, aux),
        aux a mapping from names to scalars, with the new model state as `aux["model_state"]`.
      optimizer: a transformation that all share, or a factory such as `optax.adam` that is
        called with each agent's own hyperparameters, as keywords.
      data: a tree of arrays [examples, ...].
      init_params: like the parameters with a leading axis of agents, such as
        `jax.vmap(init)(jax.random.split(key, num_agents))`.
      key: what the data's order, the losses and the rule draw from. One of the kind `rbg` draws
        other numbers under `vmap` for other neighbors: with it no agent's fate is its own.
      steps: of an agent that is never pruned.
      rung: steps between two actions of the rule. The last rung may be shorter.
      batch_size: examples in a batch, drawn without replacement; those left over at the end of an
        epoch are not seen in it. None for all of them in every step.
      validation_data: a tree of arrays on which agents are evaluated at the end of a rung;
        without it, the value is the mean training loss of the rung. All of it is evaluated at once.
      value_fn: called as `value_fn(params, validation_data)`, with `model_state=` if there is
        one; returns a value. By default the loss, called without `key`.
      model_state: such as running averages of a BatchNorm, with a leading axis of agents.
      hyperparams: from keyword to an array with a leading axis of agents.
      rule: by default `jd.pruning.adaptive()`.
      prune: False has those that the rule removes descend all the same, to see what they would
        have found; the others cannot tell.
      data_order: "shared", all agents see the same batch at a step, which is gathered once for
        those side by side; "per_agent", each has an order of its own, of its id.
      needs_rng: whether the loss draws random numbers, such as dropout's.
      has_aux: whether the loss comes with something to be reported.
      chunk_size: agents that descend side by side, rounded up to a multiple of 8 or, below, to
        a power of two; by default as many as a cache holds.
      record_params: whether the history has all parameters at the end of each rung.
      mesh: of one axis, over whose devices agents are spread. Survivors are dealt out evenly for
        each rung, wherever they are.

    Raises:
      ValueError: an argument is out of its range, shapes disagree, or the loss is no scalar.
      TypeError: the loss function, the optimizer, the rule, the mesh or the key is none, or
        the hyperparameters are no mapping.

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
      ...     loss, optax.adam(0.01), data, batch_size=32, steps=800, rung=100,
      ...     init_params=jax.vmap(init)(jax.random.split(jax.random.key(0), 16)),
      ...     key=jax.random.key(1), rule=jd.pruning.successive_halving())
      >>> bool(result.value < 0.01), result.history.survivors.tolist()
      (True, [8, 4, 2, 1, 1, 1, 1, 1])
    """
    lengths = rung_lengths(
        validation.integer_in("steps", steps, 0, 2**31 - 1),
        validation.integer_in("rung", rung, 1, 2**31 - 1),
    )
    settings = {
        "num_agents": num_init_params(init_params),
        "batch_size": batch_size,
        "value_fn": value_fn,
        "rule": rule,
        "data_order": data_order,
        "needs_rng": needs_rng,
        "has_aux": has_aux,
        "chunk_size": chunk_size,
        "record_params": record_params,
        "mesh": mesh,
    }
    fit_loop(loss_fn, optimizer, **settings)  # its checks come before what jit asks of arguments
    key, prune = validation.random_key("key", key), validation.boolean("prune", prune)
    hyperparams = checked_hyperparams(hyperparams)
    arrays = jax.tree.map(
        jnp.asarray, (data, validation_data, init_params, hyperparams, model_state)
    )
    return _fitted(key, *arrays, lengths, prune, loss_fn, optimizer, tuple(settings.items()))


@partial(jax.jit, static_argnums=(8, 9, 10))
def _fitted(
    key: jax.Array,
    data: Any,
    validation_data: Any,
    init_params: Any,
    hyperparams: Any,
    model_state: Any,
    lengths: jax.Array,
    prune: ArrayLike,
    loss_fn: Callable[..., Any],
    optimizer: Any,
    settings: tuple[tuple[str, Any], ...],
) -> FitResult:
    drive = fit_loop(loss_fn, optimizer, **dict(settings))
    state, history = jax.lax.scan(
        lambda state, length: drive.advance(state, data, validation_data, length, prune),
        drive.init(key, init_params, hyperparams, model_state),
        lengths,
    )
    return FitResult(
        params=state.best_params,
        model_state=state.best_model_state,
        value=state.best_value,
        id=state.best_id,
        history=history,
        state=state,
    )
