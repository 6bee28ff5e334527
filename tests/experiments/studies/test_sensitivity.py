"""The sensitivity study runs from end to end, and its ratios and verdicts are exact."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from experiments.__main__ import main
from experiments.studies.sensitivity import study as sensitivity
from experiments.tuning import trials
from tests.experiments.tuning.test_trials import grid, outcome

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    nowhere = tmp_path_factory.mktemp("nothing")
    flags = ["--scale", "smoke", "--seeds", "2", "--tasks", "digits", "mnist"]
    flags += ["--optimizers", "adam", "--data-dir", str(nowhere), "--runs", str(runs)]
    main(["sensitivity", *flags])
    (folder,) = (runs / "sensitivity").iterdir()
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_row_has_every_start_and_every_fixed_rate(folder):
    found = description(folder)["results"]["digits MLP, adam"]
    assert found["starts"] == [1e-8, 1e-3, 1e2]
    assert found["fixed_rates"] == [1e-3, 1e-2, 1e-1]
    assert len(found["ours"]) == len(found["fixed"]) == 3
    assert all(len(each["last"]) == 2 for each in found["ours"])
    assert found["worst"] >= found["median"] >= found["best"]


def test_the_recipe_starts_where_it_is_told(folder):
    ours = description(folder)["results"]["digits MLP, adam"]["ours"]
    losses = [each["last"][0] for each in ours]
    assert len({*losses}) == 3


def test_the_table_says_on_what_the_constants_were_chosen(folder):
    (row,) = description(folder)["table"]["rows"]
    assert row[:3] == ["digits MLP", "adam", "chosen on"]
    notes = "\n".join(description(folder)["notes"])
    assert "MNIST MLP is left out: " in notes
    assert "chosen by the same held-out losses" in notes


def test_the_published_towers_are_beside_it_and_the_picture_is_a_png(folder):
    published = description(folder)["results"]["published"]
    assert [*published] == ["raw SGD tower of height 2", "SGD self-tuning"]
    assert (folder / "sensitivity.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_computes_nothing_again(folder, monkeypatch):
    before = description(folder)
    path = folder / "run.json"
    path.write_text(json.dumps({**before, "status": "interrupted"}))
    monkeypatch.setattr(trials.Trials, "_compute", lambda *_: pytest.fail("computed again"))
    main(["sensitivity", "--resume", str(folder)])
    assert description(folder)["results"] == before["results"]


STARTS = (1e-8, 1e-3, 1e2)


def row(ours, harm=1.0, fixed=(4.0, 2.0, 3.0)):
    """A row whose best fixed loss is 2, at a rate of 10."""
    judged = [outcome(9.0, loss, 0.5, rate, own_average=True) for loss, rate in ours]
    harmed = outcome(9.0, harm, own_average=True)
    fixed = grid(list(fixed), [1.0, 3.0, 3.0])
    return sensitivity.Row(None, "adam", fixed, STARTS, judged, harmed)


def test_ratios_are_to_the_best_fixed_rate():
    found = sensitivity.summary(row([(2.0, 0.1), (2.6, 0.4), (2.2, 0.2)], harm=2.1))
    assert (found.best_rate, found.best_loss, found.averaged) == (10.0, 2.0, 0.5)
    assert (found.worst, found.median, found.best) == (1.3, 1.1, 1.0)
    assert found.worst_start == 1e-3
    assert found.worst_to_averaged == pytest.approx(2.6 / 1.0)
    assert (found.worst_last, found.median_last) == (4.5, 4.5)
    assert (found.harm, found.training) == (1.05, 0.5)
    assert found.rates == pytest.approx((0.1, 0.4))


def test_a_start_that_diverged_is_the_worst_and_the_median_knows_it():
    found = sensitivity.summary(row([(2.0, 0.1), (2.2, 0.1), (np.nan, 0.1)]))
    assert (found.worst, found.median, found.worst_start) == (np.inf, 1.1, 1e2)
    found = sensitivity.summary(row([(2.0, 0.1), (np.nan, 0.1), (np.inf, 0.1)]))
    assert (found.worst, found.median, found.worst_start) == (np.inf, np.inf, 1e-3)


def test_a_fixed_rate_that_diverged_is_not_the_best():
    found = sensitivity.summary(row([(2.0, 0.1)] * 3, fixed=(np.nan, 2.0, np.inf)))
    assert (found.best_rate, found.worst) == (10.0, 1.0)


def test_verdicts_name_the_rows_that_break_them():
    good = sensitivity.summary(row([(2.4, 0.1)] * 3, harm=2.1))
    bad = sensitivity.summary(row([(2.42, 0.1)] * 3, harm=np.nan))
    robust, harmless, _ = sensitivity.verdicts({"good": good, "bad": bad})
    assert robust == (
        "In 1 of 2 rows the worst of all starts is within 1.2 of the best fixed rate; "
        "not in bad (1.210)."
    )
    assert harmless == (
        "In 1 of 2 rows started there, self-tuning is within 1.05 of it; not in bad (diverged)."
    )
    robust, harmless, harder = sensitivity.verdicts({"good": good})
    assert robust.endswith("best fixed rate.")
    assert harmless.endswith("of it.")
    assert harder.startswith("In 0 of 1 rows")
    assert harder.endswith("judged at the same average; not in good (2.400).")


@pytest.mark.parametrize("height", [0, 1, 3])
def test_every_level_of_a_raw_tower_starts_at_the_same_rate(height):
    contestant = sensitivity.raw_tower(height)
    tx = trials.with_average(contestant.tx)
    state = contestant.at(tx.init(jnp.ones(2)), 0.25)
    top = state.inner
    if height:
        levels = jd.get_hyperparams(state)
        assert [float(level["learning_rate"]) for level in levels] == [0.25] * height
        for _ in range(height):
            top = top.hyper_state
    assert float(top.hyperparams["learning_rate"]) == 0.25


def test_a_raw_tower_of_height_1_descends_as_the_paper_says():
    contestant = sensitivity.raw_tower(1)
    tx = trials.with_average(contestant.tx)
    x = jnp.array([1.0, -2.0])
    state = contestant.at(tx.init(x), 0.1)
    rate, previous = 0.1, jnp.zeros(2)
    for _ in range(4):
        rate = rate + 0.1 * float(x @ previous)  # the gradient of |x|^2 / 2 is x
        updates, state = tx.update(x, state, x, value=0.0)
        np.testing.assert_allclose(updates, -rate * x, rtol=1e-5)
        previous, x = x, x + updates
