"""The training step of any Flax model: parameters, other state, optimizer and random key.

    g = mean over `accumulate` parts of the batch of grad loss(params)
    params <- params + tx.update(g)

What a model keeps besides parameters (the statistics of batch normalization) is carried
along and never differentiated: an optimizer, a tower for example, sees parameters only. All
of it has a leading axis of networks trained side by side, each with a state of its own.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

Scores = Callable[[Any, Any, jax.Array | None], dict[str, jax.Array]]
"""From `(model, batch, key)` to scores f32[batch]; "loss" is among them."""


class TrainState(NamedTuple):
    """All that the next step needs.

    Attributes:
      params: `nnx.Param`s.
      model_state: what else the model keeps, such as batch statistics.
      opt_state: the optimizer's.
      step: i32[], how many steps have been taken.
      key: from which, with the step, dropout draws.
    """

    params: Any
    model_state: Any
    opt_state: Any
    step: jax.Array
    key: jax.Array


class Trainer(NamedTuple):
    """A model's graph with what trains and judges it; made by `trainer`.

    Attributes:
      start: from keys [n] to a state of n networks.
      chunk: from `(state of n networks, feed, arrays)` to the state after the steps and the
        losses f32[steps, n]. The feed is indices i32[steps, n, batch] into the arrays, or the
        examples themselves [steps, n, batch, ...].
      evaluate: from `(params, model_state, arrays, indices i64[m])`, of n networks, to the
        mean of each score over the examples, f32[n]. It is compiled for a batch of them, and
        not to be called within another program.
    """

    start: Callable[[jax.Array], TrainState]
    chunk: Callable[[TrainState, Any, Any], tuple[TrainState, jax.Array]]
    evaluate: Callable[[Any, Any, Any, np.ndarray], dict[str, jax.Array]]


def trainer(
    build: Callable[[nnx.Rngs], nnx.Module],
    batch_of: Callable[[Any, jax.Array], Any],
    scores: Scores,
    tx: optax.GradientTransformation,
    *,
    prepare: Callable[[Any], Any] | None = None,
    accumulate: int = 1,
    side_by_side: Literal["vmap", "map", "unrolled"] = "vmap",
    evaluation_batch: int = 500,
) -> Trainer:
    """What trains n networks of one architecture.

    Args:
      build: makes the model.
      batch_of: from `(arrays, indices i32[batch])` to a batch, inside the compiled program.
      scores: what the model makes of a batch, an example each; the mean "loss" is trained on.
      tx: the optimizer; `value=` gives it the loss.
      prepare: from examples that chunks are fed to a batch; by default they are fed indices.
      accumulate: in how many parts a batch is differentiated, one after another, so that only
        a part's activations are in memory. Batch normalization sees the parts as batches.
      side_by_side: "vmap" trains the networks in one batched program, "map" one after
        another in a loop, "unrolled" one after another without one.
      evaluation_batch: examples that are judged at once.

    Example:
      >>> import numpy as np
      >>> build = lambda rngs: nnx.Linear(3, 1, rngs=rngs)
      >>> batch_of = lambda arrays, indices: (arrays[0][indices], arrays[1][indices])
      >>> scores = lambda model, batch, key: {"loss": (model(batch[0]) - batch[1])[:, 0] ** 2}
      >>> train = trainer(build, batch_of, scores, optax.sgd(0.1))
      >>> state = train.start(jax.random.split(jax.random.key(0), 2))
      >>> arrays = jnp.eye(3), jnp.ones((3, 1))
      >>> indices = np.zeros((50, 2, 3), np.int32) + np.arange(3)
      >>> state, losses = train.chunk(state, indices, arrays)
      >>> judged = train.evaluate(state.params, state.model_state, arrays, np.arange(3))
      >>> bool((judged["loss"] < 1e-3).all())
      True
    """
    if accumulate < 1:
        raise ValueError(f"accumulate must be in [1, inf), got {accumulate}")
    tx = optax.with_extra_args_support(tx)
    graph = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param, ...)[0]

    def start_one(key: jax.Array) -> TrainState:
        weights, dropout = jax.random.split(key)
        _, params, model_state = nnx.split(build(nnx.Rngs(weights)), nnx.Param, ...)
        step = jnp.zeros((), jnp.int32)
        return TrainState(params, model_state, tx.init(params), step, dropout)

    def loss_of(params: Any, model_state: Any, batch: Any, key: jax.Array) -> Any:
        # A copy: statistics that belong to an outer trace may not be written to in this one.
        model = nnx.merge(graph, params, model_state, copy=True)
        loss = scores(model, batch, key)["loss"].mean()
        return loss, nnx.split(model, nnx.Param, ...)[2]

    gradient = jax.value_and_grad(loss_of, has_aux=True)

    def step(state: TrainState, inputs: Any, arrays: Any) -> tuple[TrainState, jax.Array]:
        fed, dropout = inputs

        def batch_fed(fed: Any) -> Any:
            return batch_of(arrays, fed) if prepare is None else prepare(fed)

        def part(carry: Any, inputs: Any) -> Any:
            model_state, losses, sums = carry
            fed, key = inputs
            batch = batch_fed(fed)
            (loss, model_state), grads = gradient(state.params, model_state, batch, key)
            return (model_state, losses + loss, optax.tree.add(sums, grads)), None

        if accumulate == 1:
            batch = batch_fed(fed)
            (loss, model_state), grads = gradient(state.params, state.model_state, batch, dropout)
        else:
            zero = state.model_state, jnp.zeros(()), optax.tree.zeros_like(state.params)
            parts = jax.tree.map(lambda leaf: leaf.reshape(accumulate, -1, *leaf.shape[1:]), fed)
            inputs = parts, jax.random.split(dropout, accumulate)
            unroll = side_by_side == "unrolled"
            (model_state, loss, grads), _ = jax.lax.scan(part, zero, inputs, unroll=unroll)
            loss, grads = loss / accumulate, optax.tree.scale(1 / accumulate, grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params, value=loss)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, model_state, opt_state, state.step + 1, state.key), loss

    def chunk_one(state: TrainState, feed: Any, arrays: Any) -> Any:
        steps = len(jax.tree.leaves(feed)[0])
        # All keys at once, rather than a few small operations in each step.
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
            state.key, state.step + jnp.arange(steps)
        )
        if steps == 1:  # a loop of one turn is still a loop to XLA
            inputs = jax.tree.map(lambda leaf: leaf[0], (feed, keys))
            state, loss = step(state, inputs, arrays)
            return state, loss[None]
        return jax.lax.scan(lambda s, i: step(s, i, arrays), state, (feed, keys))

    def judge_one(params: Any, model_state: Any, arrays: Any, indices: Any, valid: Any) -> Any:
        model = nnx.merge(graph, params, model_state, copy=True)
        model.eval()
        judged = scores(model, batch_of(arrays, indices), None)
        return {name: jnp.where(valid, values, 0).sum() for name, values in judged.items()}

    def chunk(state: TrainState, feed: Any, arrays: Any) -> Any:
        per_network = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), feed)
        state, losses = _each(
            lambda s, f: chunk_one(s, f, arrays), side_by_side, state, per_network
        )
        return state, losses.T

    @jax.jit
    def judge(params: Any, model_state: Any, arrays: Any, indices: Any, valid: Any) -> Any:
        one = lambda p, m: judge_one(p, m, arrays, indices, valid)
        return _each(one, side_by_side, params, model_state)

    def evaluate(params: Any, model_state: Any, arrays: Any, indices: np.ndarray) -> Any:
        size, count = min(evaluation_batch, len(indices)), len(indices)
        # Batches from the host, the last one filled up: one program, without a loop in it.
        whole = np.resize(indices, -(-count // size) * size).astype(np.int32).reshape(-1, size)
        valid = (np.arange(whole.size) < count).reshape(whole.shape)
        sums = [
            judge(params, model_state, arrays, *each) for each in zip(whole, valid, strict=True)
        ]
        return jax.tree.map(lambda *parts: sum(parts) / count, *sums)

    return Trainer(jax.jit(jax.vmap(start_one)), chunk, evaluate)


def _each(fn: Callable[..., Any], how: str, *arguments: Any) -> Any:
    """`fn` over the leading axis; of length 1 without batching, which would cost time."""
    if len(jax.tree.leaves(arguments)[0]) == 1:
        alone = fn(*jax.tree.map(lambda leaf: leaf[0], arguments))
        return jax.tree.map(lambda leaf: leaf[None], alone)
    if how == "map":
        return jax.lax.map(lambda each: fn(*each), arguments)
    if how == "unrolled":
        networks = range(len(jax.tree.leaves(arguments)[0]))
        each = [fn(*jax.tree.map(lambda leaf, i=i: leaf[i], arguments)) for i in networks]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    return jax.vmap(fn)(*arguments)
