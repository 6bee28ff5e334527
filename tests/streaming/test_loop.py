"""The test-then-train loop against NumPy, its resumption, its delays, and invalid examples."""

import contextlib
import datetime
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import jaxdescent as jd
from tests.compiling import DEFAULT_OPTIONS, optimized

S = jd.streaming
RNG = np.random.default_rng(0)
X = RNG.normal([1, -2, 0], [1, 5, 0.1], (60, 3)).astype(np.float32)
Y = (X[:, 0] + 0.1 * RNG.normal(size=60) > 1).astype(np.int32)
RATE = 0.2


def predict(params, x):
    return x @ params["w"] + params["b"]


def log_loss(z, y):
    return optax.sigmoid_binary_cross_entropy(z, y.astype(z.dtype))


def params():
    return {"w": jnp.zeros(3), "b": jnp.zeros(())}


class Detection(NamedTuple):
    drift: Any
    warning: Any


class Detector(NamedTuple):
    init: Any
    update: Any


def large_values(limit=0.75):
    """A detector of values above a limit, which counts its values."""

    def update(state, value):
        return state + 1, Detection(value > limit, value > limit / 2)

    return Detector(lambda: jnp.int32(0), update)


def halve_after_drift(rate):
    """SGD whose learning rate is halved at each alarm."""

    def update(grads, state, params=None, *, drift, **extra):
        state = jnp.where(drift, state / 2, state)
        return jax.tree.map(lambda g: -state * g, grads), state

    return optax.GradientTransformationExtraArgs(lambda params: jnp.float32(rate), update)


def make(optimizer=None, **settings):
    settings = {"features": 3, "num_classes": 2, **settings}
    return S.online_loop(predict, log_loss, optimizer or optax.sgd(RATE), **settings)


def run(loop, source, length, state=None):
    """Returns the last state, and the records of the valid rows, joined."""
    state = loop.init(params()) if state is None else state
    records = []
    for chunk in S.chunks(source, length):
        state, record = loop.run(state, chunk)
        records.append(jax.tree.map(lambda x, n=chunk.length: np.asarray(x)[:n], record[:-1]))
    return state, S.Record(*map(np.concatenate, zip(*records, strict=True)), {})


