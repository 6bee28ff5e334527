"""Tests of `minimize` and `minimize_loop`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import jaxdescent as jd
from jaxdescent.agents.arguments import rung_lengths
from jaxdescent.problem import in_bounds
from tests.compiling import optimized

NO_PRUNING = jd.pruning.no_pruning()
HALVING = jd.pruning.successive_halving()
ADAM = optax.adam(0.1)
BOX = jnp.full(3, 4.0)
WIDTH = 8.0
ADAM_IN_BOX = optax.adam(0.1 / WIDTH)
"""The same steps, in units of the width of the box."""


def wells(x, shift):
    return jnp.sum((x - shift) ** 4 - 3 * (x - shift) ** 2 + 0.5 * (x - shift))


def summed_wells(x):
    return wells(x, 0.25)


def problem(shift=0.25):
    return jd.Problem(wells, -BOX, BOX, data=(jnp.full(3, shift),))


def minimized(**changes):
    settings = {
        "num_agents": 20,
        "steps": 23,
        "steps_per_rung": 5,
        "rule": HALVING,
        "chunk_size": 4,
    }
    return jd.minimize(problem(), ADAM_IN_BOX, key=jax.random.key(1), **settings | changes)


@pytest.fixture(scope="module")
def pruned():
    with optimized():
        return minimized()


@pytest.fixture(scope="module")
def unpruned():
    with optimized():
        return minimized(prune=False)


def test_every_agent_descends_as_it_would_alone():
    starts = jax.vmap(problem().sample)(jax.random.split(jax.random.key(3), 5))
    result = jd.minimize(
        problem(),
        ADAM_IN_BOX,
        init_params=starts,
        steps=7,
        steps_per_rung=3,
        rule=NO_PRUNING,
        chunk_size=2,
    )
    for start, end in zip(starts, result.population.params, strict=True):
        x, state = start, ADAM.init(start)
        for _ in range(7):
            updates, state = ADAM.update(jax.grad(problem().value)(x), state)
            x = optax.apply_updates(x, updates)
        np.testing.assert_allclose(end, x, rtol=1e-5, atol=1e-6)
    values = jax.vmap(problem().value)(result.population.params)
    np.testing.assert_allclose(result.population.values, values, rtol=1e-5)
    grads = jax.vmap(jax.grad(problem().value))(result.population.params)
    np.testing.assert_allclose(result.population.grads, WIDTH * grads, rtol=1e-4, atol=1e-3)


def test_pruning_other_agents_does_not_change_a_bit_of_the_survivors(pruned, unpruned):
    alive = pruned.population.alive
    np.testing.assert_array_equal(alive, unpruned.population.alive)
    assert alive.sum() == 1

    def survivors(result):
        agents = result.population
        return jax.tree.map(lambda x: x[alive], (agents.params, agents.opt_state))

    chex.assert_trees_all_equal(survivors(pruned), survivors(unpruned))
    assert np.isnan(pruned.history.values).sum() > 0
    assert not np.isnan(unpruned.history.values).any()


def test_results_do_not_depend_on_the_order_of_agents(pruned):
    order = jax.random.permutation(jax.random.key(9), 20)
    starts = jax.vmap(problem().sample)(
        jax.random.split(jax.random.fold_in(jax.random.key(1), 0), 20)
    )
    with optimized():
        shuffled = minimized(init_params=starts[order])
    for name in ("params", "opt_state", "alive", "values", "best_params", "gradients"):
        chex.assert_trees_all_equal(
            getattr(shuffled.population, name),
            jax.tree.map(lambda x: x[order], getattr(pruned.population, name)),
        )


def test_gradients_are_counted_for_each_agent(pruned, unpruned):
    # Halving: 20, 10, 5, 3, 2 agents take 5, 5, 5, 5 and 3 steps, and each start is evaluated.
    assert pruned.history.descended.tolist() == [20, 10, 5, 3, 2]
    assert pruned.gradients == pruned.evaluations == 20 + 5 * (20 + 10 + 5 + 3) + 3 * 2
    assert unpruned.gradients == 20 + 23 * 20
    assert pruned.history.steps.tolist() == [5, 10, 15, 20, 23]
    np.testing.assert_array_equal(pruned.population.age[pruned.population.alive], 23)


def test_the_best_point_is_kept_if_its_agent_is_pruned():
    starts = jnp.array([[0.0], [5.0]])
    # Agent 0 starts at the minimum and moves away; the rule keeps only agent 1.
    keep_agent_1 = jd.Rule(
        lambda *_: None,
        lambda key, population, problem, state: (
            population._replace(alive=population.alive & (population.ids == 1)),
            state,
            None,
        ),
    )
    ascent = optax.sgd(-1.0)

    def loss(x):
        return jnp.sum(x**2 + 0.1 * jnp.abs(x) + x * 1e-3)

    result = jd.minimize(
        loss, ascent, init_params=starts, steps=4, steps_per_rung=2, rule=keep_agent_1
    )
    assert result.id == 0
    assert result.value == 0
    np.testing.assert_array_equal(result.params, [0.0])
    assert result.history.survivors.tolist() == [1, 1]


def test_a_gradient_budget_is_spent_on_the_survivors():
    result = minimized(steps=None, steps_per_rung=None, gradient_budget=1_000, num_rungs=5)
    assert result.gradients <= 1_000
    lengths = np.diff(result.history.steps, prepend=0)
    # A fifth of the remaining 980 is 9 steps of 20 agents; later rungs get the remainders.
    assert lengths[0] == 9
    np.testing.assert_array_less(lengths[:-1], lengths[1:])
    assert result.gradients > 1_000 - 2 * result.history.descended[-1]


def test_a_gradient_budget_too_small_for_a_step_is_not_exceeded():
    result = minimized(steps=None, steps_per_rung=None, gradient_budget=21, num_rungs=3)
    assert result.gradients == 20
    assert np.isfinite(result.value)
    assert result.history.survivors.tolist() == [10, 10, 10]  # the rule acts on new values only


def test_one_program_serves_all_instances_and_keys():
    traces, counts = [], []

    def value(x, shift):
        traces.append(x)
        return wells(x, shift)

    for shift, seed in ((0.1, 0), (0.2, 1), (-0.7, 2)):
        shifted = jd.Problem(value, -BOX, BOX, data=(jnp.full(3, shift),))
        key = jax.random.key(seed)
        jd.minimize(
            shifted, ADAM_IN_BOX, key=key, num_agents=8, steps=6, steps_per_rung=2, rule=HALVING
        )
        counts.append(len(traces))
    assert counts[0] == counts[-1] > 0


def test_each_agent_has_its_own_hyperparameters():
    learning_rates = jnp.array([0.0, 0.1, 0.3])
    starts = jnp.ones((3, 3))
    result = jd.minimize(
        problem(),
        optax.sgd,
        init_params=starts,
        hyperparams={"learning_rate": learning_rates / WIDTH**2},
        steps=1,
        steps_per_rung=1,
        rule=NO_PRUNING,
    )
    grads = jax.grad(problem().value)(jnp.ones(3))
    np.testing.assert_allclose(
        result.population.params, 1 - learning_rates[:, None] * grads, rtol=1e-5
    )


def test_each_agent_can_be_a_tower():
    def tower(learning_rate):
        return jd.hypergradient(
            optax.sgd, optax.sgd(1e-4), tune={"learning_rate": jd.positive(learning_rate)}
        )

    result = jd.minimize(
        problem(),
        tower(0.01 / WIDTH**2),
        init_params=jnp.array([[1.0, 2.0, 3.0], [0.1, 0.2, 0.3]]),
        steps=10,
        steps_per_rung=5,
        rule=NO_PRUNING,
    )
    learned = jax.vmap(lambda s: jd.get_hyperparams(s)[0]["learning_rate"])(
        result.population.opt_state
    )
    assert learned[0] != learned[1]
    np.testing.assert_array_less(0.01 / WIDTH**2, learned)


def test_random_numbers_of_an_optimizer_differ_between_agents():
    noisy = optax.chain(optax.add_noise(1.0, 0.5, key=jax.random.key(0)), optax.sgd(0.1 / WIDTH**2))
    result = jd.minimize(
        problem(), noisy, init_params=jnp.ones((4, 3)), steps=2, steps_per_rung=1, rule=NO_PRUNING
    )
    assert len(np.unique(result.population.params[:, 0])) == 4


def test_an_agent_that_is_not_finite_does_not_affect_others():

    def brittle(x):
        return jnp.sum(jnp.where(x > 2, jnp.nan, x**2))

    starts = jnp.array([[1.0], [3.0], [1.5]])
    result = jd.minimize(
        brittle, ADAM, init_params=starts, steps=4, steps_per_rung=2, rule=NO_PRUNING
    )
    assert result.history.not_finite.tolist() == [1, 0]
    assert result.population.alive.tolist() == [True, False, True]
    alone = jd.minimize(
        brittle, ADAM, init_params=starts[::2], steps=4, steps_per_rung=2, rule=NO_PRUNING
    )
    np.testing.assert_allclose(result.population.params[::2], alone.population.params, rtol=1e-6)


def test_the_best_finite_point_is_returned_if_all_agents_become_not_finite():

    def cliff(x):
        return jnp.sum(jnp.where(x < -1, jnp.nan, x))

    result = jd.minimize(
        cliff,
        optax.sgd(0.4),
        init_params=jnp.array([[0.3], [0.5]]),
        steps=20,
        steps_per_rung=10,
        rule=HALVING,
    )
    assert result.outcome == jd.PopulationOutcome.NO_SURVIVORS
    # At the end of the first rung they have been there for less than 10 steps.
    assert result.history.survivors.tolist() == [2, 0]
    assert result.history.not_finite.tolist() == [0, 2]
    np.testing.assert_allclose(result.value, -0.9, atol=1e-6)
    np.testing.assert_allclose(result.params, [-0.9], atol=1e-6)
    assert result.gradients == 2 * (11 + 11)


def test_a_value_of_minus_infinity_is_not_the_best():

    def hole(x):
        return jnp.sum(jnp.where((x > 0.3) & (x < 0.5), -jnp.inf, x))

    optimizer = jd.basin_hopping(optax.sgd(0.2), period=50, jump=1.0)
    result = jd.minimize(
        hole, optimizer, init_params=jnp.array([[1.0]]), steps=3, steps_per_rung=3, rule=NO_PRUNING
    )
    # The agent visits 1, 0.8, 0.6, and 0.4 inside the hole.
    np.testing.assert_allclose([result.value, result.population.best_values[0]], 0.6, atol=1e-6)
    np.testing.assert_allclose(result.params, [0.6], atol=1e-6)
    np.testing.assert_allclose(result.population.opt_state.best_value, [0.6], atol=1e-6)
    assert not result.population.evaluated[0]


def test_without_any_finite_value_the_result_is_a_start():
    with pytest.warns(RuntimeWarning, match=r"at the first start it is nan.*UNDEFINED"):
        result = jd.minimize(
            lambda x: jnp.sum(x) * jnp.nan,
            ADAM,
            init_params=jnp.ones((2, 1)),
            steps=2,
            steps_per_rung=1,
        )
    assert result.outcome == jd.PopulationOutcome.UNDEFINED
    assert result.value == jnp.inf
    assert result.id == -1
    np.testing.assert_array_equal(result.params, [1.0])


def test_a_rule_that_prunes_all_agents_stops_the_run():
    prune_all = jd.Rule(
        lambda *_: None,
        lambda key, population, problem, state: (
            population._replace(alive=population.alive & False),
            state,
            None,
        ),
    )
    result = minimized(rule=prune_all)
    assert result.history.survivors.tolist() == [0] * 5
    assert result.gradients == 20 * 6
    assert np.isfinite(result.value)


@pytest.mark.parametrize(
    ("steps", "options", "lengths"),
    [
        (40, {}, [4] * 10),
        (23, {}, [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]),
        (4, {}, [1, 1, 1, 1]),
        (0, {}, [0]),
        (23, {"num_rungs": 2}, [12, 11]),
        (23, {"steps_per_rung": 5}, [5, 5, 5, 5, 3]),
        (0, {"steps_per_rung": 5}, [0]),
    ],
)
def test_steps_are_divided_into_ten_rungs_by_default(steps, options, lengths):
    assert rung_lengths(steps, **options).tolist() == lengths


def test_a_gradient_budget_is_divided_into_ten_rungs_by_default():
    result = minimized(steps=None, steps_per_rung=None, gradient_budget=3_000)
    assert len(result.history.steps) == 10
    assert result.gradients <= 3_000


@pytest.mark.parametrize("agents", [1, 3])
def test_the_number_of_agents_need_not_be_a_multiple_of_the_chunk_size(agents):
    one_chunk = minimized(num_agents=agents, chunk_size=agents)
    chunks = minimized(num_agents=agents, chunk_size=2)
    np.testing.assert_allclose(one_chunk.population.params, chunks.population.params, rtol=1e-5)
    assert one_chunk.gradients == chunks.gradients


def test_without_steps_the_starts_are_evaluated():
    result = minimized(steps=0, rule=NO_PRUNING)
    assert result.gradients == 20
    assert result.value == jax.vmap(problem().value)(result.population.params).min()


def test_a_run_resumed_from_a_checkpoint_is_equal_to_the_bit(tmp_path):
    rule = jd.pruning.chain(jd.pruning.stalled(2), jd.pruning.delay(1, HALVING))
    loop = jd.minimize_loop(problem(), ADAM_IN_BOX, num_agents=12, rule=rule, chunk_size=4)
    step = jax.jit(loop.step)
    state = loop.init(jax.random.key(4))
    for rung in range(6):
        if rung == 3:
            middle = state
        state, _ = step(state, 5)
    assert 1 < middle.population.alive.sum() < 12
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "middle", middle)
        checkpointer.wait_until_finished()
        resumed = checkpointer.restore(tmp_path / "middle", jax.tree.map(jnp.zeros_like, middle))
    for _ in range(3):
        resumed, _ = step(resumed, 5)
    chex.assert_trees_all_equal(resumed, state)


@pytest.mark.parametrize("starts", [None, np.ones((4, 3), np.float32)])
def test_a_state_can_be_donated(starts):
    loop = jd.minimize_loop(problem(), ADAM_IN_BOX, num_agents=4)
    state = loop.init(jax.random.key(0), starts)
    state, info = jax.jit(loop.step, donate_argnums=0)(state, 1)
    assert info.descended == 4
    assert np.isfinite(state.best_value)


def test_parameters_can_be_a_tree_of_several_dtypes():
    def loss(x):
        return jnp.sum(x["w"].astype(jnp.float32) ** 2) + x["b"] ** 2

    starts = {"w": jnp.ones((3, 2, 2), jnp.bfloat16), "b": jnp.arange(3.0)}
    result = jd.minimize(loss, ADAM, init_params=starts, steps=4, steps_per_rung=2, rule=HALVING)
    assert result.params["w"].dtype == jnp.bfloat16
    assert result.params["w"].shape == (2, 2)
    assert result.id == 0


def test_double_precision_stays_double():
    with jax.enable_x64(True):
        result = jd.minimize(
            lambda x: jnp.sum(x**2),
            optax.sgd(0.1),
            init_params=np.ones((2, 1)),
            steps=3,
            steps_per_rung=3,
        )
        assert result.value.dtype == jnp.float64
        np.testing.assert_allclose(result.params, [0.8**3], rtol=1e-14)


def test_diversity_is_the_standard_deviation_of_the_agents():
    starts = jnp.array([[0.0, 0.0], [2.0, 4.0], [100.0, 100.0]])
    result = jd.minimize(
        jnp.sum,
        optax.sgd(0.0),
        init_params=starts,
        steps=2,
        steps_per_rung=1,
        rule=NO_PRUNING,
    )
    expected = np.sqrt(np.mean((starts - starts.mean(0)) ** 2))
    np.testing.assert_allclose(result.history.diversity, expected, rtol=1e-5)


def test_parameters_are_recorded_on_request():
    result = minimized(record_params=True)
    assert result.history.params.shape == (5, 20, 3)
    np.testing.assert_array_equal(result.history.params[-1], result.population.params)


AUTO, EXPLICIT = jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit


@pytest.mark.parametrize(("devices", "axis"), [(2, AUTO), (2, EXPLICIT), (4, AUTO)])
def test_agents_sharded_over_devices_find_the_same(pruned, devices, axis):
    mesh = jax.make_mesh((devices,), ("agents",), axis_types=(axis,))
    sharded = minimized(mesh=mesh)
    assert sharded.population.params.sharding.spec == jax.sharding.PartitionSpec("agents")
    np.testing.assert_array_equal(sharded.population.alive, pruned.population.alive)
    assert (sharded.id, sharded.gradients) == (pruned.id, pruned.gradients)
    np.testing.assert_allclose(sharded.params, pruned.params, rtol=1e-5)
    unpruned = minimized(mesh=mesh, prune=False)
    alive = np.asarray(sharded.population.alive)
    np.testing.assert_array_equal(
        sharded.population.params[alive], unpruned.population.params[alive]
    )


def test_a_rung_returns_its_state_with_the_sharding_that_it_was_given():
    mesh = jax.make_mesh((2,), ("agents",))
    rule = jd.pruning.chain(jd.pruning.predicted_to_lose(6), jd.pruning.stalled())
    loop = jd.minimize_loop(problem(), ADAM_IN_BOX, num_agents=20, rule=rule, mesh=mesh)
    first, step = loop.init(jax.random.key(0)), jax.jit(loop.step)
    state, _ = step(first, 2)
    state, _ = step(state, 2)
    same = jax.tree.map(lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim), first, state)
    assert all(jax.tree.leaves(same))
    agents = jax.sharding.PartitionSpec("agents")
    assert state.population.params.sharding.spec == agents
    assert state.rule_state[0].mean_y.sharding.spec == agents


def test_the_size_of_a_mesh_must_divide_the_number_of_agents():
    mesh = jax.make_mesh((2,), ("agents",), axis_types=(jax.sharding.AxisType.Auto,))
    with pytest.raises(ValueError, match="mesh must have an axis of agents of a size that divides"):
        minimized(mesh=mesh, num_agents=5)
    mesh = jax.make_mesh((2, 2), ("rows", "columns"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with pytest.raises(ValueError, match="mesh must have one axis, or one named 'agents', got axe"):
        minimized(mesh=mesh, num_agents=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_agents": 0}, "num_agents must be an integer at least 1, got 0"),
        ({"steps": None}, "either steps or gradient_budget must be given, got neither"),
        ({"gradient_budget": 100}, "either steps or gradient_budget must be given, got both"),
        ({"steps": None, "gradient_budget": 100}, "steps_per_rung must be None with gradient_bud"),
        ({"num_rungs": 2}, "steps_per_rung and num_rungs must not both be given with steps"),
        ({"steps_per_rung": None, "num_rungs": 0}, "num_rungs must be an integer at least 1"),
        ({"steps_per_rung": 0}, "steps_per_rung must be an integer in"),
        ({"steps": -1}, "steps must be an integer in"),
        ({"chunk_size": 0}, "chunk_size must be an integer at least 1, got 0"),
        (
            {"init_params": jnp.ones((19, 3))},
            "leading axis of num_agents = 20 .* shape \\(19, 3\\)",
        ),
        (
            {"init_params": jnp.ones((20, 2))},
            "init_params must have the shapes of the problem's box",
        ),
        (
            {"init_params": jnp.ones((20, 3), int)},
            "init_params must have real floating-point leaves, got int32",
        ),
        (
            {"steps": None, "steps_per_rung": None, "gradient_budget": 19},
            "gradient_budget must be an integer in",
        ),
        ({"hyperparams": {"b1": jnp.ones(20)}}, "hyperparams need a factory as optimizer"),
        ({"prune": 1}, "prune must be True or False, got 1"),
        ({"record_params": "no"}, "record_params must be True or False, got 'no'"),
        (
            {"init_params": jnp.float32(1)},
            r"init_params must have a leading axis of agents, got shape \(\)",
        ),
        ({"init_params": jnp.zeros((0, 3))}, r"leading axis of agents, got shape \(0, 3\)"),
        ({"init_params": ()}, r"init_params must hold at least one array, got \(\)"),
        (
            {"init_params": jnp.ones((20, 3), complex)},
            "init_params must have real floating-point leaves, got comp",
        ),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        minimized(**changes)


@pytest.mark.parametrize("loss", [lambda x: x, lambda x: jnp.argmax(x), lambda x: (x.sum(), 1)])
def test_the_loss_must_be_a_real_scalar(loss):
    with pytest.raises(ValueError, match="problem must return a real scalar"):
        jd.minimize(loss, ADAM, init_params=jnp.ones((2, 3)), steps=1, steps_per_rung=1)


def test_arguments_of_the_wrong_type_are_named():
    with pytest.raises(TypeError, match="problem must be a function"):
        jd.minimize(3, ADAM, init_params=jnp.ones((2, 3)), steps=1, steps_per_rung=1)
    with pytest.raises(TypeError, match=r"Rule.*call it first"):
        minimized(rule=jd.pruning.successive_halving)
    with pytest.raises(ValueError, match="init_params must be given"):
        jd.minimize(jnp.sum, ADAM, num_agents=2, steps=1, steps_per_rung=1)
    for optimizer in (0.1, {}):
        with pytest.raises(TypeError, match="optimizer must be an optax gradient"):
            jd.minimize(problem(), optimizer, num_agents=2, steps=1, steps_per_rung=1)
    with pytest.raises(
        TypeError, match="the return value of the factory optimizer must be an optax"
    ):
        jd.minimize(problem(), lambda: 3, num_agents=2, steps=1, steps_per_rung=1)
    for hyperparams in ([1.0], 0.1, {1: jnp.ones(20)}):
        with pytest.raises(TypeError, match="hyperparams must "):
            minimized(hyperparams=hyperparams)
    for key in (3, "a", jnp.ones(2), jax.random.split(jax.random.key(0), 2)):
        with pytest.raises(TypeError, match="key must be one random key"):
            jd.minimize(problem(), ADAM_IN_BOX, num_agents=2, steps=1, steps_per_rung=1, key=key)
    with pytest.raises(TypeError, match=r"mesh must be a jax.sharding.Mesh, got 'cpu'"):
        minimized(mesh="cpu")


class TestWithoutAnOptimizer:
    def test_is_hybrid(self):
        shared = {"key": jax.random.key(1), "max_evaluations": 300, "target": 1e-3}
        box = jnp.full(2, 5.12)
        result = jd.minimize(summed_wells, bounds=(-box, 1.5 * box), **shared)
        expected = jd.hybrid(summed_wells, bounds=(-box, 1.5 * box), **shared)
        assert isinstance(result, jd.HybridResult)
        chex.assert_trees_all_equal(result, expected)

    @pytest.mark.parametrize(
        "arguments", [{"num_agents": 3}, {"steps": 5}, {"rule": 3}, {"record_params": True}]
    )
    def test_refuses_what_only_agents_have(self, arguments):
        (name,) = arguments
        with pytest.raises(ValueError, match=f"{name} must be left out without an optimizer"):
            jd.minimize(problem(), **arguments)


def test_bounds_make_a_problem_of_a_function():
    box = jnp.full(2, 5.12)
    shared = {"num_agents": 2, "steps": 3, "key": jax.random.key(0)}
    result = jd.minimize(summed_wells, ADAM, bounds=(-box, box), **shared)
    expected = jd.minimize(jd.Problem(summed_wells, -box, box), ADAM, **shared)
    chex.assert_trees_all_equal(result, expected)
    with pytest.raises(ValueError, match=r"bounds must be None with a jd\.Problem"):
        jd.minimize(problem(), ADAM, bounds=(-box, box), **shared)


@pytest.mark.parametrize(
    "bounds",
    [
        ([-1, -1], [1, 2]),
        [[-1, -1], [1.0, 2]],
        (np.array([-1, -1]), jnp.array([1, 2])),
        tuple(np.transpose([(-1, 1), (-1, 2)])),
    ],
)
def test_bounds_can_be_lists_and_integers(bounds):
    box = in_bounds(summed_wells, bounds)
    chex.assert_trees_all_equal(
        (box.lower, box.upper), (jnp.array([-1.0, -1.0]), jnp.array([1.0, 2.0]))
    )
    assert box.lower.dtype == box.upper.dtype == jnp.float32


def test_bounds_keep_the_tree_and_double_precision():
    with jax.enable_x64(True):
        upper = {"a": 1, "b": [[1, 2], [3, 4]], "c": np.float32(2), "d": [jnp.ones(2), 3.0]}
        box = in_bounds(
            summed_wells,
            ({"a": 0, "b": -np.ones((2, 2)), "c": np.float32(1), "d": [jnp.zeros(2), 2]}, upper),
        )
    shapes = [(x.shape, x.dtype) for x in jax.tree.leaves(box.upper)]
    double = np.dtype("float64")
    assert shapes == [
        ((), double),
        ((2, 2), double),
        ((), np.dtype("float32")),
        ((2,), double),
        ((), double),
    ]


def steps_down(x):
    return jnp.sum(jnp.floor(4 * x) ** 2)


def test_a_function_without_slopes_gives_a_warning():
    box = jnp.full(2, 1.0)
    shared = {"bounds": (-box, box), "num_agents": 3, "steps": 4, "key": jax.random.key(0)}
    with pytest.warns(RuntimeWarning, match=r"got 0 for all 3, and no agent has moved.*estimator"):
        jd.minimize(steps_down, ADAM, **shared)
    jd.minimize(steps_down, ADAM, estimator=jd.estimators.smoothed(0.2), **shared)
    # One step of length 1/2 along the gradient of a parabola ends exactly at its minimum.
    starts = jnp.array([[2.0], [-4.0]])
    result = jd.minimize(lambda x: jnp.sum(x**2), optax.sgd(0.5), init_params=starts, steps=3)
    assert not jnp.any(result.population.grads)
    # Agents that are only evaluated cannot move.
    jd.minimize(steps_down, ADAM, **shared | {"steps": 0})


@pytest.mark.parametrize(
    ("arguments", "hint"), [({"max_evaluations": 9}, "gradient_budget"), ({"target": 0.1}, "until")]
)
def test_agents_have_no_arguments_of_hybrid(arguments, hint):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be left out with an optimizer.*{hint}"):
        jd.minimize(problem(), ADAM, num_agents=2, steps=1, **arguments)


def test_the_length_of_a_rung_must_be_an_integer_of_at_least_0():
    loop = jd.minimize_loop(problem(), ADAM_IN_BOX, num_agents=2)
    state = jax.eval_shape(loop.init, jax.random.key(0))
    for length in (-1, 2.5, True, jnp.ones(2, int), jnp.ones(())):
        with pytest.raises(ValueError, match=r"length must be (an|one) integer"):
            jax.eval_shape(lambda state, length=length: loop.step(state, length), state)
    with pytest.raises(ValueError, match="prune must be True or False"):
        jax.eval_shape(lambda state: loop.step(state, 1, prune=0), state)


def test_leaves_must_agree_on_the_number_of_agents():
    starts = {"a": jnp.ones((2, 1)), "b": jnp.ones((3, 1))}
    with pytest.raises(
        ValueError, match=r"leading axis of num_agents = 2 .*\(3, 1\) at init_params\['b'\]"
    ):
        jd.minimize(lambda x: jnp.sum(x["a"]), ADAM, init_params=starts, steps=1, steps_per_rung=1)


def test_a_rule_that_moves_agents_does_not_exceed_the_budget_of_gradients():
    def place_all(key, population, problem, state):
        params = jax.vmap(problem.sample)(jax.random.split(key, 4))
        return jd.place_agents(population, population.ids < 3, params, problem), state, None

    result = jd.minimize(
        problem(),
        optax.sgd(0.1),
        num_agents=4,
        gradient_budget=63,
        num_rungs=4,
        rule=jd.Rule(lambda *_: None, place_all),
    )
    # 4 starts and (63 - 4) // 4 // 4 = 3 steps, then 3 moved agents and (47 - 3) // 3 // 4 = 3, ...
    assert result.history.gradients.tolist() == [16, 31, 46, 61]


def test_starts_without_an_axis_of_agents_are_refused_with_the_remedy():
    for starts in (jnp.zeros(2), jnp.zeros(3)):
        with pytest.raises(ValueError, match=r"init_params .* stack one tree for each agent"):
            jd.minimize(problem(), optax.sgd(0.1), init_params=starts, steps=1)


def test_hyperparameters_that_are_not_numbers_are_refused():
    for value in ("cosine", optax.constant_schedule(0.1)):
        with pytest.raises(TypeError, match=r"hyperparams must hold numbers .* 'learning_rate'"):
            jd.minimize(
                problem(),
                optax.sgd,
                num_agents=2,
                steps=1,
                hyperparams={"learning_rate": value},
            )


def test_a_factory_without_its_arguments_names_hyperparams():
    with pytest.raises(TypeError, match=r"hyperparams= .*factory adam .*'learning_rate'.*adam\("):
        jd.minimize(problem(), optax.adam, num_agents=2, steps=1)
    with pytest.raises(ValueError, match=r"factory sgd, which takes learning_rate, .* got lr;"):
        jd.minimize(problem(), optax.sgd, num_agents=2, steps=1, hyperparams={"lr": 0.1})


def test_a_scalar_hyperparameter_is_shared_by_all_agents():
    loop = jd.minimize_loop(problem(), optax.sgd, num_agents=3)
    hyperparams = {"learning_rate": 0.05, "momentum": jnp.array([0.0, 0.5, 0.9])}
    given = loop.init(jax.random.key(0), None, hyperparams).population.hyperparams
    assert given["learning_rate"].tolist() == [jnp.float32(0.05)] * 3
    assert given["momentum"].tolist() == [0.0, 0.5, jnp.float32(0.9)]
