"""Fitting many agents: what each sees, what it is valued by, and that no one else matters."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import jaxdescent as jd
from tests.agents.networks import DATA, HELD_OUT, loss, noisy, starts

pytestmark = pytest.mark.usefixtures("quick_to_compile")

AGENTS = 12
KEY = jax.random.key(7)
ADAM = optax.adam(0.03)
HALVING = jd.pruning.successive_halving()
OPTIONS = {
    "steps": 20,
    "steps_per_rung": 4,
    "batch_size": 5,
    "rule": HALVING,
    "key": KEY,
    "chunk_size": 4,
}


def fitted(prune=True, **changes):
    """A pruned run with all that draws random numbers; one program for every key and start."""
    options = {"init_params": starts(AGENTS), **OPTIONS, **changes}
    return jd.fit(
        noisy,
        ADAM,
        DATA,
        validation_data=HELD_OUT,
        prune=prune,
        data_order="per_agent",
        needs_rng=True,
        has_aux=True,
        **options,
    )


@pytest.fixture(scope="module")
def result(quick_to_compile):
    return fitted()


@pytest.fixture(scope="module")
def unpruned(result):
    return fitted(prune=False)


class Driven:
    """A descent whose rule has a state, compiled."""

    def __init__(self, data_order):
        slowly = jd.pruning.successive_halving(1.2), jd.pruning.adaptive(0.1, max_eta=1.2)
        loop = jd.fit_loop(
            noisy,
            ADAM,
            num_agents=AGENTS,
            batch_size=5,
            rule=jd.pruning.chain(*slowly),
            data_order=data_order,
            needs_rng=True,
            has_aux=True,
            chunk_size=4,
        )
        self.first = jax.jit(loop.init)(jax.random.PRNGKey(3), starts(AGENTS))
        self._advance = jax.jit(loop.step)

    def advance(self, state, length=3):
        return self._advance(state, DATA, HELD_OUT, length)


@pytest.fixture(scope="module", params=["shared", "per_agent"])
def driven(request, quick_to_compile):
    return Driven(request.param)


def test_visits_are_counted_one_by_one():
    """With this loss and a rate of 1 a parameter is minus how often its example was seen."""
    examples = 10
    visits = lambda params, batch: jnp.sum(params[batch])
    options = {
        "steps": 7,
        "steps_per_rung": 3,
        "batch_size": 4,
        "key": KEY,
        "rule": jd.pruning.no_pruning(),
    }
    for data_order in ("shared", "per_agent"):
        found = jd.fit(
            visits,
            optax.sgd(1.0),
            jnp.arange(examples),
            init_params=jnp.zeros((3, examples)),
            data_order=data_order,
            record_params=True,
            **options,
        )
        counts = -np.asarray(found.history.params)  # after 3, 6 and 7 steps; 2 are an epoch
        assert counts.sum(-1).tolist() == [[12.0] * 3, [24.0] * 3, [28.0] * 3]
        assert counts.max(-1).tolist()[1] == [3.0] * 3  # once in each of three epochs
        alike = np.ptp(counts, axis=1).max() == 0
        assert alike == (data_order == "shared")
        assert found.gradients == found.evaluations == 21


def test_full_batches_are_gradient_descent():
    first = starts(2)
    options = {
        "steps": 5,
        "steps_per_rung": 2,
        "batch_size": None,
        "key": KEY,
        "rule": jd.pruning.no_pruning(),
    }
    found = jd.fit(loss, optax.sgd(0.1), DATA, init_params=first, record_params=True, **options)
    params, losses = first, []
    for _ in range(5):
        values, grads = jax.vmap(jax.value_and_grad(loss), (0, None))(params, DATA)
        params = jax.tree.map(lambda x, g: x - 0.1 * g, params, grads)
        losses.append(np.asarray(values))
    chex.assert_trees_all_close(found.population.params, params, rtol=1e-5)
    means = [np.mean(losses[:2], 0), np.mean(losses[2:4], 0), losses[4]]
    np.testing.assert_allclose(found.history.aux["loss"], means, rtol=1e-5)
    np.testing.assert_array_equal(found.history.values, found.history.aux["loss"])
    assert found.history.steps.tolist() == [2, 4, 5]


def test_values_and_the_best_point_are_of_held_out_examples(result):
    value = loss(result.params, HELD_OUT)
    np.testing.assert_allclose(result.value, value, rtol=1e-6)
    values = np.asarray(result.history.values)
    assert result.value == np.nanmin(values)
    assert result.id == np.nanargmin(np.nanmin(values, 0))
    agents = result.population
    seen = jax.vmap(loss, (0, None))(agents.best_params, HELD_OUT)
    np.testing.assert_allclose(agents.best_values, seen, rtol=1e-6)
    np.testing.assert_array_equal(agents.best_values, np.nanmin(values, 0))


def test_what_is_counted(result):
    assert result.history.survivors.tolist() == [6, 3, 2, 1, 1]
    assert result.history.descended.tolist() == [12, 6, 3, 2, 1]
    assert result.gradients == 4 * (12 + 6 + 3 + 2 + 1)
    assert result.evaluations == result.gradients + (12 + 6 + 3 + 2 + 1)


def test_reports_are_means_of_the_rung_and_nan_for_those_pruned(result):
    drawn = np.asarray(result.history.aux["drawn"])
    assert drawn.shape == result.history.aux["loss"].shape == (5, AGENTS)
    descended = np.isfinite(drawn).sum(-1)
    assert descended.tolist() == result.history.descended.tolist()
    assert np.nanmin(drawn) > 0
    assert np.nanmax(drawn) < 1


def test_each_agent_and_each_step_draws_its_own_numbers(unpruned):
    drawn = np.asarray(unpruned.history.aux["drawn"])
    assert len({*drawn.ravel().tolist()}) == 5 * AGENTS


def test_survivors_cannot_tell_whether_others_are_pruned(result, unpruned):
    np.testing.assert_array_equal(result.history.alive, unpruned.history.alive)
    (alive,) = np.nonzero(np.asarray(result.population.alive))
    for name in ("params", "opt_state", "values", "best_params", "best_values"):
        rows = lambda found, name=name: jax.tree.map(
            lambda x: x[alive], getattr(found.population, name)
        )
        chex.assert_trees_all_equal(rows(result), rows(unpruned))
    assert unpruned.gradients == AGENTS * 20


def test_agents_come_to_the_same_in_any_order(driven):
    state, moved = driven.first, np.random.default_rng(1).permutation(AGENTS)
    shuffled = state._replace(population=jax.tree.map(lambda x: x[moved], state.population))
    for _ in range(3):
        state, _ = driven.advance(state)
        shuffled, _ = driven.advance(shuffled)
    there = jax.tree.map(lambda x: x[moved], state.population)
    chex.assert_trees_all_equal(there, shuffled.population)
    chex.assert_trees_all_equal(state.best_params, shuffled.best_params)


def test_a_checkpoint_in_the_middle_of_a_pruned_run_goes_on_to_the_bit(driven, tmp_path):
    state = driven.first
    for _ in range(2):
        state, _ = driven.advance(state)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        restored = checkpointer.restore(tmp_path / "state", abstract)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    survivors = [int(state.population.alive.sum())]
    for _ in range(4):
        state, rung = driven.advance(state)
        restored, same = driven.advance(restored)
        survivors.append(int(rung.survivors))
        chex.assert_trees_all_equal((state, rung), (restored, same))
    assert AGENTS > survivors[0] > survivors[-1] > 1


def test_another_key_other_starts_and_other_data_take_no_other_program():
    traced = []

    def counted(params, batch):
        traced.append(None)
        return loss(params, batch)

    def run(key, seed, scale, prune):
        data = jax.tree.map(lambda x: scale * x, DATA)
        return jd.fit(
            counted, ADAM, data, **{**OPTIONS, "key": key}, init_params=starts(6, seed), prune=prune
        )

    first = run(KEY, 0, 1.0, True)
    before = len(traced)
    others = [run(jax.random.key(1), 0, 1.0, True), run(KEY, 1, 1.0, True), run(KEY, 0, 2.0, False)]
    assert len(traced) == before
    assert len({float(found.value) for found in (first, *others)}) == 4


def test_a_rung_of_no_steps_changes_nothing(driven):
    for state in (driven.first, driven.advance(driven.first)[0]):
        same, rung = driven.advance(state, 0)
        chex.assert_trees_all_equal(same, state)
        assert rung.survivors == state.population.alive.sum()


def test_without_any_step_there_is_no_value():
    nothing = jd.fit(loss, ADAM, DATA, **{**OPTIONS, "steps": 0}, init_params=starts(4))
    assert (nothing.value, nothing.id, nothing.gradients) == (np.inf, -1, 0)
    assert nothing.history.survivors == 4


def test_the_way_it_is_cut_into_rungs_does_not_change_what_is_learned(unpruned):
    """Rungs of 4 steps, which are epochs, and of 5, which begin in the middle of one."""
    in_fives = fitted(prune=False, steps_per_rung=5)
    for name in ("params", "opt_state"):
        chex.assert_trees_all_equal(
            getattr(unpruned.population, name), getattr(in_fives.population, name)
        )


def test_an_agent_that_is_not_finite_is_removed_first_and_harms_nobody(unpruned):
    broken = starts(AGENTS)
    lost = int(np.argmin(unpruned.history.values[0]))  # the first rung's best
    broken["b"][lost] = np.nan
    found = fitted(init_params=broken, prune=False)
    assert found.history.not_finite.tolist() == [1] * 5
    assert not np.any(found.history.alive[:, lost])
    rest = np.arange(AGENTS) != lost
    rows = lambda found: jax.tree.map(lambda x: x[rest], found.population._replace(alive=()))
    chex.assert_trees_all_equal(rows(found), rows(unpruned))


def test_if_all_are_not_finite_the_result_says_so():
    broken = starts(AGENTS)
    broken["a"][:] = np.inf
    found = fitted(init_params=broken)
    assert (found.value, found.id) == (np.inf, -1)
    assert found.history.survivors.tolist() == [0] * 5
    assert found.history.not_finite.tolist() == [AGENTS, 0, 0, 0, 0]
    chex.assert_trees_all_equal(found.params, jax.tree.map(lambda x: x[0], broken))


def test_the_best_finite_point_is_kept_when_all_diverge():
    found = jd.fit(
        loss,
        optax.sgd(60.0),
        DATA,
        validation_data=HELD_OUT,
        init_params=starts(4),
        key=KEY,
        steps=200,
        steps_per_rung=1,
        batch_size=None,
        rule=jd.pruning.no_pruning(),
    )
    assert found.history.survivors[-1] == 0
    assert np.isfinite(found.value)
    np.testing.assert_allclose(loss(found.params, HELD_OUT), found.value, rtol=1e-6)


def test_each_agent_has_its_own_rate():
    rates = jnp.array([0.0, 1e-3, 1e-1])
    same = jax.tree.map(lambda x: np.repeat(x, 3, 0), starts(1))
    options = {**OPTIONS, "rule": jd.pruning.no_pruning(), "batch_size": None}
    found = jd.fit(
        loss, optax.sgd, DATA, init_params=same, hyperparams={"learning_rate": rates}, **options
    )
    chex.assert_trees_all_equal(
        *(jax.tree.map(lambda x: x[0], tree) for tree in (found.population.params, same))
    )
    losses = np.asarray(found.history.aux["loss"][-1])
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("agents", [1, 5])
def test_any_number_of_agents(agents):
    found = jd.fit(loss, ADAM, DATA, init_params=starts(agents), **OPTIONS)
    assert found.history.survivors[-1] == 1
    assert found.value < found.history.values[0].max() or agents == 1


def test_the_value_of_whom_an_agent_replaced_is_never_its_best():
    nobody = jd.pruning.no_pruning()
    loop = jd.fit_loop(loss, ADAM, num_agents=3, batch_size=5, rule=nobody)
    advance = jax.jit(loop.step)
    state, _ = advance(loop.init(KEY, starts(3)), DATA, HELD_OUT, 2)
    problem = jd.Problem(jnp.sum, np.zeros(1), np.ones(1), optimizer=lambda: ADAM)
    mask = jnp.array([False, True, False])
    placed = jd.place_agents(state.population, mask, starts(3), problem)
    after, _ = advance(state._replace(population=placed), DATA, HELD_OUT, 0)
    assert jnp.isfinite(after.population.best_values).tolist() == [True, False, True]
