"""Tests of `fit` and `fit_loop`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import jaxdescent as jd
from tests.agents.networks import DATA, VALIDATION, loss, noisy, starts

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
    """Returns the result of a run that uses every source of random numbers."""
    options = {"init_params": starts(AGENTS), **OPTIONS, **changes}
    return jd.fit(
        noisy,
        ADAM,
        DATA,
        validation_data=VALIDATION,
        prune=prune,
        data_order="per_agent",
        needs_rng=True,
        has_aux=True,
        **options,
    )


@pytest.fixture(scope="module")
def result():
    return fitted()


@pytest.fixture(scope="module")
def unpruned(result):
    return fitted(prune=False)


class CompiledLoop:
    """Loop whose rule has a state, with a compiled step."""

    def __init__(self, data_order):
        rules = jd.pruning.successive_halving(1.2), jd.pruning.adaptive(0.1, max_eta=1.2)
        loop = jd.fit_loop(
            noisy,
            ADAM,
            num_agents=AGENTS,
            batch_size=5,
            rule=jd.pruning.chain(*rules),
            data_order=data_order,
            needs_rng=True,
            has_aux=True,
            chunk_size=4,
        )
        self.first = jax.jit(loop.init)(jax.random.PRNGKey(3), starts(AGENTS))
        self._step = jax.jit(loop.step)

    def step(self, state, length=3):
        return self._step(state, DATA, VALIDATION, length)


@pytest.fixture(scope="module", params=["shared", "per_agent"])
def loop(request):
    return CompiledLoop(request.param)


def test_every_example_is_visited_once_per_epoch():
    """With this loss and a learning rate of 1, a parameter is minus its example's visits."""
    examples = 10

    def loss_of_visits(params, batch):
        return jnp.sum(params[batch])

    options = {
        "steps": 7,
        "steps_per_rung": 3,
        "batch_size": 4,
        "key": KEY,
        "rule": jd.pruning.no_pruning(),
    }
    for data_order in ("shared", "per_agent"):
        found = jd.fit(
            loss_of_visits,
            optax.sgd(1.0),
            jnp.arange(examples),
            init_params=jnp.zeros((3, examples)),
            data_order=data_order,
            record_params=True,
            **options,
        )
        counts = -np.asarray(found.history.params)  # after 3, 6 and 7 steps; an epoch is 2 steps
        assert counts.sum(-1).tolist() == [[12.0] * 3, [24.0] * 3, [28.0] * 3]
        assert counts.max(-1).tolist()[1] == [3.0] * 3  # once in each of three epochs
        equal = np.ptp(counts, axis=1).max() == 0
        assert equal == (data_order == "shared")
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


def test_values_and_the_best_point_refer_to_validation_data(result):
    value = loss(result.params, VALIDATION)
    np.testing.assert_allclose(result.value, value, rtol=1e-6)
    values = np.asarray(result.history.values)
    assert result.value == np.nanmin(values)
    assert result.id == np.nanargmin(np.nanmin(values, 0))
    agents = result.population
    seen = jax.vmap(loss, (0, None))(agents.best_params, VALIDATION)
    np.testing.assert_allclose(agents.best_values, seen, rtol=1e-6)
    np.testing.assert_array_equal(agents.best_values, np.nanmin(values, 0))


def test_gradients_and_evaluations_are_counted(result):
    assert result.history.survivors.tolist() == [6, 3, 2, 1, 1]
    assert result.history.descended.tolist() == [12, 6, 3, 2, 1]
    assert result.gradients == 4 * (12 + 6 + 3 + 2 + 1)
    assert result.evaluations == result.gradients + (12 + 6 + 3 + 2 + 1)


def test_the_history_has_an_axis_of_gradients(result):
    assert result.history.gradients.tolist() == [48, 72, 84, 92, 96]
    assert result.history.gradients[-1] == result.gradients


def test_a_budget_of_gradients_gives_the_steps_that_pruning_saves_to_survivors():
    """Each of 3 rungs has a third of what is left: 200 // 3 // 12 = 5 steps of 12 agents, ..."""
    options = dict.fromkeys(("steps", "steps_per_rung"))
    found = fitted(gradient_budget=200, num_rungs=3, **options)
    assert found.history.steps.tolist() == [5, 5 + 11, 5 + 11 + 24]
    assert found.history.gradients.tolist() == [60, 60 + 66, 60 + 66 + 72]
    assert found.gradients <= 200


