"""Instances differ between runs, share programs, and contain their minimizer."""

import jax
import numpy as np
import pytest

import jaxdescent as jd
from experiments.studies.hybrid import settings, suites
from experiments.studies.hybrid.functions import DEVELOPMENT, REPORT


def test_cut_boxes_are_smaller_by_at_most_a_tenth_a_side_and_contain_the_minimizer():
    with jax.enable_x64(True):
        for number, known in enumerate([*DEVELOPMENT.values(), *REPORT.values()]):
            whole = known.problem()
            cut = suites.cut_box(whole, jax.random.key(number))
            low, high = (np.asarray(cut.lower - whole.lower), np.asarray(whole.upper - cut.upper))
            width = np.asarray(whole.upper - whole.lower)
            assert np.all((low >= 0) & (low <= 0.1 * width))
            assert np.all((high >= 0) & (high <= 0.1 * width))
            optimum = np.asarray(whole.optima[0])
            assert np.all((cut.lower <= optimum) & (optimum <= cut.upper))
            if np.allclose(optimum, (whole.lower + whole.upper) / 2):
                assert np.abs((cut.lower + cut.upper) / 2 - optimum).max() > 1e-4 * width.max()


def test_the_hard_functions_share_a_program_and_their_instances_differ():
    group = settings.Group("hard", "2-D", settings.HARD[:2], 2, 10, 2, 1)
    with jax.enable_x64(True):
        first, second = suites.draw_group(group, 0)
        problems = [instances[run][0] for instances in (first, second) for run in range(2)]
        values = {float(problem.value(np.full(2, 0.5))) for problem in problems}
        assert problems[0].lower.dtype == np.float64
    assert len({jax.tree.structure(problem) for problem in problems}) == 1
    assert len(values) == 4
    assert [len(instances) for instances in (first, first.first(1))] == [2, 1]


def test_small_has_the_suites_that_were_named_beforehand():
    groups = settings.Settings(suites=tuple(settings.SUITES)).groups
    assert [(group.suite, group.title, len(group.functions), group.budget) for group in groups] == [
        ("hard", "2-D", 8, 20_000),
        ("hard", "20-D", 8, 200_000),
        ("hard", "100-D", 8, 1_000_000),
        ("development", "2-D", 20, 20_000),
        ("development", "3 to 6-D", 10, 50_000),
        ("report", "2-D", 15, 20_000),
        ("report", "4 to 10-D", 5, 50_000),
        ("bbob_development", "5-D", 24, 50_000),
        ("bbob_development", "20-D", 24, 200_000),
        ("bbob_report", "5-D", 24, 50_000),
        ("bbob_report", "20-D", 24, 200_000),
    ]
    assert {group.suite for group in settings.Settings().groups} == {"hard", "development"}
    assert [group.runs for group in settings.Settings(seeds=2).groups] == [2] * 5
    assert len(settings.Settings(suites=("hard",), dimensions=(2, 20)).groups) == 2


def test_methods_that_are_too_slow_are_left_out_of_100_dimensions_unless_runs_are_given():
    (group,) = settings.Settings(suites=("hard",), dimensions=(100,)).groups
    assert (group.runs_of("hybrid"), group.runs_of("lbfgs")) == (3, 0)
    chosen = {"suites": ("hard",), "dimensions": (100,), "methods": ("lbfgs",)}
    with pytest.raises(ValueError, match="must leave something to run"):
        settings.Settings(**chosen)
    assert settings.Settings(**chosen, seeds=1).groups[0].runs_of("lbfgs") == 1


@pytest.mark.parametrize(("suite", "first"), [("bbob_development", 16), ("bbob_report", 1)])
def test_bbob_instances_are_numbered_from_the_first_of_the_suite(suite, first):
    group = settings.bbob_group(suite, 5, (3, 15), 2)
    with jax.enable_x64(True):
        rastrigin, rotated = suites.draw_group(group, 0)
        for run in range(2):
            problem, _ = rotated[run]
            expected = jd.problems.bbob(15, 5, first + run)
            x = np.linspace(-4, 4, 5)
            assert problem.value(x) == expected.value(x)
            assert problem.minimum == expected.minimum
            assert problem.bounds == "project"
    assert (rastrigin.name, len(rastrigin)) == ("f3", 2)
    assert group.runs_of("adam") == 0
