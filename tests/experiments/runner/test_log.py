"""The log is JSON Lines, tolerates records that were cut short, and can be rewound."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.runner.log import Log, jsonable, write_atomically

NUMBERS = st.floats() | st.integers() | st.booleans() | st.none() | st.text()
VALUES = st.recursive(
    NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def finite_or_none(value):
    """Returns the value that must be read."""
    if isinstance(value, dict):
        return {name: finite_or_none(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite_or_none(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "metrics.jsonl")


def test_records_are_json_lines_with_null_for_non_finite_numbers(log):
    log.append(series="a", step=1, loss=np.array([0.5, np.nan]), rate=jnp.float32(0.25))
    log.append(series="a", step=2, loss=float("inf"))
    lines = log.path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"series": "a", "step": 1, "loss": [0.5, None], "rate": 0.25},
        {"series": "a", "step": 2, "loss": None},
    ]


@given(VALUES)
def test_logged_values_are_read_back(tmp_path_factory, value):
    log = Log(tmp_path_factory.mktemp("log") / "metrics.jsonl")
    log.append(series="a", step=1, value=value)
    assert log.read() == [{"series": "a", "step": 1, "value": finite_or_none(value)}]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float64(0.1), 0.1),
        (jnp.ones((2, 1), jnp.bfloat16), [[1.0], [1.0]]),
        (np.array([True, False]), [True, False]),
        (np.array(-np.inf), None),
        ((1, (2.5, np.nan)), [1, [2.5, None]]),
        ({3: np.int32(4)}, {"3": 4}),
        ({"w"}, "{'w'}"),
    ],
    ids=repr,
)
def test_arrays_become_lists_and_unknown_types_become_strings(value, read):
    assert jsonable(value) == read
    assert json.loads(json.dumps(jsonable(value), allow_nan=False)) == read


def test_a_listener_receives_each_written_record(tmp_path):
    heard = []
    log = Log(tmp_path / "metrics.jsonl", listen=heard.append)
    log.append(series="a", step=1, loss=np.float32(np.nan))
    assert heard == log.read() == [{"series": "a", "step": 1, "loss": None}]


def test_records_are_read_by_series_in_the_order_of_writing(log):
    assert log.read() == []
    for step, series in enumerate("abab"):
        log.append(series=series, step=step)
    assert [record["step"] for record in log.read()] == [0, 1, 2, 3]
    assert [record["step"] for record in log.read("b")] == [1, 3]
    assert log.read("c") == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5))), st.integers(-1, 6))
def test_rewinding_drops_only_the_later_records_of_the_series(tmp_path_factory, entries, step):
    log = Log(tmp_path_factory.mktemp("log") / "metrics.jsonl")
    for series, at in entries:
        log.append(series=series, step=at)
    log.rewind("a", step)
    left = [(record["series"], record["step"]) for record in log.read()]
    assert left == [(series, at) for series, at in entries if series != "a" or at <= step]


def test_rewinding_does_not_write_a_file_without_later_records(log):
    log.append(series="a", step=1)
    before = log.path.stat().st_mtime_ns, log.path.stat().st_ino
    log.rewind("a", 1)
    log.rewind("b", 0)
    assert (log.path.stat().st_mtime_ns, log.path.stat().st_ino) == before


def test_rewinding_an_empty_log_creates_no_file(log):
    log.rewind("a", 0)
    assert not log.path.exists()


def test_a_last_record_cut_at_any_byte_leaves_the_others_intact(log):
    for step in range(3):
        log.append(series="é", step=step)
    content = log.path.read_bytes()
    end_of_second = content.index(b"\n", content.index(b"\n") + 1) + 1
    for end in range(end_of_second, len(content)):
        log.path.write_bytes(content[:end])
        assert [record["step"] for record in log.read()] == [0, 1]
        log.rewind("é", 9)
        log.append(series="é", step=7)
        assert [record["step"] for record in log.read()] == [0, 1, 7]


def test_lines_other_than_records_are_ignored(log):
    log.path.write_bytes(b'{"step": 1}\n[1, 2]\n7\n\n\xff\xfe\n{"step": 2}\n')
    assert [record["step"] for record in log.read()] == [1, 2]


def test_a_file_is_written_completely_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "é\n")
    assert path.read_text(encoding="utf-8") == "é\n"
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")  # fails halfway
    assert path.read_text(encoding="utf-8") == "é\n"
