"""The compiled part of an online loop: all batches of a chunk.

A chunk is one compiled program of three loops of few operations: the scaler's statistics, which do
not depend on the parameters; predictions and updates; and the sums of the metrics. Everything else,
such as scaling and losses, is computed for all rows of the chunk at once. XLA for CPUs compiles a
loop that touches less than 1 kB in an iteration into one function, which is several times as fast
as the same operations in one larger loop. Rows that are not valid are left out by the number of
iterations, so that no state is selected.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent.numerics import all_finite
from jaxdescent.streaming import counts
from jaxdescent.streaming.loop_state import Batches, LoopState, Record, Settings, Skipped
from jaxdescent.streaming.metrics import Outcomes


def advance(settings: Settings, state: LoopState, batches: Batches) -> tuple[LoopState, Record]:
    """Tests and trains on the batches of a chunk."""
    scaler, before, after = _scaler_statistics(settings, state.scaler, batches)
    delayed, training = _delayed(settings, state.delayed, batches)
    carry, predictions, drift, warning = _descend(
        settings,
        state,
        batches,
        _scaled(settings, before, batches.features),
        training._replace(features=_scaled(settings, after, training.features)),
    )
    if settings.delay:
        delayed = delayed._replace(signals=carry.signals, step=carry.step)
    losses = jax.vmap(settings.over_batch(settings.loss))(predictions, batches.labels)
    examples = jnp.sum(batches.valid, dtype=jnp.int32)
    outcomes = _outcomes(settings, batches, predictions, losses, examples)
    metrics = {
        name: metric.update(state.metrics[name], outcomes)
        for name, metric in settings.metrics.items()
    }
    new = LoopState(
        carry.params,
        carry.opt_state,
        scaler,
        carry.detector,
        metrics,
        delayed,
        counts.add(state.examples, examples),
        Skipped(*map(counts.add, state.skipped, batches.problems)),
        counts.add(state.rejected, carry.rejected),
        counts.add(state.nonfinite, _nonfinite(batches, losses)),
        counts.add(state.alarms, jnp.sum(drift, dtype=jnp.int32)),
        carry.pending,
        state.time if batches.time is None else batches.time,
    )
    return new, _record(settings, batches, predictions, losses, drift, warning, metrics)


def _nonfinite(batches: Batches, losses: jax.Array) -> jax.Array:
    """Returns the number of losses of valid rows that are not finite."""
    found = ~jnp.isfinite(losses).reshape(batches.valid.shape) & batches.valid
    return jnp.sum(found, dtype=jnp.int32)


def _for_each(
    count: jax.Array, step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, rows: Any
) -> tuple[Any, Any]:
    """Like `jax.lax.scan` over the first `count` rows; the other outputs are 0."""
    length = len(jax.tree.leaves(rows)[0])

    def row_of(i: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), rows)

    outputs = jax.eval_shape(step, carry, row_of(0))[1]
    outputs = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), outputs)

    def body(i: jax.Array, state: tuple[Any, Any]) -> tuple[Any, Any]:
        carry, outputs = state
        carry, new = step(carry, row_of(i))
        outputs = jax.tree.map(
            lambda all_rows, row: jax.lax.dynamic_update_index_in_dim(all_rows, row, i, 0),
            outputs,
            new,
        )
        return carry, outputs

    return jax.lax.fori_loop(0, count, body, (carry, outputs))


def _scaler_statistics(settings: Settings, state: Any, batches: Batches) -> tuple[Any, Any, Any]:
    """Returns the scaler's state after the chunk, and before and after each batch, [b, ...]."""
    scaler = settings.scaler
    if scaler is None:
        return (), (), ()

    def learn(state: Any, x: jax.Array) -> tuple[Any, Any]:
        state = scaler.update(state, x)
        return state, state

    rows, number = _valid_rows(settings, batches, batches.features)
    last, after_row = _for_each(number, learn, state, rows)
    after_row = jax.tree.map(lambda first, x: jnp.concatenate([first[None], x]), state, after_row)
    learned = jnp.cumsum(jnp.sum(batches.valid, axis=1, dtype=jnp.int32))
    earlier = jnp.concatenate([jnp.zeros(1, jnp.int32), learned[:-1]])
    if settings.batch_size == 1:
        before = jax.tree.map(lambda x: x[:-1], after_row)
        after = jax.tree.map(lambda x: x[1:], after_row)
    else:
        before = jax.tree.map(lambda x: x[earlier], after_row)
        after = jax.tree.map(lambda x: x[learned], after_row)
    return last, before, after


