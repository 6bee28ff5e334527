"""The study of logistic regression runs end to end, and its losses are exact at any scale."""

import json
import math

import jax
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies.logistic import data_sets, descent, settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["logistic", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "logistic").iterdir()
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_every_step_size_has_a_loss_on_every_data_set(folder):
    found = description(folder)
    sets = settings.DATA_SETS["smoke"]
    assert len(found["table"]["rows"]) == sets + 1
    for name in descent.step_sizes(1):
        assert name in found["table"]["columns"]
        assert len(found["results"][name]["log10_loss"]) == sets
        assert np.all(np.isfinite(found["results"][name]["log10_loss"]))
    assert all(0 < margin < 1 for margin in found["results"]["data"].values())


def test_stable_step_sizes_never_increase_the_loss_and_others_do(folder):
    increases = {
        name: sum(each["increases"])
        for name, each in description(folder)["results"].items()
        if name in descent.step_sizes(1)
    }
    for name in ("0.5 / loss", "growing, proven bound"):
        assert increases[name] == 0
    assert increases["64 / loss"] > 0


def test_notes_compare_the_results_with_theory(folder):
    notes = "\n".join(description(folder)["notes"])
    assert "the loss exceeds the bound exp(-32 (margin² t - 1)) at 0 steps" in notes
    assert notes.count("times max(step, examples) / margin² (theory") == 3
    assert description(folder)["results"]["two_points"] == pytest.approx(1, abs=0.05)
    assert (folder / "logistic.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("margin", [-700.0, -3.0, 0.0, 5.0, 36.0, 39.9, 40.1, 700.0, 5_000.0])
def test_log_loss_is_exact_where_the_loss_underflows(margin):
    with jax.enable_x64(True):
        found = descent.log_loss(np.array([margin]), np.ones((2, 1)), np.array([0.5, 0.5]))
    direct = max(-margin, 0) + math.log1p(math.exp(-abs(margin))) if margin < 600 else 0
    expected = math.log(direct) if margin < 600 else -margin
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_padding_does_not_change_the_losses():
    with jax.enable_x64(True):
        sets = data_sets.load_data_sets(2, 0)
        x, weights = descent.pad(sets)
        rule = descent.step_sizes(20)["64 / loss"]
        first, n = sets[0], len(sets[0].examples)
        assert x[0].shape != first.examples.shape
        unpadded = descent.descend(rule.make, 20, first.examples, np.full(n, 1 / n), first.margin)
        padded = descent.descend(rule.make, 20, x[0], weights[0], first.margin)
        for a, b in zip(unpadded, padded, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)


def test_increases_are_counted_and_the_last_one_is_found():
    last = np.log(np.array([[1.0, 2.0, 1.5, 1.6, 1.0, 0.9], [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]]))
    curves = descent.LossCurves(last, last)
    np.testing.assert_array_equal(curves.increases.sum(1), [2, 0])
    np.testing.assert_array_equal(curves.last_increase, [3, 0])


def test_violations_of_the_bound_are_counted():
    t = np.arange(1, 51)
    bound = np.append(np.inf, descent.log_bound(4.0, 0.5, t))[None]
    margins = np.array([0.5])
    assert descent.bound_violations(descent.LossCurves(bound, bound), margins, 4.0) == 0
    above = descent.LossCurves(bound, bound + 1e-3)
    assert descent.bound_violations(above, margins, 4.0) == 50
    assert float(descent.log_bound(4.0, 0.5, 4)) == pytest.approx(np.log(np.log(2)))
    assert float(descent.log_bound(4.0, 0.5, 4_000)) == pytest.approx(-2 * 999)
