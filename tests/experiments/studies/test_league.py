"""The league runs, and its ranks and verdicts are exact."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from experiments.__main__ import main
from experiments.studies import league
from experiments.studies.league import candidates
from experiments.studies.league.candidates import Entry, warmup_cosine
from experiments.studies.league.report import _cells, verdicts
from experiments.studies.league.standings import Standing, best_tuned_loss, ranks
from experiments.tuning import trials
from tests.experiments.tuning.test_trials import trial_result

FEW = ("MoMo", "Schedule-Free sgd")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs the league with a few optimizers, because compiling all of them takes long."""
    runs = tmp_path_factory.mktemp("runs")
    flags = ["--scale", "smoke", "--seeds", "1", "--tasks", "diabetes", "--optimizers", "sgd"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "PUBLISHED", {name: candidates.PUBLISHED[name] for name in FEW})
        patch.setattr(candidates, "HEIGHTS", (1,))
        main(["league", *flags, "--runs", str(runs)])
    (folder,) = (runs / "league").iterdir()
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_every_optimizer_has_a_row(folder):
    rows = description(folder)["results"]["diabetes MLP"]
    assert {*rows} == {
        *FEW,
        "sgd, best constant",
        "sgd, warmup-cosine",
        "sgd, warmup-cosine, best peak",
        "sgd, tower of height 1",
        "sgd self-tuning",
        "fixed Schedule-Free adamw",
    }


TUNING_FREE = {
    entry.name: candidate
    for entry, candidate in candidates.tuning_free(league.Settings(), 40).items()
}


@pytest.mark.parametrize("name", TUNING_FREE)
def test_every_optimizer_takes_a_step_of_several_networks(name):
    candidate = TUNING_FREE[name]
    tx = candidate.tx if candidate.own_average else jd.with_average(candidate.tx)
    networks, losses = {"w": jnp.ones((2, 3, 4))}, jnp.ones(2)

    def step(networks, losses):
        states = jax.vmap(tx.init)(networks)
        update = jax.vmap(lambda g, s, x, v: tx.update(g, s, x, value=v))
        updates, after = update(networks, states, networks, losses)
        chex.assert_trees_all_equal_shapes_and_dtypes(states, after)
        return optax.apply_updates(networks, updates)

    after = jax.eval_shape(step, networks, losses)
    chex.assert_trees_all_equal_shapes_and_dtypes(networks, after)


def test_a_tuned_optimizer_counts_every_trial_and_has_no_rank(folder):
    rows = description(folder)["results"]["diabetes MLP"]
    counted = {name: row["runs"] for name, row in rows.items() if row["runs"] > 1}
    assert (counted["sgd, best constant"], counted["sgd, warmup-cosine"]) == (3, 4)
    assert 4 <= counted["sgd, warmup-cosine, best peak"] <= 6
    peaked = [rows[f"sgd, warmup-cosine{tuned}"]["loss"] for tuned in (", best peak", "")]
    assert peaked[0] <= peaked[1]
    assert all((row["rank"] is None) == (row["runs"] > 1) for row in rows.values())
    assert {row["rank"] for row in rows.values() if row["rank"]} <= {*range(1, 6)}


def test_the_table_is_sorted_by_loss_and_the_notes_list_the_defaults(folder):
    report = description(folder)
    shown = [row[2].split()[0] for row in report["table"]["rows"] if row[0] == "diabetes MLP"]
    losses = [np.inf if loss == "diverged" else float(loss) for loss in shown]
    assert losses == sorted(losses)
    assert "Mechanic over adam at 1" in "\n".join(report["notes"])
    assert (folder / "league.png").read_bytes().startswith(b"\x89PNG")


def standing(name, loss, runs=1, average=None):
    result = trial_result(loss, average, own_average=average is not None)
    return Standing(Entry(name), result, 1.0, runs)


def self_tuned(optimizer, average):
    result = trial_result(9.0, average, own_average=True)
    return Standing(Entry(f"{optimizer} self-tuning", optimizer), result, 1.0)


STANDINGS = [
    standing("constant", 2.0, runs=8),
    standing("cosine", 1.0, runs=9),
    Standing(Entry("MoMo-Adam"), trial_result(1.5, 0.5), 1.0),
    standing("DoG", np.nan),
    standing("MoMo", np.inf),
    self_tuned("adam", 1.02),
    self_tuned("sgd", 1.5),
]