def test_reports_are_means_over_the_rung_and_nan_for_pruned_agents(result):
    drawn = np.asarray(result.history.aux["drawn"])
    assert drawn.shape == result.history.aux["loss"].shape == (5, AGENTS)
    descended = np.isfinite(drawn).sum(-1)
    assert descended.tolist() == result.history.descended.tolist()
    assert np.nanmin(drawn) > 0
    assert np.nanmax(drawn) < 1


def test_random_numbers_differ_between_agents_and_steps(unpruned):
    drawn = np.asarray(unpruned.history.aux["drawn"])
    assert len({*drawn.ravel().tolist()}) == 5 * AGENTS


def test_pruning_other_agents_does_not_change_a_bit_of_the_survivors(result, unpruned):
    np.testing.assert_array_equal(result.history.alive, unpruned.history.alive)
    (alive,) = np.nonzero(np.asarray(result.population.alive))
    for name in ("params", "opt_state", "values", "best_params", "best_values"):
        chex.assert_trees_all_equal(
            jax.tree.map(lambda x: x[alive], getattr(result.population, name)),
            jax.tree.map(lambda x: x[alive], getattr(unpruned.population, name)),
        )
    assert unpruned.gradients == AGENTS * 20


def test_results_do_not_depend_on_the_order_of_agents(loop):
    state, order = loop.first, np.random.default_rng(1).permutation(AGENTS)
    shuffled = state._replace(population=jax.tree.map(lambda x: x[order], state.population))
    for _ in range(3):
        state, _ = loop.step(state)
        shuffled, _ = loop.step(shuffled)
    reordered = jax.tree.map(lambda x: x[order], state.population)
    chex.assert_trees_all_equal(reordered, shuffled.population)
    chex.assert_trees_all_equal(state.best_params, shuffled.best_params)


def test_a_run_resumed_from_a_checkpoint_is_equal_to_the_bit(loop, tmp_path):
    state = loop.first
    for _ in range(2):
        state, _ = loop.step(state)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        restored = checkpointer.restore(tmp_path / "state", abstract)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    survivors = [int(state.population.alive.sum())]
    for _ in range(4):
        state, info = loop.step(state)
        restored, restored_info = loop.step(restored)
        survivors.append(int(info.survivors))
        chex.assert_trees_all_equal((state, info), (restored, restored_info))
    assert AGENTS > survivors[0] > survivors[-1] > 1


def test_one_program_serves_all_keys_starts_and_data():
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


def test_a_rung_without_steps_changes_nothing(loop):
    for state in (loop.first, loop.step(loop.first)[0]):
        same, info = loop.step(state, 0)
        chex.assert_trees_all_equal(same, state)
        assert info.survivors == state.population.alive.sum()


def test_without_steps_there_is_no_value():
    nothing = jd.fit(loss, ADAM, DATA, **{**OPTIONS, "steps": 0}, init_params=starts(4))
    assert (nothing.value, nothing.id, nothing.gradients) == (np.inf, -1, 0)
    assert nothing.history.survivors == 4


def test_the_length_of_rungs_does_not_change_the_parameters(unpruned):
    """Rungs of 4 steps are whole epochs; rungs of 5 steps begin within one."""
    rungs_of_5 = fitted(prune=False, steps_per_rung=5)
    for name in ("params", "opt_state"):
        chex.assert_trees_all_equal(
            getattr(unpruned.population, name), getattr(rungs_of_5.population, name)
        )


def test_an_agent_that_is_not_finite_is_removed_without_changing_others(unpruned):
    broken = starts(AGENTS)
    agent = int(np.argmin(unpruned.history.values[0]))  # the best of the first rung
    broken["b"][agent] = np.nan
    found = fitted(init_params=broken, prune=False)
    assert found.history.not_finite.tolist() == [1] * 5
    assert not np.any(found.history.alive[:, agent])
    rest = np.arange(AGENTS) != agent

    def rows(result):
        return jax.tree.map(lambda x: x[rest], result.population._replace(alive=()))

    chex.assert_trees_all_equal(rows(found), rows(unpruned))


def test_without_any_finite_value_the_result_is_a_start():
    broken = starts(AGENTS)
    broken["a"][:] = np.inf
    with pytest.warns(RuntimeWarning, match="finite for at least one agent"):
        found = fitted(init_params=broken)
    assert (found.value, found.id) == (np.inf, -1)
    assert found.history.survivors.tolist() == [0] * 5
    assert found.history.not_finite.tolist() == [AGENTS, 0, 0, 0, 0]
    chex.assert_trees_all_equal(found.params, jax.tree.map(lambda x: x[0], broken))


