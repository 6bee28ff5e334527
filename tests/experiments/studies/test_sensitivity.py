"""The sensitivity study runs, and its ratios and verdicts are exact."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from experiments.__main__ import main
from experiments.studies.sensitivity.published_towers import raw_tower
from experiments.studies.sensitivity.report import verdicts
from experiments.studies.sensitivity.sweeps import StartSweep, summarize
from experiments.tuning import trials
from tests.experiments.tuning.test_trials import grid_result, trial_result

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    empty = tmp_path_factory.mktemp("empty")
    flags = ["--scale", "smoke", "--seeds", "2", "--tasks", "digits", "mnist"]
    flags += ["--optimizers", "adam", "--data-dir", str(empty), "--runs", str(runs)]
    main(["sensitivity", *flags])
    (folder,) = (runs / "sensitivity").iterdir()
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_results_have_every_initial_and_every_fixed_learning_rate(folder):
    found = description(folder)["results"]["digits MLP, adam"]
    assert found["starts"] == [1e-8, 1e-3, 1e2]
    assert found["fixed_rates"] == [1e-3, 1e-2, 1e-1]
    assert len(found["self_tuned"]) == len(found["fixed"]) == 3
    assert all(len(each["last"]) == 2 for each in found["self_tuned"])
    assert found["worst"] >= found["median"] >= found["best"]


def test_self_tuning_starts_at_the_given_learning_rate(folder):
    results = description(folder)["results"]["digits MLP, adam"]["self_tuned"]
    losses = [each["last"][0] for each in results]
    assert len({*losses}) == 3


def test_the_report_says_which_tasks_chose_the_constants_and_which_are_skipped(folder):
    (row,) = description(folder)["table"]["rows"]
    assert row[:3] == ["digits MLP", "adam", "yes"]
    notes = "\n".join(description(folder)["notes"])
    assert "MNIST MLP is skipped: " in notes
    assert "chosen by the same held-out losses" in notes


def test_there_are_results_of_the_published_towers_and_a_figure(folder):
    published = description(folder)["results"]["published"]
    assert [*published] == ["raw SGD tower of height 2", "SGD self-tuning"]
    assert (folder / "sensitivity.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_reads_saved_results(folder, monkeypatch):
    before = description(folder)
    path = folder / "run.json"
    path.write_text(json.dumps({**before, "status": "interrupted"}))
    monkeypatch.setattr(trials.Trials, "_compute", lambda *_: pytest.fail("computed again"))
    main(["sensitivity", "--resume", str(folder)])
    assert description(folder)["results"] == before["results"]


STARTS = (1e-8, 1e-3, 1e2)


def sweep(self_tuned, from_best=1.0, fixed=(4.0, 2.0, 3.0)):
    """Returns a sweep whose best fixed loss is 2, at a learning rate of 10."""
    results = [trial_result(9.0, loss, 0.5, rate, own_average=True) for loss, rate in self_tuned]
    last = trial_result(9.0, from_best, own_average=True)
    grid = grid_result(list(fixed), [1.0, 3.0, 3.0])
    return StartSweep(None, "adam", grid, STARTS, results, last)


def test_losses_are_relative_to_the_best_fixed_rate():
    found = summarize(sweep([(2.0, 0.1), (2.6, 0.4), (2.2, 0.2)], from_best=2.1))
    assert (found.best_rate, found.best_loss, found.averaged) == (10.0, 2.0, 0.5)
    assert (found.worst, found.median, found.best) == (1.3, 1.1, 1.0)
    assert found.worst_start == 1e-3
    assert found.worst_to_averaged == pytest.approx(2.6 / 1.0)
    assert (found.worst_last, found.median_last) == (4.5, 4.5)
    assert (found.from_best_rate, found.training) == (1.05, 0.5)
    assert found.learned_rates == pytest.approx((0.1, 0.4))


def test_a_diverged_start_counts_as_the_worst_and_in_the_median():
    found = summarize(sweep([(2.0, 0.1), (2.2, 0.1), (np.nan, 0.1)]))
    assert (found.worst, found.median, found.worst_start) == (np.inf, 1.1, 1e2)
    found = summarize(sweep([(2.0, 0.1), (np.nan, 0.1), (np.inf, 0.1)]))
    assert (found.worst, found.median, found.worst_start) == (np.inf, np.inf, 1e-3)


def test_a_diverged_fixed_rate_is_not_the_best():
    found = summarize(sweep([(2.0, 0.1)] * 3, fixed=(np.nan, 2.0, np.inf)))
    assert (found.best_rate, found.worst) == (10.0, 1.0)


def test_verdicts_name_the_rows_that_contradict_them():
    good = summarize(sweep([(2.4, 0.1)] * 3, from_best=2.1))
    bad = summarize(sweep([(2.42, 0.1)] * 3, from_best=np.nan))
    robust, harmless, _ = verdicts({"good": good, "bad": bad})
    assert robust == (
        "In 1 of 2 rows the worst initial learning rate is within 1.2 of the best fixed learning "
        "rate; not in bad (1.210)."
    )
    assert harmless == (
        "In 1 of 2 rows self-tuning from the best fixed learning rate is within 1.05 of it; "
        "not in bad (diverged)."
    )
    robust, harmless, harder = verdicts({"good": good})
    assert robust.endswith("best fixed learning rate.")
    assert harmless.endswith("of it.")
    assert harder.startswith("In 0 of 1 rows")
    assert harder.endswith("evaluated at its average; not in good (2.400).")


@pytest.mark.parametrize("height", [0, 1, 3])
def test_the_learning_rate_is_set_at_every_level_of_a_raw_tower(height):
    candidate = raw_tower(height)
    tx = jd.with_average(candidate.tx)
    state = candidate.set_rate(tx.init(jnp.ones(2)), 0.25)
    top = state.inner_state
    if height:
        levels = jd.get_hyperparams(state)
        assert [float(level["learning_rate"]) for level in levels] == [0.25] * height
        for _ in range(height):
            top = top.hyper_state
    assert float(top.hyperparams["learning_rate"]) == 0.25


def test_a_raw_tower_of_height_1_follows_the_papers_formula():
    candidate = raw_tower(1)
    tx = jd.with_average(candidate.tx)
    x = jnp.array([1.0, -2.0])
    state = candidate.set_rate(tx.init(x), 0.1)
    rate, previous = 0.1, jnp.zeros(2)
    for _ in range(4):
        rate = rate + 0.1 * float(x @ previous)  # the gradient of |x|^2 / 2 is x
        updates, state = tx.update(x, state, x, value=0.0)
        np.testing.assert_allclose(updates, -rate * x, rtol=1e-5)
        previous, x = x, x + updates