def test_ranks_are_among_the_optimizers_that_are_not_tuned():
    found = {entry.name: rank for entry, rank in ranks(STANDINGS).items()}
    assert found == {
        "adam self-tuning": 1,
        "MoMo-Adam": 2,
        "sgd self-tuning": 2,
        "DoG": 4,
        "MoMo": 4,
    }


def test_the_reference_is_the_best_tuned_loss_even_if_another_is_better():
    assert best_tuned_loss(STANDINGS) == 1.0
    assert best_tuned_loss([standing("constant", 2.0, runs=8), standing("Prodigy", 1.0)]) == 2.0


def test_verdicts_report_wins_and_losses():
    task, adam, sgd = verdicts({"digits": STANDINGS}, ("adam", "sgd"))
    assert task == (
        "digits: of 5 optimizers without tuning, adam self-tuning ranks first. Ranks of "
        "self-tuning, with ratios to the best tuned schedule: adam 1 (1.020), sgd 2 (1.500). At "
        "the averaged parameters of every optimizer, MoMo-Adam ranks first. Ranks of self-tuning: "
        "adam 2, sgd 3."
    )
    assert adam == (
        "Self-tuning of adam ranks first on 1 of 1 tasks, and is within 1.02 of the best tuned "
        "schedule on 1 of 1 tasks."
    )
    assert sgd == (
        "Self-tuning of sgd ranks first on 0 of 1 tasks (not on digits), and is within 1.02 of the "
        "best tuned schedule on 0 of 1 tasks (not on digits)."
    )


def test_a_diverged_loss_is_shown_as_diverged():
    cells = _cells("digits", STANDINGS[3], 1.0, 4, np.inf)
    assert cells[2:6] == ("diverged",) * 4
    assert cells[-4:] == ("no", "1", "4", "0.000")


def test_the_schedule_peaks_at_the_learning_rate_and_ends_at_zero():
    candidate = trials.fixed(warmup_cosine(optax.sgd, 40))
    tx = jd.with_average(candidate.tx)
    state, rates = candidate.set_rate(tx.init(jnp.zeros(())), 0.3), []
    for _ in range(41):
        update, state = tx.update(jnp.ones(()), state, jnp.zeros(()))
        rates.append(-float(update))
    np.testing.assert_allclose(rates[:3], [0.0, 0.15, 0.3], rtol=1e-5)
    decay = 0.3 * (1 + np.cos(np.pi * np.arange(39) / 38)) / 2
    np.testing.assert_allclose(rates[2:], decay, atol=1e-6)


def test_the_fixed_schedule_free_optimizer_warms_up_to_its_learning_rate():
    candidate = TUNING_FREE["fixed Schedule-Free adamw"]  # built for 40 steps, two of them warmup
    params, grads = jnp.ones(3), jnp.full(3, 0.7)
    state, steps = candidate.tx.init(params), []
    for _ in range(4):
        before = state.z
        updates, state = candidate.tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        steps.append(float((before - state.z)[0]))
    # With a constant gradient, Adam's update is its learning rate.
    np.testing.assert_allclose(steps, [0.0, 5e-4, 1e-3, 1e-3], atol=1e-6)


@pytest.mark.parametrize("name", ["Schedule-Free sgd", "Schedule-Free adamw"])
def test_schedule_free_is_evaluated_at_its_own_average(name):
    candidate = candidates.PUBLISHED[name]
    params = jnp.array([1.0, -2.0])
    networks = jnp.stack([params, 2 * params])
    states, after = jax.vmap(candidate.tx.init)(networks), networks
    for _ in range(3):
        updates, states = jax.vmap(candidate.tx.update)(0.1 * after, states, after)
        after = optax.apply_updates(after, updates)
    found = jax.vmap(candidate.last_params)(states, after)
    expected = (after - 0.1 * states.z) / 0.9
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found, after, rtol=1e-4)


def test_self_tuning_starts_at_its_default():
    candidate = TUNING_FREE["adam self-tuning"]
    start = candidate.get_rate(candidate.tx.init(jnp.ones(2)))
    assert float(start) == pytest.approx(1e-9)  # of the range test
    assert candidate.own_average


def test_towers_start_at_the_same_learning_rate():
    candidate = TUNING_FREE["sgd, tower of height 2"]
    state = jd.with_average(candidate.tx).init(jnp.ones(2))
    assert float(candidate.get_rate(state)) == pytest.approx(candidates.TOWER_START)
