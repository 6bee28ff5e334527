"""The logistic study runs from end to end, and its losses are exact however small."""

import json
import math

import jax
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies import logistic
from experiments.studies.logistic import data_sets as separable

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["logistic", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "logistic").iterdir()
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_every_method_has_a_loss_of_every_data_set(folder):
    found = description(folder)
    sets = logistic.SETS["smoke"]
    assert len(found["table"]["rows"]) == sets + 1
    for name in logistic.methods(1):
        assert name in found["table"]["columns"]
        assert len(found["results"][name]["log10_loss"]) == sets
        assert np.all(np.isfinite(found["results"][name]["log10_loss"]))
    assert all(0 < margin < 1 for margin in found["results"]["data"].values())


def test_stable_steps_never_let_the_loss_rise_and_the_others_did(folder):
    rises = {
        name: sum(each["rises"])
        for name, each in description(folder)["results"].items()
        if name in logistic.methods(1)
    }
    for name in ("0.5 / loss", "growing, proven bound"):
        assert rises[name] == 0
    assert rises["64 / loss"] > 0


def test_what_theory_says_is_in_the_notes(folder):
    notes = "\n".join(description(folder)["notes"])
    assert "is broken at 0 steps" in notes
    assert notes.count("times max(step, n) / margin² at most") == 3
    assert description(folder)["results"]["two_points"] == pytest.approx(1, abs=0.05)
    assert (folder / "logistic.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("margin", [-700.0, -3.0, 0.0, 5.0, 36.0, 39.9, 40.1, 700.0, 5_000.0])
def test_the_logarithm_of_the_loss_is_exact_where_the_loss_is_too_small(margin):
    with jax.enable_x64(True):
        found = logistic.log_loss(np.array([margin]), np.ones((2, 1)), np.array([0.5, 0.5]))
    direct = max(-margin, 0) + math.log1p(math.exp(-abs(margin))) if margin < 600 else 0
    expected = math.log(direct) if margin < 600 else -margin
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_padding_changes_nothing():
    with jax.enable_x64(True):
        sets = separable.data_sets(2, 0)
        x, weights = logistic.padded(sets)
        method = logistic.methods(20)["64 / loss"]
        first, n = sets[0], len(sets[0].examples)
        assert x[0].shape != first.examples.shape
        alone = logistic.descend(method.make, 20, first.examples, np.full(n, 1 / n), first.margin)
        among = logistic.descend(method.make, 20, x[0], weights[0], first.margin)
        for a, b in zip(alone, among, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)


def test_rises_are_counted_and_the_last_one_is_found():
    last = np.log(np.array([[1.0, 2.0, 1.5, 1.6, 1.0, 0.9], [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]]))
    outcome = logistic.Outcome(last, last)
    np.testing.assert_array_equal(outcome.rises.sum(1), [2, 0])
    np.testing.assert_array_equal(outcome.settled, [3, 0])


def test_a_broken_bound_is_seen():
    t = np.arange(1, 51)
    bound = np.append(np.inf, logistic.log_bound(4.0, 0.5, t))[None]
    margins = np.array([0.5])
    assert logistic.broken_bounds(logistic.Outcome(bound, bound), margins, 4.0) == 0
    above = logistic.Outcome(bound, bound + 1e-3)
    assert logistic.broken_bounds(above, margins, 4.0) == 50
    assert float(logistic.log_bound(4.0, 0.5, 4)) == pytest.approx(np.log(np.log(2)))
    assert float(logistic.log_bound(4.0, 0.5, 4_000)) == pytest.approx(-2 * 999)