def _valid_rows(
    settings: Settings, batches: Batches, of_batches: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the valid rows, moved to the front, and their number."""
    if settings.batch_size == 1:
        return of_batches, batches.count
    valid = batches.valid.reshape(-1)
    order = jnp.nonzero(valid, size=len(valid), fill_value=0)[0]
    rows = of_batches.reshape(-1, *of_batches.shape[2:])
    return rows[order], jnp.sum(valid, dtype=jnp.int32)


def _scaled(settings: Settings, statistics: Any, features: jax.Array) -> jax.Array:
    if settings.scaler is None:
        return features
    return jax.vmap(settings.scaler.transform)(statistics, features)


class _Training(NamedTuple):
    """The batches to train on at each step.

    Attributes:
      features: f[b, ...].
      labels: [b, ...].
      weights: bool[b, batch_size], or () without need.
      is_known: bool[b], False while no label has arrived; or ().
    """

    features: jax.Array
    labels: jax.Array
    weights: Any
    is_known: Any


def _delayed(settings: Settings, old: Any, batches: Batches) -> tuple[Any, _Training]:
    """Returns the examples that wait after the chunk, and the batches to train on."""
    size, delay = len(batches.valid), settings.delay
    if not delay:
        known = jnp.ones(size, bool)
        return (), _Training(batches.features, batches.labels, batches.valid, known)

    def joined(waiting: jax.Array, new: jax.Array) -> tuple[jax.Array, jax.Array]:
        both = jnp.concatenate([waiting, new])
        return both[:size], jax.lax.dynamic_slice_in_dim(both, batches.count, delay)

    features, waiting_features = joined(old.features, batches.features)
    labels, waiting_labels = joined(old.labels, batches.labels)
    weights, waiting_weights = joined(old.weights, batches.valid)
    known = jnp.arange(size) + old.filled >= delay
    filled = jnp.minimum(old.filled + batches.count, delay)
    waiting = old._replace(
        filled=filled, features=waiting_features, labels=waiting_labels, weights=waiting_weights
    )
    return waiting, _Training(features, labels, weights, known)


class _Carry(NamedTuple):
    """All that a step changes. `rejected` counts in this chunk."""

    params: Any
    opt_state: Any
    detector: Any
    signals: Any
    step: Any
    pending: Any
    rejected: jax.Array


class _Row(NamedTuple):
    """All that a step reads; parts that the settings do not need are ()."""

    tested: Any
    training: _Training
    labels: Any
    valid: Any


def _descend(
    settings: Settings,
    state: LoopState,
    batches: Batches,
    tested: jax.Array,
    training: _Training,
) -> tuple[_Carry, jax.Array, jax.Array, jax.Array]:
    """Runs the steps; returns the carry, predictions, alarms and warnings, [b, ...]."""
    rows = _Row((), training, (), ())
    if settings.tests_apart:
        rows = rows._replace(tested=tested)
    if settings.delay and settings.detector is not None:
        rows = rows._replace(labels=batches.labels, valid=batches.valid)
    if not settings.delay:
        rows = rows._replace(training=training._replace(is_known=()))
    if settings.batch_size == 1:
        rows = rows._replace(valid=(), training=rows.training._replace(weights=()))
    carry = _Carry(
        state.params,
        state.opt_state,
        state.detector,
        state.delayed.signals if settings.delay else (),
        state.delayed.step if settings.delay else (),
        state.pending,
        jnp.zeros((), jnp.int32),
    )
    carry, (predictions, drift, warning) = _for_each(
        batches.count, lambda carry, row: _step(settings, carry, row), carry, rows
    )
    if settings.detector is None:
        drift = warning = jnp.zeros(len(batches.valid), bool)
    return carry, predictions, drift, warning


def _step(settings: Settings, carry: _Carry, row: _Row) -> tuple[_Carry, Any]:
    """Tests one batch, then trains on one batch."""
    training = row.training
    value, predictions, grads, extra = _differentiate(settings, carry.params, training)
    if settings.tests_apart:
        params = settings.tested_params(carry.opt_state, carry.params)
        predictions, _ = settings.outputs(params, row.tested)
    extra["value"] = value
    detector, drift, warning, signals, step = _detect(settings, carry, row, predictions)
    if settings.detector is not None:
        extra["drift"] = drift | carry.pending
    updates, opt_state = settings.optimizer.update(grads, carry.opt_state, carry.params, **extra)
    moved = optax.apply_updates(carry.params, updates)
    accepted = all_finite(moved)  # the sum of finite numbers may overflow
    rejected = ~accepted
    if settings.delay:
        accepted, rejected = accepted & training.is_known, rejected & training.is_known
    params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(accepted, new, old),
        (moved, opt_state),
        (carry.params, carry.opt_state),
    )
    pending = extra["drift"] & ~accepted if settings.detector is not None else ()
    new = _Carry(params, opt_state, detector, signals, step, pending, carry.rejected + rejected)
    return new, (predictions, drift, warning)


def _differentiate(
    settings: Settings, params: Any, training: _Training
) -> tuple[jax.Array, jax.Array, Any, dict[str, Any]]:
    """Returns loss, predictions, the gradient that the optimizer takes, and its arguments."""
    extra: dict[str, Any] = {}
    if settings.gradient_of == "prediction":
        (predictions, activations), grads = jax.value_and_grad(settings.output, has_aux=True)(
            params, training.features
        )
        value, slope = jax.value_and_grad(settings.loss)(predictions, training.labels)
        extra["error"] = -slope
    else:

        def objective(params: Any) -> tuple[jax.Array, Any]:
            outputs = settings.outputs(params, training.features)
            losses = settings.over_batch(settings.loss)(outputs[0], training.labels)
            return _mean(settings, losses, training.weights), outputs

        (value, (predictions, activations)), grads = jax.value_and_grad(objective, has_aux=True)(
            params
        )
        extra |= {"grad": grads, "value_fn": lambda params: objective(params)[0]}
    if settings.has_activations:
        extra["activations"] = _of_valid_rows(settings, activations, training.weights)
    return value, predictions, grads, extra


def _of_valid_rows(settings: Settings, activations: Any, valid: Any) -> Any:
    """Puts the valid rows of a batch, in turn, in the place of the others."""
    if settings.batch_size == 1:
        return activations
    size = settings.batch_size
    order = jnp.nonzero(valid, size=size, fill_value=0)[0]
    rows = order[jnp.arange(size) % jnp.maximum(jnp.sum(valid), 1)]
    return jax.tree.map(lambda h: h[rows], activations)


def _mean(settings: Settings, values: jax.Array, valid: Any) -> jax.Array:
    """Returns the mean over the valid rows of a batch."""
    if settings.batch_size == 1:
        return values
    # A product with 0 would keep a NaN of a row to leave out.
    return jnp.sum(jnp.where(valid, values, 0)) / jnp.maximum(jnp.sum(valid), 1)


def _detect(
    settings: Settings, carry: _Carry, row: _Row, predictions: jax.Array
) -> tuple[Any, Any, Any, Any, Any]:
    """Returns the detector's state, alarm and warning, and the signals that wait for labels."""
    delay = settings.delay
    step = (carry.step + 1) % delay if delay else ()
    if settings.detector is None:
        return (), (), (), carry.signals, step
    labels, valid = row.training.labels, row.training.weights
    if delay:
        labels, valid = row.labels, row.valid
    signals = settings.over_batch(settings.signal)(predictions, labels)
    signal = _mean(settings, signals, valid)
    if not delay:
        detector, detection = settings.detector.update(carry.detector, signal)
        return detector, detection.drift, detection.warning, (), ()
    arrived = jax.lax.dynamic_index_in_dim(carry.signals, carry.step, keepdims=False)
    waiting = jax.lax.dynamic_update_index_in_dim(
        carry.signals, signal.astype(carry.signals.dtype), carry.step, 0
    )
    detector, detection = settings.detector.update(carry.detector, arrived)
    known = row.training.is_known
    detector = jax.tree.map(lambda new, old: jnp.where(known, new, old), detector, carry.detector)
    return detector, detection.drift & known, detection.warning & known, waiting, step


def _outcomes(
    settings: Settings,
    batches: Batches,
    predictions: jax.Array,
    losses: jax.Array,
    examples: jax.Array,
) -> Outcomes:
    of_rows = [
        _valid_rows(settings, batches, each)[0] for each in (predictions, batches.labels, losses)
    ]
    return Outcomes(*of_rows, count=examples)


def _record(
    settings: Settings,
    batches: Batches,
    predictions: jax.Array,
    losses: jax.Array,
    drift: jax.Array,
    warning: jax.Array,
    metrics: dict[str, Any],
) -> Record:
    """Puts the results of the batches where they are in the chunk."""
    size = len(batches.valid)
    present = jnp.arange(size) < batches.count
    places = jnp.where(present, batches.order, size)

    def place(x: jax.Array, fill: Any) -> jax.Array:
        x = jnp.where(present.reshape(-1, *[1] * (x.ndim - 1)), x, fill)
        return jnp.full_like(x, fill).at[places].set(x, mode="drop")

    valid = place(batches.valid, False).reshape(-1)

    def of_rows(x: jax.Array) -> jax.Array:
        x = place(x, jnp.nan)
        x = x if settings.batch_size == 1 else x.reshape(-1, *x.shape[2:])
        return jnp.where(valid.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.nan)

    def at_last_row(x: jax.Array) -> jax.Array:
        x = jnp.zeros((size, settings.batch_size), bool).at[:, -1].set(place(x, False))
        return x.reshape(-1)

    return Record(
        valid,
        of_rows(predictions),
        of_rows(losses),
        at_last_row(drift),
        at_last_row(warning),
        metric_values(settings, metrics),
    )


def metric_values(settings: Settings, states: dict[str, Any]) -> dict[str, jax.Array]:
    """Returns the value of each metric, by name."""
    return {name: metric.value(states[name]) for name, metric in settings.metrics.items()}