def test_the_best_finite_point_is_kept_if_all_agents_diverge():
    found = jd.fit(
        loss,
        optax.sgd(60.0),
        DATA,
        validation_data=VALIDATION,
        init_params=starts(4),
        key=KEY,
        steps=200,
        steps_per_rung=1,
        batch_size=None,
        rule=jd.pruning.no_pruning(),
    )
    assert found.history.survivors[-1] == 0
    assert np.isfinite(found.value)
    np.testing.assert_allclose(loss(found.params, VALIDATION), found.value, rtol=1e-6)


def test_agents_that_copy_the_best_draw_their_own_numbers_with_and_without_pruning():
    """The model state holds the keys of dropout, and one is given for all agents."""

    def drop(params, batch, *, model_state):
        key = jax.random.fold_in(model_state["key"], model_state["count"])
        value, aux = noisy(params, batch, key)
        new = {"key": model_state["key"], "count": model_state["count"] + 1}
        return value, {**aux, "model_state": new}

    def copy_best(key, agents, problem, state):
        best = jnp.full(agents.ids.shape, jnp.argmin(agents.scores), jnp.int32)
        source = jnp.where(agents.ids < 4, best, jnp.arange(6, dtype=jnp.int32))
        alive = agents.alive & (agents.ids < 5)
        return jd.copy_agents(agents, source)._replace(alive=alive), state, ()

    key = jax.random.key(5)
    state = {"key": jnp.broadcast_to(key, (6,)), "count": jnp.zeros(6, jnp.int32)}
    mesh = jax.make_mesh((2,), ("agents",), (jax.sharding.AxisType.Auto,))
    options = {"rule": jd.Rule(lambda *_: (), copy_best), "init_params": starts(6)}
    runs = [
        jd.fit(drop, ADAM, DATA, model_state=state, **{**OPTIONS, **options, **changes})
        for changes in ({}, {"prune": False}, {"mesh": mesh})
    ]
    for found in runs:
        drawn = np.asarray(found.history.aux["drawn"])[:, :5]
        assert len(np.unique(drawn)) == drawn.size
        np.testing.assert_allclose(drawn, runs[0].history.aux["drawn"][:, :5], rtol=1e-5)
    survivors = [jax.tree.map(lambda x: x[:5], found.population.params) for found in runs]
    chex.assert_trees_all_equal(*survivors[:2])
    chex.assert_trees_all_close(survivors[0], survivors[2], rtol=1e-4)


def test_each_agent_has_its_own_learning_rate():
    learning_rates = jnp.array([0.0, 1e-3, 1e-1])
    same = jax.tree.map(lambda x: np.repeat(x, 3, 0), starts(1))
    options = {**OPTIONS, "rule": jd.pruning.no_pruning(), "batch_size": None}
    found = jd.fit(
        loss,
        optax.sgd,
        DATA,
        init_params=same,
        hyperparams={"learning_rate": learning_rates},
        **options,
    )
    chex.assert_trees_all_equal(
        *(jax.tree.map(lambda x: x[0], tree) for tree in (found.population.params, same))
    )
    losses = np.asarray(found.history.aux["loss"][-1])
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("agents", [1, 5])
def test_there_can_be_any_number_of_agents(agents):
    found = jd.fit(loss, ADAM, DATA, init_params=starts(agents), **OPTIONS)
    assert found.history.survivors[-1] == 1
    assert found.value < found.history.values[0].max() or agents == 1


def test_a_placed_agent_does_not_inherit_a_best_value():
    rule = jd.pruning.no_pruning()
    loop = jd.fit_loop(loss, ADAM, num_agents=3, batch_size=5, rule=rule)
    step = jax.jit(loop.step)
    state, _ = step(loop.init(KEY, starts(3)), DATA, VALIDATION, 2)
    settings = {"optimizer": lambda: ADAM, "bounds": None, "unit_box": False}
    problem = jd.Problem(jnp.sum, np.zeros(1), np.ones(1), **settings)
    mask = jnp.array([False, True, False])
    placed = jd.place_agents(state.population, mask, starts(3), problem)
    after, _ = step(state._replace(population=placed), DATA, VALIDATION, 0)
    assert jnp.isfinite(after.population.best_values).tolist() == [True, False, True]
