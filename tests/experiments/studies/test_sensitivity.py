"""The sensitivity study runs, and its ratios and verdicts are exact."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from experiments.__main__ import main
from experiments.studies.sensitivity.published_towers import raw_tower
from experiments.studies.sensitivity.report import notes_on_solved, verdict, verdicts
from experiments.studies.sensitivity.sweeps import StartSweep, summarize
from experiments.tuning import trials
from experiments.tuning.generated import Nonstationary
from experiments.tuning.protocol import Workload
from tests.experiments.tuning.test_trials import grid_result, trial_result


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


def test_self_tuning_is_equal_from_all_initial_learning_rates_of_the_study(folder):
    results = description(folder)["results"]["digits MLP, adam"]["self_tuned"]
    losses = [each["last"][0] for each in results]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-3)


def test_the_report_says_which_tasks_are_for_development_and_which_are_skipped(folder):
    (row,) = description(folder)["table"]["rows"]
    assert row[:4] == ["digits MLP", "adam", "development", "stationary"]
    notes = "\n".join(description(folder)["notes"])
    assert "MNIST MLP is skipped: " in notes
    assert "chosen by the same losses, which favors it" in notes


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


class Named(Workload):
    """A workload of which only the name and the attributes are read."""

    def prepare(self, settings):
        raise AssertionError("prepared")


def sweep(self_tuned, from_best=1.0, fixed=(4.0, 2.0, 3.0), workload=None):
    """Returns a sweep whose best fixed loss is 2, at a learning rate of 10."""
    workload = workload or Named(title="task", steps=10)
    results = [trial_result(9.0, loss, 0.5, rate, own_average=True) for loss, rate in self_tuned]
    last = trial_result(9.0, from_best, own_average=True)
    grid = grid_result(list(fixed), [1.0, 3.0, 3.0])
    return StartSweep(workload, "adam", grid, STARTS, results, last)


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


def test_the_geometric_mean_is_over_starts_and_rows():
    first, second = sweep([(1.0, 0.1), (2.0, 0.1), (4.0, 0.1)]), sweep([(4.0, 0.1)] * 3)
    assert summarize(first).geometric == pytest.approx(1.0)
    *_, mean = verdicts([(each, summarize(each)) for each in (first, second)])
    assert mean.endswith("is 1.414, which is not at most 0.98.")


def row(title, losses, from_best=1.0, kind=Named, development=True, **options):
    workload = kind(title=title, steps=10, development=development, **options)
    made = sweep([(loss, 0.1) for loss in losses], from_best, workload=workload)
    return made, summarize(made)


def test_verdicts_name_the_rows_that_contradict_them():
    good, bad = row("good", [2.4] * 3, from_best=2.1), row("bad", [2.42] * 3, from_best=np.nan)
    robust, harmless, *_ = verdicts([good, bad])
    assert robust == (
        "Development, stationary: in 1 of 2 rows the worst initial learning rate is within 1.2 of "
        "the best fixed learning rate; not in bad, adam (1.210)."
    )
    assert harmless == (
        "Development, stationary: in 1 of 2 rows self-tuning from the best fixed learning rate is "
        "within 1.05 of it; not in bad, adam (diverged)."
    )
    robust, harmless, harder, mean = verdicts([good])
    assert robust.endswith("best fixed learning rate.")
    assert harmless.endswith("of it.")
    assert "in 0 of 1 rows" in harder
    assert harder.endswith("evaluated at its average; not in good, adam (2.400).")
    assert mean.endswith("is 1.200, which is not at most 0.98.")


def test_the_verdict_counts_all_rows_with_the_limit_of_their_kind():
    moving = {"kind": Nonstationary, "problem": None}
    rows = [row("a", [2.42] * 3), row("b", [2.6] * 3, **moving), row("c", [2.0] * 3)]
    assert "in 2 of 3 rows" in verdict(rows)  # 2.6 is 1.3 times the best fixed loss
    assert verdict(rows).endswith(f" is {(1.21 * 1.3) ** (1 / 3):.3f}.")
    assert verdict([]) == ""


def test_verdicts_are_given_apart_for_each_group_and_kind():
    moving = {"kind": Nonstationary, "problem": None}
    rows = [
        row("a", [2.0] * 3),
        row("b", [2.6] * 3, **moving),
        row("c", [2.0] * 3, development=False),
        row("d", [2.62] * 3, development=False, **moving),
    ]
    found = verdicts(rows)
    assert len(found) == 16
    heads = [sentence.split(":")[0] for sentence in found[::4]]
    assert heads == [
        "Development, stationary",
        "Development, nonstationary",
        "Report-only, stationary",
        "Report-only, nonstationary",
    ]
    assert "in 1 of 1 rows the worst initial learning rate is within 1.3" in found[4]
    assert found[12].endswith("; not in d, adam (1.310).")
    assert found[15].endswith("initial learning rates is 1.310.")


def test_rows_are_named_where_a_network_does_not_solve_the_task():
    solved, failed = (
        row(title, losses, solved_below=2.5)
        for title, losses in (("yes", [2.4] * 3), ("no", [2.4, 2.6, 2.4]))
    )
    assert (solved[1].solved, failed[1].solved, row("-", [1.0] * 3)[1].solved) == (1, 0, None)
    assert notes_on_solved([solved, failed]) == [
        "In 1 of 2 rows with a limit, every network solves the task from every start; not in "
        "no, adam (0 of 1)."
    ]
    assert notes_on_solved([row("-", [1.0] * 3)]) == []


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
