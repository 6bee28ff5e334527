"""The training step of any Flax model: parameters, other state, optimizer and random key.

    g = mean over `accumulate` parts of the batch of grad loss(params)
    params <- params + tx.update(g)

State of the model besides its parameters, such as batch statistics, is carried along and not
differentiated: the optimizer, for example a tower, sees only the parameters. Every leaf has a
leading axis of independent networks that are trained side by side.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.runner.mesh import Mesh
from jaxdescent.numerics import state_unless_skipped

Scores = Callable[[Any, Any, jax.Array | None], dict[str, jax.Array]]
"""Called as `scores(model, batch, key)`; returns scores f32[batch] by name, with a "loss"."""


class TrainState(NamedTuple):
    """State that the next step needs.

    Attributes:
      params: the model's `nnx.Param`s.
      model_state: other state of the model, such as batch statistics.
      opt_state: state of the optimizer.
      step: i32[], number of steps done.
      key: random key of dropout, folded with the step.
    """

    params: Any
    model_state: Any
    opt_state: Any
    step: jax.Array
    key: jax.Array


class Trainer(NamedTuple):
    """Functions that train and evaluate a model; made by `trainer`.

    Attributes:
      start: called as `start(keys)` with keys [n]; returns the initial state of n networks.
      shapes: called as `shapes(n)`; returns the shapes of this state, with shardings on a mesh.
      chunk: called as `chunk(state, feed, arrays)`; returns the state after the steps and the
        losses f32[steps, n]. The feed has indices i32[steps, n, batch] into the arrays, or the
        examples themselves [steps, n, batch, ...].
      evaluate: called as `evaluate(params, model_state, arrays, indices)` with indices i64[m];
        returns the mean of each score over the examples, f32[n]. It compiles a program for one
        batch, so call it outside of other programs.
      model_state_after: called as `model_state_after(params, model_state, batch)` with a batch
        (arrays, indices) that all networks share; returns the model state after a pass in training
        mode, for `jd.reestimate_statistics`.
    """

    start: Callable[[jax.Array], TrainState]
    shapes: Callable[[int], TrainState]
    chunk: Callable[[TrainState, Any, Any], tuple[TrainState, jax.Array]]
    evaluate: Callable[[Any, Any, Any, np.ndarray], dict[str, jax.Array]]
    model_state_after: Callable[[Any, Any, Any], Any]


def trainer(
    build: Callable[[nnx.Rngs], nnx.Module],
    batch_of: Callable[[Any, jax.Array], Any],
    scores: Scores,
    tx: optax.GradientTransformation,
    *,
    prepare: Callable[[Any], Any] | None = None,
    accumulate: int = 1,
    side_by_side: Literal["vmap", "map"] = "vmap",
    evaluation_batch: int = 500,
    mesh: Mesh | None = None,
) -> Trainer:
    """Returns functions that train and evaluate n networks of one architecture.

    Args:
      build: called as `build(rngs)`; returns the model.
      batch_of: called as `batch_of(arrays, indices)` with indices i32[batch], inside the
        compiled program; returns a batch.
      scores: returns the scores of each example of a batch; the mean "loss" is minimized.
      tx: the optimizer; its update receives the loss as `value=`.
      prepare: called with the examples that a chunk is fed; returns a batch. By default chunks
        are fed indices.
      accumulate: number of equal parts into which a batch is split for the gradient, so that
        only the activations of one part are in memory. Batch normalization sees the parts as
        batches.
      side_by_side: "vmap" trains the networks in one batched program, "map" one after another.
      evaluation_batch: number of examples per batch of the evaluation.
      mesh: divides networks, batches and parameters among devices; by default one device has all.

    Example:
      >>> def build(rngs):
      ...     return nnx.Linear(3, 1, rngs=rngs)
      >>> def batch_of(arrays, indices):
      ...     return arrays[0][indices], arrays[1][indices]
      >>> def scores(model, batch, key):
      ...     return {"loss": (model(batch[0]) - batch[1])[:, 0] ** 2}
      >>> train = trainer(build, batch_of, scores, optax.sgd(0.1))
      >>> state = train.start(jax.random.split(jax.random.key(0), 2))
      >>> arrays = jnp.eye(3), jnp.ones((3, 1))
      >>> indices = np.zeros((50, 2, 3), np.int32) + np.arange(3)
      >>> state, losses = train.chunk(state, indices, arrays)
      >>> means = train.evaluate(state.params, state.model_state, arrays, np.arange(3))
      >>> bool((means["loss"] < 1e-3).all())
      True
    """
    if accumulate < 1:
        raise ValueError(f"accumulate must be in [1, inf), got {accumulate}")
    if mesh and mesh.size("agents") > 1:
        side_by_side = "vmap"  # a loop over networks would gather them on every device
    tx = optax.with_extra_args_support(tx)
    graph = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param, ...)[0]

    def start_one(key: jax.Array) -> TrainState:
        weights, dropout = jax.random.split(key)
        _, params, model_state = nnx.split(build(nnx.Rngs(weights)), nnx.Param, ...)
        step = jnp.zeros((), jnp.int32)
        return TrainState(params, model_state, tx.init(params), step, dropout)

    def loss_of(params: Any, model_state: Any, batch: Any, key: jax.Array) -> Any:
        # A copy, because this trace may not write to statistics of an outer trace.
        model = nnx.merge(graph, params, model_state, copy=True)
        loss = scores(model, batch, key)["loss"].mean()
        return loss, nnx.split(model, nnx.Param, ...)[2]

    gradient = jax.value_and_grad(loss_of, has_aux=True)

    def step(state: TrainState, inputs: Any, arrays: Any) -> tuple[TrainState, jax.Array]:
        fed, dropout = inputs

        def to_batch(fed: Any) -> Any:
            return batch_of(arrays, fed) if prepare is None else prepare(fed)

        def add_part(carry: Any, inputs: Any) -> Any:
            model_state, losses, sums = carry
            fed, key = inputs
            batch = to_batch(fed)
            (loss, model_state), grads = gradient(state.params, model_state, batch, key)
            return (model_state, losses + loss, optax.tree.add(sums, grads)), None

        if accumulate == 1:
            batch = to_batch(fed)
            (loss, model_state), grads = gradient(state.params, state.model_state, batch, dropout)
        else:
            zero = state.model_state, jnp.zeros(()), optax.tree.zeros_like(state.params)
            parts = jax.tree.map(lambda leaf: leaf.reshape(accumulate, -1, *leaf.shape[1:]), fed)
            inputs = parts, jax.random.split(dropout, accumulate)
            (model_state, loss, grads), _ = jax.lax.scan(add_part, zero, inputs)
            loss, grads = loss / accumulate, optax.tree.scale(1 / accumulate, grads)
        # Otherwise one bad batch that the optimizer skips leaves NaN in statistics of a BatchNorm.
        model_state = state_unless_skipped(jnp.isfinite(loss), model_state, state.model_state)
        updates, opt_state = tx.update(grads, state.opt_state, state.params, value=loss)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, model_state, opt_state, state.step + 1, state.key), loss

    def chunk_one(state: TrainState, feed: Any, arrays: Any) -> Any:
        steps = len(jax.tree.leaves(feed)[0])
        # All keys at once are faster than a few small operations in each step.
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
            state.key, state.step + jnp.arange(steps)
        )
        if steps == 1:  # XLA keeps a loop even of one iteration
            inputs = jax.tree.map(lambda leaf: leaf[0], (feed, keys))
            state, loss = step(state, inputs, arrays)
            return state, loss[None]
        return jax.lax.scan(lambda s, i: step(s, i, arrays), state, (feed, keys))

    def sum_scores(params: Any, model_state: Any, arrays: Any, indices: Any, valid: Any) -> Any:
        model = nnx.merge(graph, params, model_state, copy=True)
        model.eval()
        found = scores(model, batch_of(arrays, indices), None)
        return {name: jnp.where(valid, values, 0).sum() for name, values in found.items()}

    def chunk(state: TrainState, feed: Any, arrays: Any) -> Any:
        per_network = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), feed)
        state, losses = _map_networks(
            lambda s, f: chunk_one(s, f, arrays), side_by_side, state, per_network
        )
        return state, losses.T

    @partial(jax.jit, out_shardings=mesh and mesh.replicated)
    def evaluate_batch(params: Any, model_state: Any, arrays: Any, indices: Any, valid: Any) -> Any:
        return _map_networks(
            lambda p, s: sum_scores(p, s, arrays, indices, valid), side_by_side, params, model_state
        )

    def evaluate(params: Any, model_state: Any, arrays: Any, indices: np.ndarray) -> Any:
        size, count = min(evaluation_batch, len(indices)), len(indices)
        # The host feeds batches of one size, the last one padded, to one program without a loop.
        batches = np.resize(indices, -(-count // size) * size).astype(np.int32).reshape(-1, size)
        valid = (np.arange(batches.size) < count).reshape(batches.shape)
        sums = [
            evaluate_batch(params, model_state, arrays, *each)
            for each in zip(batches, valid, strict=True)
        ]
        return jax.tree.map(lambda *parts: sum(parts) / count, *sums)

    def model_state_after(params: Any, model_state: Any, batch: Any) -> Any:
        def one(params: Any, model_state: Any) -> Any:
            return loss_of(params, model_state, batch_of(*batch), jax.random.key(0))[1]

        return _map_networks(one, side_by_side, params, model_state)

    start = jax.vmap(start_one)

    def shapes(networks: int) -> TrainState:
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), networks))
        found = jax.eval_shape(start, keys)
        return mesh.typed(found, tx) if mesh else found

    def start_on_mesh(keys: jax.Array) -> TrainState:
        shardings = jax.tree.map(lambda shape: shape.sharding, shapes(len(keys)))
        return jax.jit(start, out_shardings=shardings)(keys)

    return Trainer(
        start_on_mesh if mesh else jax.jit(start), shapes, chunk, evaluate, model_state_after
    )


def _map_networks(fn: Callable[..., Any], side_by_side: str, *arguments: Any) -> Any:
    """Maps `fn` over the leading axis; an axis of length 1 is not batched, which is faster."""
    if len(jax.tree.leaves(arguments)[0]) == 1:
        single = fn(*jax.tree.map(lambda leaf: leaf[0], arguments))
        return jax.tree.map(lambda leaf: leaf[None], single)
    if side_by_side == "map":
        return jax.lax.map(lambda each: fn(*each), arguments)
    return jax.vmap(fn)(*arguments)
