"""Mean ranks and performance profiles of the league have their exact values."""

import numpy as np
import pytest

from experiments.studies.league import performance
from experiments.studies.league.candidates import Entry, Settings
from experiments.studies.league.report import _groups, _summary_cells, draw_profiles, results
from experiments.studies.league.standings import Standing
from tests.experiments.tuning.test_trials import trial_result

ADAM, SGD = Entry("adam self-tuning", "adam"), Entry("sgd self-tuning", "sgd")
DOG, LBFGS = Entry("DoG"), Entry("L-BFGS")


def standing(entry, loss, average=None, runs=1):
    result = trial_result(loss, average, own_average=bool(entry.self_tuned) and average is not None)
    return Standing(entry, result, 1.0, runs)


TUNED = standing(Entry("adam, best constant"), 0.5, runs=8)
TABLES = {
    "digits": [TUNED, standing(ADAM, 1.0), standing(SGD, 1.5), standing(DOG, 1.25, 1.0)],
    "logistic": [
        TUNED,
        standing(ADAM, 2.2),
        standing(SGD, np.nan),
        standing(DOG, 2.0),
        standing(LBFGS, 1.0),
    ],
}


def test_ratios_are_to_the_best_optimizer_that_is_not_tuned():
    assert performance.loss_ratios(TABLES["digits"]) == {ADAM: 1.0, SGD: 1.5, DOG: 1.25}
    averaged = performance.loss_ratios(TABLES["digits"], averaged=True)
    assert averaged == {ADAM: 1.0, SGD: 1.5, DOG: 1.0}


@pytest.mark.parametrize("best", [0.0, -1.0])
def test_without_positive_losses_only_the_best_optimizer_has_a_finite_ratio(best):
    table = [standing(ADAM, best), standing(SGD, 0.5)]
    assert performance.loss_ratios(table) == {ADAM: 1.0, SGD: np.inf}


def test_if_every_optimizer_diverges_no_ratio_is_finite():
    table = [standing(ADAM, np.nan), standing(SGD, np.inf)]
    assert performance.loss_ratios(table) == {ADAM: np.inf, SGD: np.inf}


def test_the_score_is_the_normalized_integral_of_the_profile():
    ratios = [1.0, 1.07, 1.4, 3.0, np.inf]
    taus = np.linspace(1, performance.LIMIT, 100_001)
    integral = np.trapezoid(performance.profile(ratios, taus), taus) / (performance.LIMIT - 1)
    assert np.mean([performance.score(each) for each in ratios]) == pytest.approx(
        integral, abs=1e-5
    )


def test_summaries_have_mean_ranks_and_scores_over_the_tasks():
    adam, dog, sgd, lbfgs = performance.summarize(TABLES)
    assert (adam.entry, adam.tasks, adam.mean_rank, adam.profile) == (ADAM, 2, 2.0, 0.5)
    assert (dog.entry, dog.tasks, dog.mean_rank, dog.profile) == (DOG, 2, 2.0, 0.375)
    assert (dog.averaged_rank, dog.averaged_profile) == (1.5, 0.5)
    assert (sgd.entry, sgd.mean_rank, sgd.profile) == (SGD, 3.5, 0.25)
    assert (lbfgs.entry, lbfgs.tasks, lbfgs.mean_rank, lbfgs.profile) == (LBFGS, 1, 1.0, 1.0)


def test_the_claim_is_about_optimizers_that_ran_on_every_task():
    (held,) = performance.claims(performance.summarize(TABLES), "all 2 tasks")
    assert held == (
        "Claim that self-tuning is first by mean rank and by performance profile, over all 2 "
        "tasks: held, by adam self-tuning. First by mean rank is adam self-tuning and DoG (2.00), "
        "by performance profile adam self-tuning (0.500). Mean ranks and scores of self-tuning: "
        "adam self-tuning 2.00 and 0.500, sgd self-tuning 3.50 and 0.250."
    )


def test_the_claim_does_not_hold_if_one_of_the_two_is_lost():
    tables = {"digits": [standing(ADAM, 1.0), standing(DOG, 1.1)]} | {
        f"task {i}": [standing(ADAM, 1.9), standing(DOG, 1.0), standing(SGD, 2.5)] for i in (1, 2)
    }
    (lost,) = performance.claims(performance.summarize(tables), "3 tasks")
    assert "over 3 tasks: not held. First by mean rank is DoG (1.33)" in lost


def test_report_only_tasks_are_summarized_alone():
    groups = _groups(TABLES, {"digits"})
    assert {name: [*group] for name, group in groups.items()} == {
        "all 2 tasks": ["digits", "logistic"],
        "1 report-only tasks": ["logistic"],
    }
    assert [*_groups(TABLES, {*TABLES})] == ["all 2 tasks"]
    report = results(Settings(optimizers=("adam", "sgd")), TABLES, [], {"digits"})
    last = [row for row in report.rows if row[0] == "1 report-only tasks"]
    assert [row[1] for row in last] == ["L-BFGS", "DoG", "adam self-tuning", "sgd self-tuning"]
    assert report.notes[0].startswith("Claim")
    assert "over 1 report-only tasks: not held" in report.notes[0]
    assert len({len(row) for row in (report.columns, *report.rows)}) == 1


def test_summary_rows_show_the_averaged_rank_and_score():
    dog = performance.summarize(TABLES)[1]
    cells = _summary_cells("all 2 tasks", dog)
    assert cells[:2] == ("all 2 tasks", "DoG")
    assert cells[5] == "1.50, 0.500"
    assert cells[-3:] == ("2", "2.00", "0.375")


def test_the_profiles_are_drawn_for_each_group():
    figure = draw_profiles(TABLES, {"digits"})
    assert [panel.get_title() for panel in figure.axes] == ["all 2 tasks", "1 report-only tasks"]
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert drawn["0.500 adam self-tuning"][[0, -1]].tolist() == [0.5, 0.5]
    assert drawn["0.375 DoG"][[0, -1]].tolist() == [0.0, 1.0]