def reference(x, y, *, batch_size=1, delay=0, scaled=True, limit=None):
    """The loop in NumPy with float64: predictions, losses, alarms, weights and bias."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    w, b, rate = np.zeros(3), 0.0, RATE
    predictions, losses, alarms, waiting = [], [], [], []

    def scale(rows, seen):
        if not scaled:
            return rows
        if not len(seen):
            return np.zeros_like(rows)
        deviation = seen.std(0)
        return np.where(deviation > 0, (rows - seen.mean(0)) / np.maximum(deviation, 1e-9), 0)

    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        z = scale(x[part], x[:start]) @ w + b
        loss = np.logaddexp(0, z) - y[part] * z
        predictions, losses = [*predictions, *z], [*losses, *loss]
        waiting.append((part, loss.mean()))
        if len(waiting) <= delay // batch_size:
            alarms.append(False)
            continue
        part, signal = waiting.pop(0)
        alarms.append(limit is not None and signal > limit)
        rate /= 1 + alarms[-1]
        rows = scale(x[part], x[: start + batch_size])
        error = 1 / (1 + np.exp(-(rows @ w + b))) - y[part]
        w, b = w - rate * error @ rows / len(error), b - rate * error.mean()
    return np.array(predictions), np.array(losses), np.array(alarms), w, b


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(("batch_size", "delay"), [(1, 0), (1, 5), (4, 0), (4, 8)])
def test_predictions_updates_and_alarms_are_those_of_numpy(batch_size, delay, scaled):
    limit = 0.75 if batch_size == 1 else 0.6
    loop = make(
        halve_after_drift(RATE),
        scaler=S.standard_scaler() if scaled else None,
        detector=large_values(limit),
        batch_size=batch_size,
        label_delay=delay,
        metrics={"accuracy": S.accuracy(), "loss": S.mean_loss()},
    )
    state, record = run(loop, (X, Y), 16)
    predictions, losses, alarms, w, b = reference(
        X, Y, batch_size=batch_size, delay=delay, scaled=scaled, limit=limit
    )
    np.testing.assert_allclose(record.predictions, predictions, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(record.losses, losses, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(state.params["w"], w, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(state.params["b"], b, rtol=2e-3, atol=2e-4)
    assert alarms.any()
    assert record.drift[batch_size - 1 :: batch_size].tolist() == alarms.tolist()
    assert int(state.alarms) == alarms.sum() == record.drift.sum()
    assert (record.warning | ~record.drift).all()
    assert [int(state.examples), int(state.rejected)] == [60, 0]
    values = loop.values(state)
    assert float(values["accuracy"]) == pytest.approx(np.mean((predictions > 0) == Y), abs=1e-6)
    assert float(values["loss"]) == pytest.approx(losses.mean(), rel=1e-4)


def test_the_gradient_of_the_prediction_comes_with_minus_the_slope_of_the_loss():
    def update(grads, state, params, *, error, value, **extra):
        return jax.tree.map(lambda g: RATE * error * g, grads), state + value

    by_error = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(()), update)
    found, record = run(make(by_error, gradient_of="prediction"), (X, Y), 16)
    wanted, _ = run(make(), (X, Y), 16)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found[0], wanted[0])
    assert float(found.opt_state) == pytest.approx(record.losses.sum(), rel=1e-5)


def test_an_alarm_at_an_update_that_is_not_made_reaches_the_next_one():
    y = Y.copy()
    y[5] = 2

    def infinite_for_class_2(z, label):
        return jnp.where(label == 2, jnp.inf, 1) * log_loss(z, label)

    loop = S.online_loop(
        predict,
        infinite_for_class_2,
        halve_after_drift(RATE),
        features=3,
        num_classes=3,
        signal=lambda z, label: label == 2,
        detector=large_values(0.5),
    )
    state, record = run(loop, (X[:6], y[:6]), 3)
    assert [int(state.alarms), int(state.rejected)] == [1, 1]
    assert record.drift.tolist() == [False] * 5 + [True]
    assert bool(state.pending)
    assert float(state.opt_state) == pytest.approx(RATE)
    state, record = run(loop, (X[6:], y[6:]), 3, state)
    assert not bool(state.pending)
    assert not record.drift.any()
    assert float(state.opt_state) == pytest.approx(RATE / 2)


def test_predictions_can_be_made_at_the_average_of_the_parameters():
    tx = jd.with_average(optax.sgd(RATE), power=0.0)
    state, record = run(make(tx, evaluate_at=jd.averaged_params), (X, Y), 16)
    trained, plain = run(make(tx), (X, Y), 16)
    jax.tree.map(np.testing.assert_array_equal, state.params, trained.params)
    path, present = [], params()
    for x, y in zip(X[:8], Y[:8], strict=True):
        mean = jax.tree.map(lambda *each: np.mean(each, 0), *path) if path else present
        assert float(record.predictions[len(path)]) == pytest.approx(
            float(predict(mean, x)), rel=1e-4, abs=1e-5
        )
        path.append(present)
        slope = jax.grad(lambda p, x=x, y=y: log_loss(predict(p, x), jnp.asarray(y)))(present)
        present = jax.tree.map(lambda p, g: p - RATE * g, present, slope)
    assert np.max(np.abs(record.predictions - plain.predictions)) > 0.1
    loop = make(tx, evaluate_at=jd.averaged_params)
    expected = predict(jd.averaged_params(state.opt_state, state.params), X[0])
    assert float(loop.predict(state, X[0])) == pytest.approx(float(expected), rel=1e-5)


def test_a_loss_that_is_not_a_scalar_is_refused_by_init():
    for loss, message in (
        (lambda z, y: jnp.stack([z, z]), r"loss must return a real scalar, got float32\[2\]"),
        (lambda z, y: np.abs(z), "loss must compute with jax.numpy"),
    ):
        loop = S.online_loop(predict, loss, optax.sgd(0.1), features=3, num_classes=2)
        with pytest.raises((TypeError, ValueError), match=message):
            loop.init(params())
    with pytest.raises(TypeError, match="evaluate_at must be a function, got 3"):
        make(evaluate_at=3)


def everything(**settings):
    """A loop with a part of every kind."""
    kinds = (S.accuracy, S.mean_loss, S.f1)
    modes = ({}, {"window": 9}, {"fading": 0.9})
    return make(
        optax.chain(halve_after_drift(RATE), optax.trace(0.5)),
        scaler=S.standard_scaler(),
        detector=large_values(),
        metrics={f"{kind.__name__}{mode}": kind(**mode) for kind in kinds for mode in modes},
        **settings,
    )


@pytest.mark.parametrize(("batch_size", "delay"), [(1, 0), (1, 3), (2, 4)])
def test_a_stream_resumes_to_the_bit_and_agrees_in_chunks_of_other_lengths(
    batch_size, delay, tmp_path
):
    x, times = X.copy(), np.arange(60.0)
    x[[7, 21, 22]] = np.nan
    times[40] = 3.0
    source = x, Y, times
    with optimized():
        loop = everything(batch_size=batch_size, label_delay=delay)
        whole, record = run(loop, source, 6)
        state, first = run(loop, tuple(each[:26] for each in source), 6)
        if delay:
            state = jax.tree.map(np.asarray, state)
        else:
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(tmp_path / "state", state)
                checkpointer.wait_until_finished()
                state = checkpointer.restore(tmp_path / "state", loop.init(params()))
        state, second = run(loop, tuple(e[26:] for e in source), 6, state)
        others = [run(loop, source, length)[0] for length in (17 * batch_size, 60)]
    for (path, one), two, *other in zip(
        jax.tree.leaves_with_path(whole), *map(jax.tree.leaves, (state, *others)), strict=True
    ):
        name = jax.tree_util.keystr(path)
        np.testing.assert_array_equal(one, two, err_msg=name)
        for each in other:  # other programs, which XLA may round differently
            np.testing.assert_allclose(one, each, rtol=1e-5, atol=1e-6, err_msg=name)
    for one, *parts in zip(record[:-1], first[:-1], second[:-1], strict=True):
        np.testing.assert_array_equal(one, np.concatenate(parts))
    assert [int(state.skipped.features), int(state.skipped.time)] == [3, 1]


def test_a_run_compiles_once():
    traces = []

    def counted(params, x):
        traces.append(x)
        return predict(params, x)

    loop = S.online_loop(
        counted, log_loss, optax.adam(0.1), features=3, num_classes=2, scaler=S.standard_scaler()
    )
    state = loop.init(params())
    found = []
    for chunk in S.chunks((X.astype(np.float64), Y.astype(np.int64)), 8):  # the last one is padded
        state, _ = loop.run(state, chunk)
        found.append(len(traces))
    assert len(found) == 8
    assert len(set(found)) == 1


def test_each_of_the_loops_is_compiled_into_one_function(monkeypatch):
    """XLA does so below 1 kB in an iteration; above it, the loop is five times as slow."""
    jit, calls = jax.jit, []

    def recording(function, **options):
        compiled = jit(function, **options)

        def call(*args):
            calls.append(compiled.lower(*args))
            return compiled(*args)

        return call

    monkeypatch.setattr(jax, "jit", recording)
    loop = make(scaler=S.standard_scaler(), metrics={"loss": S.mean_loss()})
    loop.run(loop.init(params()), (X, Y))
    text = calls[0].compile(compiler_options=DEFAULT_OPTIONS).as_text()
    assert text.count(" while(") == text.count('xla_cpu_small_call="true"') == 3


def test_skipped_examples_leave_the_rest_of_the_stream_as_if_they_were_not_there():
    x, y, times = X.copy(), Y.astype(np.float64), np.arange(60.0)
    x[3] = np.nan
    x[4, 1] = np.inf
    y[10], y[11], y[12] = 2, 0.5, np.nan
    times[20] = times[21] = 0.5
    times[22] = np.nan
    wrong = [3, 4, 10, 11, 12, 20, 21, 22]
    loop = everything()
    state, record = run(loop, (x, y, times), 16)
    assert [*map(int, state.skipped)] == [0, 2, 3, 3]
    assert np.flatnonzero(~record.valid).tolist() == wrong
    assert np.isnan(record.losses[wrong]).all()
    assert not np.isnan(np.delete(record.losses, wrong)).any()
    clean, _ = run(loop, (np.delete(x, wrong, 0), np.delete(y, wrong)), 16)
    jax.tree.map(np.testing.assert_array_equal, state[:7], clean[:7])


def test_a_batch_leaves_out_its_invalid_rows():
    x = X.copy()
    x[[1, 8, 9, 10, 11]] = np.nan  # a part of the first batch, and the third one
    loop = make(batch_size=4, scaler=S.standard_scaler(), metrics={"accuracy": S.accuracy()})
    state, record = run(loop, (x, Y), 12)
    assert np.flatnonzero(~record.valid).tolist() == [1, 8, 9, 10, 11]
    first, _ = run(make(batch_size=3, scaler=S.standard_scaler()), (X[[0, 2, 3]], Y[[0, 2, 3]]), 3)
    one, _ = run(loop, (x[:4], Y[:4]), 4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        one.params,
        first.params,
    )
    assert int(state.metrics["accuracy"].examples) == int(state.examples) == 55


def test_features_of_another_width_are_counted_in_a_row_or_in_a_whole_chunk():
    loop = make()
    rows = [(X[0], 0), (X[1, :2], 1), (X[2], 1)]
    state, _ = run(loop, rows, 4)
    state, record = loop.run(state, S.Chunk(X[:4, :2], Y[:4]))
    assert [int(state.skipped.width), int(state.examples)] == [5, 2]
    assert not record.valid.any()


REFUSED = {
    "width": (X[:, :2], Y, None, r"features must have shape \(3,\)"),
    "features": (np.where(np.arange(60)[:, None] == 3, np.nan, X), Y, None, "must be finite"),
    "label": (
        X,
        np.where(np.arange(60) == 3, 7, Y),
        None,
        r"labels must be integers in \[0, 2\), got 7",
    ),
    "time": (X, Y, np.where(np.arange(60) == 3, -1.0, 0.0), "times must be finite and must not"),
}


@pytest.mark.parametrize("problem", REFUSED)
def test_a_refused_example_leaves_the_state_as_it_was(problem):
    x, y, times, message = REFUSED[problem]
    loop = make(invalid={problem: "raise"})
    state, _ = run(loop, (X[:10], Y[:10]), 5)
    before = jax.tree.map(np.array, state)
    with pytest.raises(S.InvalidExampleError, match=message) as raised:
        loop.run(state, S.Chunk(x, y, times=times))
    assert f"at example {10 if problem == 'width' else 13} of the stream" in str(raised.value)
    jax.tree.map(np.testing.assert_array_equal, before, state)
    state, _ = loop.run(state, S.Chunk(X, Y))
    assert int(state.examples) == 70


def test_time_stamps_can_be_counted_and_used():
    times = np.array(["2020-01-02", "2020-01-01", "2020-01-03"], "datetime64[s]")
    loop = make(invalid={"time": "count"})
    state, _ = loop.run(loop.init(params()), S.Chunk(X[:3], Y[:3], times=times))
    assert [int(state.skipped.time), int(state.examples)] == [1, 3]
    late = np.array(["2020-01-02", "2020-01-03", "2020-01-04"], "datetime64[D]")
    state, _ = loop.run(state, S.Chunk(X[:3], Y[:3], times=late))  # equal times are in order
    assert int(state.skipped.time) == 2


@pytest.mark.parametrize("times", [[-2.0, -1.0, -0.0, 0.0, 5e-324, 1e9], [-5, -4, 0, 3, 2**40]])
def test_times_keep_their_order_as_integers(times):
    from jaxdescent.streaming.examples import time_from_words, time_words, to_time_keys

    keys, finite = to_time_keys(np.array(times))
    assert finite.all()
    assert [*keys] == sorted(keys)
    assert len({*keys.tolist()}) == len({*times})
    assert [time_from_words(time_words(key)) for key in keys] == keys.tolist()


def test_a_source_that_raises_an_error_leaves_a_usable_state():
    def faulty():
        yield from zip(X[:21], Y[:21], strict=True)
        raise OSError("the connection ended")

    loop = make()
    state = loop.init(params())
    with contextlib.suppress(OSError):
        for chunk in S.chunks(faulty(), 8):
            state, _ = loop.run(state, chunk)
    assert int(state.examples) == 21
    state, _ = run(loop, (X[21:], Y[21:]), 13, state)
    whole, _ = run(loop, (X, Y), 13)
    jax.tree.map(np.testing.assert_array_equal, state, whole)


def test_an_update_that_is_not_finite_is_not_made():
    def update(grads, state, params=None, **extra):
        scale = jnp.where(state == 3, jnp.nan, -RATE)
        return jax.tree.map(lambda g: scale * g, grads), state + 1

    breaks = optax.GradientTransformationExtraArgs(lambda params: jnp.int32(0), update)
    loop = make(breaks)
    state, _ = run(loop, (X, Y), 16)
    wanted, _ = run(make(), (X[:3], Y[:3]), 3)
    jax.tree.map(np.testing.assert_array_equal, state.params, wanted.params)
    assert [int(state.rejected), int(state.opt_state)] == [57, 3]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_losses_that_are_not_finite_are_counted_and_left_out_of_the_mean(batch_size):
    x = np.zeros((12, 1))
    x[3] = np.nan  # an invalid example, which has no loss
    y = np.array([1, 0, 2, 2, 1, 2, 0, 1, 0, 0, 2, 1])
    loop = S.online_loop(
        lambda w, x: w,
        lambda prediction, label: jnp.where(label == 0, jnp.inf, prediction + 5.0),  # padding has 0
        optax.sgd(0.0),
        features=1,
        num_classes=3,
        metrics={"loss": S.mean_loss()},
        batch_size=batch_size,
    )
    state = loop.init(jnp.float32(0))
    for chunk in S.chunks((x, y), 8):  # the last one is padded
        state, record = loop.run(state, chunk)
    assert [int(state.examples), int(state.nonfinite)] == [11, 4]
    assert float(record.metrics["loss"]) == 5


def test_an_update_whose_sum_with_the_parameters_overflows_is_not_made():
    loop = S.online_loop(lambda w, x: w * x, lambda p, y: -p, optax.sgd(1.0), features=())
    state = loop.init(jnp.float32(0))
    state, _ = loop.run(state, (np.full(3, 1.2e38), np.zeros(3)))  # 2.4e38, but not 3.6e38
    assert float(state.params) == pytest.approx(2.4e38)
    assert int(state.rejected) == 1


def test_the_parameters_of_the_caller_stay_theirs_and_a_prediction_learns_nothing():
    own = params()
    loop = make(jd.with_average(optax.sgd(RATE)), scaler=S.standard_scaler())
    state, _ = loop.run(loop.init(own), S.Chunk(X, Y))
    assert not own["w"].any()
    scale = X.std(0)
    wanted = (X[0] - X.mean(0)) / scale @ np.asarray(state.params["w"]) + float(state.params["b"])
    assert float(loop.predict(state, X[0])) == pytest.approx(wanted, rel=1e-3)


def test_numbers_as_labels_and_vectors_as_predictions():
    def squared(prediction, y):
        return jnp.sum((prediction - y) ** 2)

    targets = np.stack([X @ [1, 0, 0], X @ [0, 0.5, 0]], 1).astype(np.float32)
    loop = S.online_loop(
        lambda w, x: x @ w, squared, optax.sgd(0.01), features=(3,), metrics={"loss": S.mean_loss()}
    )
    state = loop.init(jnp.zeros((3, 2)))
    state, record = loop.run(state, S.Chunk(X, targets))
    assert record.predictions.shape == (60, 2)
    w = np.zeros((3, 2))
    for x, y in zip(X.astype(float), targets.astype(float), strict=True):
        w -= 0.01 * np.outer(x, 2 * (x @ w - y))
    np.testing.assert_allclose(state.params, w, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"features": 0}, ValueError, "features must be an integer at least 1"),
        ({"features": None}, ValueError, "features must be an integer at least 1, got None"),
        ({"features": (2, 0.5)}, ValueError, "features must be an integer at least 1, got 0.5"),
        ({"num_classes": 1}, ValueError, "num_classes must be an integer at least 2"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer at least 1"),
        ({"label_delay": 3, "batch_size": 2}, ValueError, "must be a multiple of batch_size=2"),
        ({"gradient_of": "x"}, ValueError, "gradient_of must be 'loss' or 'prediction', got 'x'"),
        ({"gradient_of": "prediction", "batch_size": 2}, ValueError, "batch_size must be 1 with"),
        ({"invalid": "ignore"}, ValueError, r"invalid\['width'\] must be one of"),
        ({"invalid": None}, TypeError, "invalid must be 'skip', 'raise' or a mapping"),
        ({"metrics": [S.accuracy()]}, TypeError, "metrics must be a mapping of names to metrics"),
        ({"invalid": {"label": "count"}}, ValueError, r"invalid\['label'\] must be one of"),
        ({"invalid": {"color": "skip"}}, ValueError, "invalid must have keys among"),
        ({"metrics": {"a": 3}}, TypeError, r"metrics\['a'\] must have the methods init"),
        ({"detector": 3}, TypeError, "detector must have the methods init, update"),
        ({"scaler": S.accuracy()}, TypeError, "scaler must have the methods init"),
        ({"signal": 3}, TypeError, "signal must be a function"),
        ({"optimizer": 3}, TypeError, "optimizer must be an optax gradient transformation"),
    ],
)
def test_wrong_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        make(**settings)


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (S.Chunk(X[:3], Y[:3]), "must have a multiple of batch_size=2 rows, got 3"),
        (S.Chunk(X[:4], Y[:3]), "labels must have 4 rows as features, got 3"),
        (S.Chunk(X[:0], Y[:0]), "must have at least one row"),
        (S.Chunk(X[:2], Y[:2], 3), r"chunk.length must be an integer in \[0, 2\], got 3"),
        ((X[:2], np.eye(2)), r"labels must have shape \(2,\).*, got \(2, 2\); give classes as"),
        ((X[:2], ["UP", "DOWN"]), r"labels must be .* numbers .*, got \['UP', 'DOWN'\]"),
        ((X[:2] + 1j, Y[:2]), "chunk.features must be an array of real numbers"),
        (([[1.0, 2.0, 3.0], [1.0]], Y[:2]), "chunk.features must be an array of real numbers"),
        ((1.0, 1), "chunk.features must be an array of real numbers with an axis of rows"),
        ((X[:2],), r"chunk must be a Chunk or a tuple \(features, labels\), got"),
        (None, "chunk must be a Chunk or a tuple"),
    ],
)
def test_wrong_chunks_are_refused(chunk, message):
    loop = make(batch_size=2)
    with pytest.raises((ValueError, TypeError), match=message):
        loop.run(loop.init(params()), chunk)


def test_a_delay_needs_single_labels():
    loop = S.online_loop(
        lambda w, x: x @ w, lambda p, y: p, optax.sgd(0.1), features=3, label_delay=1
    )
    with pytest.raises(ValueError, match=r"labels must have shape \(60,\), one number"):
        loop.run(loop.init(jnp.zeros(3)), (X, X))


def test_a_state_that_was_used_and_a_traced_chunk_are_refused():
    loop = make()
    state = loop.init(params())
    with pytest.raises(TypeError, match=r"chunk.features must be an array, got a traced one"):
        jax.jit(lambda x: loop.run(state, (x, Y))[0])(X)
    loop.run(state, (X, Y))
    with pytest.raises(ValueError, match="state must be the latest one"):
        loop.run(state, (X, Y))
    with pytest.raises(TypeError, match=r"state must be a LoopState, got \(\)"):
        loop.run((), (X, Y))


def test_features_too_large_for_the_dtype_are_not_finite():
    loop = make()
    state, _ = loop.run(loop.init(params()), ([[1e300, 0.0, 0.0], [1.0, 0.0, 0.0]], [0, 1]))
    assert [int(state.skipped.features), int(state.examples)] == [1, 1]


def test_dates_are_times_in_every_form():
    dates = [datetime.datetime(2020, 1, day) for day in (2, 1, 3)]
    stamps = [
        dates,
        [date.isoformat() for date in dates],
        [date.replace(tzinfo=datetime.UTC) for date in dates],
        np.asarray(dates, "datetime64[s]"),
        [2.0, None, 3.0],
        ["2020-01-02", "yesterday", "2020-01-03"],
    ]
    loop = make()
    for times in stamps:
        examples = zip(X, Y, times, strict=False)
        state, record = loop.run(loop.init(params()), next(S.chunks(examples, 3)))
        assert record.valid.tolist() == [True, False, True]
        assert int(state.skipped.time) == 1


def test_one_chunk_trains_many_states_with_a_learning_rate_each():
    rates = np.array([0.05, 0.2], np.float32)
    loop = make(optax.inject_hyperparams(optax.sgd)(learning_rate=0.1))
    start = loop.init(params())

    def state_of(rate):
        return start._replace(
            opt_state=start.opt_state._replace(hyperparams={"learning_rate": rate})
        )

    states, records = jax.vmap(lambda state: loop.run(state, (X, Y)))(jax.vmap(state_of)(rates))
    for i, rate in enumerate(rates):
        alone, record = make(optax.sgd(rate)).run(make().init(params()), (X, Y))
        np.testing.assert_allclose(states.params["w"][i], alone.params["w"], rtol=1e-4)
        np.testing.assert_allclose(records.losses[i], record.losses, rtol=1e-4, atol=1e-6)
