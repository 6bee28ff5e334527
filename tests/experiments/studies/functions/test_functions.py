"""The functions study runs from end to end, and its methods spend what they are given."""

import json

import jax
import numpy as np
import pytest

import jaxdescent as jd
from experiments.__main__ import main
from experiments.studies import functions
from experiments.studies.functions import methods as contests
from experiments.studies.functions import selection_risk as lost_winners

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["functions", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "functions").iterdir()
    return folder


def test_every_method_keeps_to_its_budget_and_the_picture_is_a_png(folder):
    description = json.loads((folder / "run.json").read_text())
    results = description["results"]
    dropped = results.pop("dropped")
    assert "MAGD at 640, rastrigin" in results
    for name, found in results.items():
        assert 560 <= min(found["gradients"]) <= max(found["gradients"]) <= 640, name
        searches = "backtracking" in name
        assert (found["evaluations"] > found["gradients"]) == searches
    assert np.shape(dropped["rastrigin"]["predicted"]) == (2, 3)
    assert description["table"]["rows"][0][0] == "rastrigin, 2-D"
    assert (folder / "agents.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("scale", "seed"), [("small", 961), ("small", 1039), ("full", 801)])
def test_no_run_is_quoted_that_settings_were_chosen_on(scale, seed, capsys):
    with pytest.raises(SystemExit):
        main(["functions", "--scale", scale, "--seed", str(seed)])
    assert f"got {seed}: settings were chosen on seeds between" in capsys.readouterr().err
    for fine in (0, 800, 1040, 2**32 - 1):
        functions.check(functions.Settings(scale=scale, seed=fine))


def test_any_seed_draws_runs():
    (runs,) = contests.instances(["rastrigin"], 2, [2**32 - 1, 2**32])
    keys = [jax.random.fold_in(jax.random.key(seed), 7) for seed in (2**32 - 1, 0)]
    assert all(key == expected for key, expected in zip(runs.keys, keys, strict=True))


def test_intervals_are_wilsons():
    # Brown, Cai and DasGupta 2001 give the formula; these are its values by hand at z = 1.96.
    np.testing.assert_allclose(contests.wilson(0, 10), (0.0, 0.27754), atol=1e-4)
    np.testing.assert_allclose(contests.wilson(5, 10), (0.23659, 0.76341), atol=1e-4)
    assert functions.percent(39, 40) == "98 [87, 100]"


def found(*excess):
    return contests.Found(np.array(excess), np.ones(len(excess)), np.ones(len(excess)))


def test_rates_are_chosen_on_tuning_runs_and_oracles_on_quoted_ones():
    table = {"a": {"f": found(0, 0, 1)}, "b": {"f": found(1, 1, 0)}}
    assert functions.chosen(table, ["a", "b"], ["f"], 2) == "b"
    assert functions.oracle(table, ["a", "b"], "f", 2) == "a"


def test_a_dropped_winner_does_harm_only_if_nobody_kept_is_as_good():
    values = np.tile(np.arange(256.0), (lost_winners.TRACED_RUNGS, 1))
    values[-1, 255] = -1.0
    lost = lost_winners.losses(values)
    assert lost.dropped.all()
    assert lost.harmed.all()
    values[-1, 0] = -1.0 + 1e-6
    lost = lost_winners.losses(values)
    assert lost.dropped.all()
    assert not lost.harmed.any()
    values[-1, 255] = 255.0
    assert not lost_winners.losses(values).dropped.any()


def test_many_dimensions_show_the_methods_of_the_columns_and_budgets_are_compared():
    size = functions.SIZES["small"]
    table = {
        name: {f: found(*[1.0] * 60) for f in functions.ALL} for name in functions._methods(size)
    }
    ours = {f: found(*[0.0] * 60) for f in functions.ALL}
    table |= {"MAGD at 20000": ours, "unpruned 64 at 20000": ours}
    columns = functions._columns(table, size)
    high = functions._high(table, size)
    assert [*high] == ["MAGD", "same agents, 64 unpruned", "multistart 0.001", "Adam 0.001"]
    assert {*high} < {*columns}
    few = {f: found(*[1.0] * 10) for f in functions.HARD}
    results = functions._results(table, dict.fromkeys(high, few), {}, size)
    rows = {row[0]: row[1:] for row in results.rows}
    assert rows["the hard eight, 2-D"][:3] == ["100 [99, 100]", "100 [99, 100]", "0 [0, 1]"]
    assert rows["schwefel, 20-D"][:4] == ["0 [0, 28]", "0 [0, 28]", "-", "0 [0, 28]"]
    assert "all of them need more than 4 times its gradients" in "\n".join(results.notes)


def test_agents_in_groups_come_to_the_best_of_all_and_count_together(monkeypatch):
    def lockstep(_problem, keys, hyperparams, steps, _optimizer, agents):
        assert hyperparams["rate"].shape == (1, agents)
        drawn.append(np.asarray(jax.random.key_data(keys)).tolist())
        return hyperparams["rate"].min(1), np.full(1, agents * (steps + 1)), np.full(1, 100)

    drawn = []
    monkeypatch.setattr(contests, "_lockstep", lockstep)
    problem = jd.Problem(abs, np.zeros(1), np.ones(1), minimum=np.array([0.25]))
    runs = contests.Instances("f", problem, jax.random.split(jax.random.key(0), 1))
    rates = np.linspace(3.0, 1.0, 32)[None]
    rates[0, 5] = 0.5  # in the first of two groups
    outcome = contests._all_go_on(runs, 640, 32, None, {"rate": rates})
    assert (outcome.excess, outcome.gradients, outcome.evaluations) == (0.25, 640, 200)
    assert drawn[0] != drawn[1]
