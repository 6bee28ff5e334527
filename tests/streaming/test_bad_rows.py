"""Rows that are not numbers and mixed kinds of time stamps do not end a stream."""

import datetime

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

S = jd.streaming
N = 9
X = [[1.0, 2.0]] * N
Y = [0, 1, 1] * 3
LARGE = 10**400  # no float


def loss(logit, label):
    return optax.sigmoid_binary_cross_entropy(logit, label.astype(logit.dtype))


def make(**settings):
    return S.online_loop(
        lambda w, x: x @ w, loss, optax.sgd(0.1), features=2, num_classes=2, **settings
    )


LOOP = make()


def skipped(source):
    """Returns the numbers of skipped rows, after checking that the others were used."""
    state = LOOP.init(jnp.zeros(2))
    for chunk in S.chunks(source, 3):
        state, _ = LOOP.run(state, chunk)
    counts = {name: int(n) for name, n in state.skipped._asdict().items() if int(n)}
    assert int(state.examples) + sum(counts.values()) == N
    return counts


def dated(times):
    return list(zip(X, Y, times, strict=True))


@pytest.mark.parametrize(
    "times",
    [
        [0, 1, None, 3, 4, 5, 6, 7, 8],
        [*np.arange(2), None, *np.arange(3, 9)],
        [*np.arange(2, dtype=np.float32), None, *np.arange(3, 9)],
        [0, 1, LARGE, 3, 4, 5, 6, 7, 8],
        [0, 1.5, 0.5, 3, 4, 5, 6, 7, 8],
        [2**63 - 2, 2**63 - 1, None, *(2**63 + i for i in range(6))],
        [datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 2), None]
        + [f"2020-01-{day:02}" for day in range(3, 9)],
    ],
)
def test_one_bad_time_stamp_skips_one_row_in_numbers_and_dates_of_all_types(times):
    assert skipped(dated(times)) == {"time": 1}


def test_a_row_without_a_time_stamp_is_skipped_among_rows_with_one():
    rows = dated(range(N))
    rows[4] = rows[4][:2]
    assert skipped(rows) == {"time": 1}


def test_the_time_stamp_of_a_skipped_row_does_not_count():
    rows = dated(range(N))
    rows[1] = ([np.nan, 1.0], 1, 1e18)
    rows[4] = ([1.0, 1.0], 7, 1e18)
    assert skipped(rows) == {"features": 1, "label": 1}
    rows[1] = ([1.0, 1.0], 1, 1e18)  # it is in order, and later ones are not
    assert skipped(rows) == {"label": 1, "time": 6}


def test_rows_that_are_not_numbers_are_skipped():
    features, labels = [*X], [*Y]
    features[0], features[3], features[4] = [1j, 1.0], [LARGE, 1.0], ["a", 1.0]
    assert skipped(list(zip(features, labels, strict=True))) == {"features": 3}
    labels[1], labels[2], labels[8] = 1j, LARGE, np.complex64(1)
    assert skipped(list(zip(X, labels, strict=True))) == {"label": 3}


def test_arrays_of_texts_and_objects_are_read_row_by_row():
    texts = np.array(Y).astype(str)
    texts[4] = "?"
    assert skipped((np.array(X), texts)) == {"label": 1}
    objects = np.array(X, object)
    objects[2, 1], objects[7, 0] = "?", None
    assert skipped((objects, np.array(Y), np.arange(N))) == {"features": 2}
    chunks = list(S.chunks((objects, texts), 4, features=2))
    assert [chunk.length for chunk in chunks] == [4, 4, 1]
    assert chunks[0].problems.tolist() == [0, 0, 2, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"problems": [7] * N}, r"chunk.problems must be integers in \[0, 4\], got \[7, 7"),
        ({"length": 2.5}, r"chunk.length must be an integer in \[0, 9\], got 2.5"),
        ({"times": 3.0}, r"chunk.times must have shape \(9,\), got \(\)"),
        ({"times": np.zeros((N, 2))}, r"chunk.times must have shape \(9,\), got \(9, 2\)"),
        ({"labels": [LARGE] * N}, "chunk.labels must be an array of real numbers"),
    ],
)
def test_wrong_fields_of_a_chunk_are_refused_and_leave_the_state(fields, message):
    state = LOOP.init(jnp.zeros(2))
    with pytest.raises(ValueError, match=message):
        LOOP.run(state, S.Chunk(X, Y)._replace(**fields))
    assert int(state.examples) == 0


def test_many_states_at_once_take_no_times_and_refuse_an_example_by_its_row():
    loop = make(invalid="raise")
    states = jax.vmap(loop.init)(jnp.zeros((2, 2)))
    with pytest.raises(TypeError, match=r"chunk.times must be None where states are batched"):
        jax.vmap(lambda state: loop.run(state, S.Chunk(X, Y, times=range(N))))(states)
    with pytest.raises(S.InvalidExampleError, match="got 7 at row 0 of its chunk"):
        jax.vmap(lambda state: loop.run(state, (X, [7] * N)))(states)
