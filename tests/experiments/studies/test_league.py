"""The league runs from end to end, and its places and verdicts are exact."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.__main__ import main
from experiments.studies import league
from experiments.tuning import trials, workloads
from tests.experiments.tuning.test_trials import outcome

pytestmark = pytest.mark.usefixtures("quick_to_compile")


FEW = ("MoMo", "Schedule-Free sgd")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with some of the contestants: compiling all of them takes long."""
    runs = tmp_path_factory.mktemp("runs")
    flags = ["--scale", "smoke", "--seeds", "1", "--tasks", "diabetes", "--optimizers", "sgd"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(league, "PUBLISHED", {name: league.PUBLISHED[name] for name in FEW})
        patch.setattr(league, "HEIGHTS", (1,))
        main(["league", *flags, "--runs", str(runs)])
    (folder,) = (runs / "league").iterdir()
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_every_contestant_has_a_row(folder):
    rows = description(folder)["results"]["diabetes MLP"]
    assert {*rows} == {
        *FEW,
        "sgd, best constant",
        "sgd, warmup-cosine",
        "sgd, warmup-cosine, best peak",
        "sgd, tower of height 1",
        "sgd self-tuning",
    }


@pytest.mark.parametrize("name", league.single_runs(league.Settings()))
def test_every_contestant_can_take_a_step_of_several_networks(name):
    contestant = league.single_runs(league.Settings())[name]
    tx = contestant.tx if contestant.own_average else trials.with_average(contestant.tx)
    networks, losses = {"w": jnp.ones((2, 3, 4))}, jnp.ones(2)

    def step(networks, losses):
        states = jax.vmap(tx.init)(networks)
        update = jax.vmap(lambda g, s, x, v: tx.update(g, s, x, value=v))
        updates, after = update(networks, states, networks, losses)
        chex.assert_trees_all_equal_shapes_and_dtypes(states, after)
        return optax.apply_updates(networks, updates)

    after = jax.eval_shape(step, networks, losses)
    chex.assert_trees_all_equal_shapes_and_dtypes(networks, after)


def test_a_grid_counts_as_its_runs_and_has_no_rank(folder):
    rows = description(folder)["results"]["diabetes MLP"]
    counted = {name: row["runs"] for name, row in rows.items() if row["runs"] > 1}
    assert (counted["sgd, best constant"], counted["sgd, warmup-cosine"]) == (3, 4)
    assert 4 <= counted["sgd, warmup-cosine, best peak"] <= 6
    peaked = [rows[f"sgd, warmup-cosine{tuned}"]["loss"] for tuned in (", best peak", "")]
    assert peaked[0] <= peaked[1]
    assert all((row["rank"] is None) == (row["runs"] > 1) for row in rows.values())
    assert {row["rank"] for row in rows.values() if row["rank"]} <= {*range(1, 5)}


def test_the_table_is_sorted_within_a_task_and_the_notes_name_the_defaults(folder):
    said = description(folder)
    shown = [row[2].split()[0] for row in said["table"]["rows"]]
    losses = [np.inf if loss == "diverged" else float(loss) for loss in shown]
    assert losses == sorted(losses)
    assert "Mechanic over adam at 1" in "\n".join(said["notes"])
    assert (folder / "league.png").read_bytes().startswith(b"\x89PNG")


def row(name, loss, runs=1, average=None):
    return league.Row(name, outcome(loss, average, own_average=average is not None), 1.0, runs)


ROWS = [
    row("constant", 2.0, runs=8),
    row("cosine", 1.0, runs=9),
    league.Row("MoMo-Adam", outcome(1.5, 0.5), 1.0),
    row("DoG", np.nan),
    row("MoMo", np.inf),
    row("adam self-tuning", 9.0, average=1.02),
    row("sgd self-tuning", 9.0, average=1.5),
]


def test_places_are_among_those_that_need_no_tuning():
    assert league.ranks(ROWS) == {
        "adam self-tuning": 1,
        "MoMo-Adam": 2,
        "sgd self-tuning": 2,
        "DoG": 4,
        "MoMo": 4,
    }


def test_ratios_are_to_the_best_tuned_schedule_even_if_another_is_better():
    assert league.reference(ROWS) == 1.0
    assert league.reference([row("constant", 2.0, runs=8), row("Prodigy", 1.0)]) == 2.0


def test_verdicts_are_printed_for_losses_and_wins_alike():
    task, adam, sgd = league.verdicts({"digits": ROWS}, ("adam", "sgd"))
    assert task == (
        "digits: first of 5 that need no tuning is adam self-tuning; self-tuning's places (and "
        "ratios to the best tuned schedule): adam 1 (1.020), sgd 2 (1.500). With the same average "
        "for all, first is MoMo-Adam; self-tuning's places: adam 2, sgd 3."
    )
    assert adam == (
        "Self-tuning of adam is first on 1 of 1 tasks, and is within 1.02 of the best tuned "
        "schedule on 1 of 1 tasks."
    )
    assert sgd == (
        "Self-tuning of sgd is first on 0 of 1 tasks (not on digits), and is within 1.02 of the "
        "best tuned schedule on 0 of 1 tasks (not on digits)."
    )


def test_what_diverged_is_shown_as_that():
    cells = league._cells("digits", ROWS[3], 1.0, 4)
    assert cells[2:6] == ("diverged",) * 4
    assert cells[-3:] == ("no", "1", "4")


def test_a_schedule_warms_up_to_the_rate_that_is_set_and_ends_at_zero():
    contestant = trials.fixed(league.warmup_cosine(optax.sgd, 40))
    tx = trials.with_average(contestant.tx)
    state, rates = contestant.at(tx.init(jnp.zeros(())), 0.3), []
    for _ in range(41):
        update, state = tx.update(jnp.ones(()), state, jnp.zeros(()))
        rates.append(-float(update))
    np.testing.assert_allclose(rates[:3], [0.0, 0.15, 0.3], rtol=1e-5)
    decay = 0.3 * (1 + np.cos(np.pi * np.arange(39) / 38)) / 2
    np.testing.assert_allclose(rates[2:], decay, atol=1e-6)


@pytest.mark.parametrize("name", ["Schedule-Free sgd", "Schedule-Free adamw"])
def test_schedule_free_is_judged_at_its_own_average(name):
    contestant = league.PUBLISHED[name]
    params = jnp.array([1.0, -2.0])
    networks = jnp.stack([params, 2 * params])
    states, after = jax.vmap(contestant.tx.init)(networks), networks
    for _ in range(3):
        updates, states = jax.vmap(contestant.tx.update)(0.1 * after, states, after)
        after = optax.apply_updates(after, updates)
    found = jax.vmap(contestant.last)(states, after)
    expected = (after - 0.1 * states.z) / 0.9
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found, after, rtol=1e-4)


def test_the_recipe_runs_from_its_default_start():
    contestant = league.single_runs(league.Settings())["adam self-tuning"]
    start = contestant.rate(contestant.tx.init(jnp.ones(2)))
    assert float(start) == pytest.approx(1e-3)
    assert contestant.own_average


def test_towers_start_at_the_quickstarts_setting():
    contestant = league.single_runs(workloads.Settings())["sgd, tower of height 2"]
    state = trials.with_average(contestant.tx).init(jnp.ones(2))
    assert float(contestant.rate(state)) == pytest.approx(league.TOWER_START)
