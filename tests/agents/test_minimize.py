"""Tests of many agents that minimize a function, and of what stands between rungs."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import jaxdescent as jd

NEVER = jd.pruning.no_pruning()
HALVING = jd.pruning.successive_halving()
ADAM = optax.adam(0.1)
BOX = jnp.full(3, 4.0)


def wells(x, shift):
    return jnp.sum((x - shift) ** 4 - 3 * (x - shift) ** 2 + 0.5 * (x - shift))


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
    return jd.minimize(problem(), ADAM, key=jax.random.key(1), **settings | changes)


@pytest.fixture(scope="module")
def pruned():
    return minimized()


@pytest.fixture(scope="module")
def unpruned():
    return minimized(prune=False)


def test_every_agent_descends_as_it_would_alone():
    starts = jax.vmap(problem().sample)(jax.random.split(jax.random.key(3), 5))
    result = jd.minimize(
        problem(), ADAM, init_params=starts, steps=7, steps_per_rung=3, rule=NEVER, chunk_size=2
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
    np.testing.assert_allclose(result.population.grads, grads, rtol=1e-4, atol=1e-4)


def test_survivors_are_to_the_bit_what_they_are_without_pruning(pruned, unpruned):
    alive = pruned.population.alive
    np.testing.assert_array_equal(alive, unpruned.population.alive)
    assert alive.sum() == 1
    of = lambda result: jax.tree.map(
        lambda x: x[alive], (result.population.params, result.population.opt_state)
    )
    chex.assert_trees_all_equal(of(pruned), of(unpruned))
    assert np.isnan(pruned.history.values).sum() > 0
    assert not np.isnan(unpruned.history.values).any()


def test_agents_in_any_order_are_the_same_agents(pruned):
    order = jax.random.permutation(jax.random.key(9), 20)
    starts = jax.vmap(problem().sample)(
        jax.random.split(jax.random.fold_in(jax.random.key(1), 0), 20)
    )
    shuffled = minimized(init_params=starts[order])
    for name in ("params", "opt_state", "alive", "values", "best_params", "gradients"):
        chex.assert_trees_all_equal(
            getattr(shuffled.population, name),
            jax.tree.map(lambda x: x[order], getattr(pruned.population, name)),
        )


def test_work_is_counted_agent_by_agent(pruned, unpruned):
    # Halving: 20, 10, 5, 3, 2 descend for 5, 5, 5, 5 and 3 steps, and each start counts.
    assert pruned.history.descended.tolist() == [20, 10, 5, 3, 2]
    assert pruned.gradients == pruned.evaluations == 20 + 5 * (20 + 10 + 5 + 3) + 3 * 2
    assert unpruned.gradients == 20 + 23 * 20
    assert pruned.history.steps.tolist() == [5, 10, 15, 20, 23]
    np.testing.assert_array_equal(pruned.population.age[pruned.population.alive], 23)


def test_the_best_point_ever_is_kept_also_of_one_that_was_pruned():
    starts = jnp.array([[0.0], [5.0]])
    # Agent 0 starts at the minimum and leaves it; the rule keeps only the other.
    leave = jd.Rule(
        lambda *_: None,
        lambda key, population, problem, state: (
            population._replace(alive=population.alive & (population.ids == 1)),
            state,
            None,
        ),
    )
    push = optax.sgd(-1.0)
    tilted = lambda x: jnp.sum(x**2 + 0.1 * jnp.abs(x) + x * 1e-3)
    result = jd.minimize(tilted, push, init_params=starts, steps=4, steps_per_rung=2, rule=leave)
    assert result.id == 0
    assert result.value == 0
    np.testing.assert_array_equal(result.params, [0.0])
    assert result.history.survivors.tolist() == [1, 1]


def test_a_budget_of_gradients_is_spent_on_the_survivors():
    result = minimized(steps=None, steps_per_rung=None, gradient_budget=1_000, num_rungs=5)
    assert result.gradients <= 1_000
    lengths = np.diff(result.history.steps, prepend=0)
    # Of 980 left, a fifth for 20 agents is 9 steps; what rounding leaves goes to later rungs.
    assert lengths[0] == 9
    np.testing.assert_array_less(lengths[:-1], lengths[1:])
    assert result.gradients > 1_000 - 2 * result.history.descended[-1]


def test_no_budget_is_exceeded_when_it_is_too_small_to_move():
    result = minimized(steps=None, steps_per_rung=None, gradient_budget=21, num_rungs=3)
    assert result.gradients == 20
    assert np.isfinite(result.value)
    assert result.history.survivors.tolist() == [10, 10, 10]  # no news, no verdict


def test_one_program_for_all_instances_keys_and_survivors():
    traces, counts = [], []

    def value(x, shift):
        traces.append(x)
        return wells(x, shift)

    for shift, seed in ((0.1, 0), (0.2, 1), (-0.7, 2)):
        shifted = jd.Problem(value, -BOX, BOX, data=(jnp.full(3, shift),))
        key = jax.random.key(seed)
        jd.minimize(shifted, ADAM, key=key, num_agents=8, steps=6, steps_per_rung=2, rule=HALVING)
        counts.append(len(traces))
    assert counts[0] == counts[-1] > 0


def test_agents_have_hyperparameters_of_their_own():
    rates = jnp.array([0.0, 0.1, 0.3])
    starts = jnp.ones((3, 3))
    result = jd.minimize(
        problem(),
        optax.sgd,
        init_params=starts,
        hyperparams={"learning_rate": rates},
        steps=1,
        steps_per_rung=1,
        rule=NEVER,
    )
    grads = jax.grad(problem().value)(jnp.ones(3))
    np.testing.assert_allclose(result.population.params, 1 - rates[:, None] * grads, rtol=1e-5)


def test_a_population_of_towers_learns_its_rates():
    def tower(rate):
        return jd.hypergradient(
            optax.sgd, optax.sgd(1e-4), tune={"learning_rate": jd.positive(rate)}
        )

    result = jd.minimize(
        problem(),
        tower(0.01),
        init_params=jnp.array([[1.0, 2.0, 3.0], [0.1, 0.2, 0.3]]),
        steps=10,
        steps_per_rung=5,
        rule=NEVER,
    )
    learned = jax.vmap(lambda s: jd.get_hyperparams(s)[0]["learning_rate"])(
        result.population.opt_state
    )
    assert learned[0] != learned[1]
    np.testing.assert_array_less(0.01, learned)


def test_random_numbers_of_an_optimizer_are_the_agents_own():
    noisy = optax.chain(optax.add_noise(1.0, 0.5, key=jax.random.key(0)), optax.sgd(0.1))
    result = jd.minimize(
        problem(), noisy, init_params=jnp.ones((4, 3)), steps=2, steps_per_rung=1, rule=NEVER
    )
    assert len(np.unique(result.population.params[:, 0])) == 4


def test_an_agent_that_breaks_harms_no_other():
    brittle = lambda x: jnp.sum(jnp.where(x > 2, jnp.nan, x**2))
    starts = jnp.array([[1.0], [3.0], [1.5]])
    tame = jd.minimize(brittle, ADAM, init_params=starts, steps=4, steps_per_rung=2, rule=NEVER)
    assert tame.history.not_finite.tolist() == [1, 0]
    assert tame.population.alive.tolist() == [True, False, True]
    alone = jd.minimize(
        brittle, ADAM, init_params=starts[::2], steps=4, steps_per_rung=2, rule=NEVER
    )
    np.testing.assert_allclose(tame.population.params[::2], alone.population.params, rtol=1e-6)


def test_when_all_break_the_best_finite_point_is_what_comes_back():
    cliff = lambda x: jnp.sum(jnp.where(x < -1, jnp.nan, x))
    result = jd.minimize(
        cliff,
        optax.sgd(0.4),
        init_params=jnp.array([[0.3], [0.5]]),
        steps=20,
        steps_per_rung=10,
        rule=HALVING,
    )
    assert result.history.survivors.tolist() == [0, 0]
    assert result.history.not_finite.tolist() == [2, 0]
    np.testing.assert_allclose(result.value, -0.9, atol=1e-6)
    np.testing.assert_allclose(result.params, [-0.9], atol=1e-6)
    assert result.gradients == 2 * 11


def test_a_value_of_minus_infinity_is_no_best_point():
    hole = lambda x: jnp.sum(jnp.where((x > 0.3) & (x < 0.5), -jnp.inf, x))
    through = jd.basin_hopping(optax.sgd(0.2), period=50, jump=1.0)
    result = jd.minimize(
        hole, through, init_params=jnp.array([[1.0]]), steps=3, steps_per_rung=3, rule=NEVER
    )
    # 1, 0.8, 0.6, and 0.4 in the hole.
    np.testing.assert_allclose([result.value, result.population.best_values[0]], 0.6, atol=1e-6)
    np.testing.assert_allclose(result.params, [0.6], atol=1e-6)
    np.testing.assert_allclose(result.population.opt_state.best_value, [0.6], atol=1e-6)
    assert result.history.not_finite == 1


def test_when_nothing_was_ever_finite_the_result_says_so():
    result = jd.minimize(
        lambda x: jnp.sum(x) * jnp.nan,
        ADAM,
        init_params=jnp.ones((2, 1)),
        steps=2,
        steps_per_rung=1,
    )
    assert result.value == jnp.inf
    assert result.id == -1
    np.testing.assert_array_equal(result.params, [1.0])


def test_a_rule_that_clears_everyone_ends_the_work():
    clear = jd.Rule(
        lambda *_: None,
        lambda key, population, problem, state: (
            population._replace(alive=population.alive & False),
            state,
            None,
        ),
    )
    result = minimized(rule=clear)
    assert result.history.survivors.tolist() == [0] * 5
    assert result.gradients == 20 * 6
    assert np.isfinite(result.value)


@pytest.mark.parametrize("agents", [1, 3])
def test_counts_that_no_chunk_divides(agents):
    whole = minimized(num_agents=agents, chunk_size=agents)
    parts = minimized(num_agents=agents, chunk_size=2)
    np.testing.assert_allclose(whole.population.params, parts.population.params, rtol=1e-5)
    assert whole.gradients == parts.gradients


def test_no_steps_are_a_look_at_the_starts():
    result = minimized(steps=0, rule=NEVER)
    assert result.gradients == 20
    assert result.value == jax.vmap(problem().value)(result.population.params).min()


def test_a_checkpoint_in_the_middle_resumes_to_the_bit(tmp_path):
    rule = jd.pruning.chain(jd.pruning.stalled(2), jd.pruning.delay(1, HALVING))
    loop = jd.minimize_loop(problem(), ADAM, num_agents=12, rule=rule, chunk_size=4)
    advance = jax.jit(loop.step)
    state = loop.init(jax.random.key(4))
    for rung in range(6):
        if rung == 3:
            middle = state
        state, _ = advance(state, 5)
    assert 1 < middle.population.alive.sum() < 12
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "middle", middle)
        checkpointer.wait_until_finished()
        resumed = checkpointer.restore(tmp_path / "middle", jax.tree.map(jnp.zeros_like, middle))
    for _ in range(3):
        resumed, _ = advance(resumed, 5)
    chex.assert_trees_all_equal(resumed, state)


@pytest.mark.parametrize("starts", [None, np.ones((4, 3), np.float32)])
def test_a_state_can_be_donated(starts):
    loop = jd.minimize_loop(problem(), ADAM, num_agents=4)
    state = loop.init(jax.random.key(0), starts)
    state, report = jax.jit(loop.step, donate_argnums=0)(state, 1)
    assert report.descended == 4
    assert np.isfinite(state.best_value)


def test_parameters_may_be_a_tree_of_any_floats():
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


def test_diversity_is_the_spread_of_those_that_descended():
    starts = jnp.array([[0.0, 0.0], [2.0, 4.0], [100.0, 100.0]])
    flat = lambda x: jnp.sum(x) * 0
    result = jd.minimize(
        flat, optax.sgd(0.0), init_params=starts, steps=2, steps_per_rung=1, rule=NEVER
    )
    expected = np.sqrt(np.mean((starts - starts.mean(0)) ** 2))
    np.testing.assert_allclose(result.history.diversity, expected, rtol=1e-5)


def test_parameters_are_recorded_on_request():
    result = minimized(record_params=True)
    assert result.history.params.shape == (5, 20, 3)
    np.testing.assert_array_equal(result.history.params[-1], result.population.params)


AUTO, EXPLICIT = jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit


@pytest.mark.parametrize(("devices", "axis"), [(2, AUTO), (2, EXPLICIT), (4, AUTO)])
def test_agents_spread_over_devices_find_the_same(pruned, devices, axis):
    mesh = jax.make_mesh((devices,), ("agents",), axis_types=(axis,))
    spread = minimized(mesh=mesh)
    assert spread.population.params.sharding.spec == jax.sharding.PartitionSpec("agents")
    np.testing.assert_array_equal(spread.population.alive, pruned.population.alive)
    assert (spread.id, spread.gradients) == (pruned.id, pruned.gradients)
    np.testing.assert_allclose(spread.params, pruned.params, rtol=1e-5)
    whole = minimized(mesh=mesh, prune=False)
    alive = np.asarray(spread.population.alive)
    np.testing.assert_array_equal(spread.population.params[alive], whole.population.params[alive])


def test_a_rung_leaves_its_state_where_the_next_one_looks_for_it():
    mesh = jax.make_mesh((2,), ("agents",))
    rule = jd.pruning.chain(jd.pruning.predicted_to_lose(6), jd.pruning.stalled())
    loop = jd.minimize_loop(problem(), ADAM, num_agents=20, rule=rule, mesh=mesh)
    first, advance = loop.init(jax.random.key(0)), jax.jit(loop.step)
    state, _ = advance(first, 2)
    state, _ = advance(state, 2)
    same = jax.tree.map(lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim), first, state)
    assert all(jax.tree.leaves(same))
    spread = jax.sharding.PartitionSpec("agents")
    assert state.population.params.sharding.spec == spread
    assert state.rule_state[0].mean_y.sharding.spec == spread


def test_a_mesh_that_agents_do_not_fill_is_refused():
    mesh = jax.make_mesh((2,), ("agents",), axis_types=(jax.sharding.AxisType.Auto,))
    with pytest.raises(ValueError, match="mesh must have one axis, of a size that divides"):
        minimized(mesh=mesh, num_agents=5)


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
            "init_params must be real floating numbers, got int32",
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
            "init_params must be real floating numbers, got comp",
        ),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        minimized(**changes)


@pytest.mark.parametrize("loss", [lambda x: x, lambda x: jnp.argmax(x), lambda x: (x.sum(), 1)])
def test_a_loss_that_is_no_real_scalar_is_refused(loss):
    with pytest.raises(ValueError, match="problem must return one real floating number"):
        jd.minimize(loss, ADAM, init_params=jnp.ones((2, 3)), steps=1, steps_per_rung=1)


def test_what_is_no_problem_or_rule_or_optimizer_is_refused():
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
            jd.minimize(problem(), ADAM, num_agents=2, steps=1, steps_per_rung=1, key=key)
    with pytest.raises(TypeError, match=r"mesh must be a jax.sharding.Mesh, got 'cpu'"):
        minimized(mesh="cpu")


def test_a_rung_is_of_an_integer_that_is_not_negative():
    loop = jd.minimize_loop(problem(), ADAM, num_agents=2)
    state = jax.eval_shape(loop.init, jax.random.key(0))
    for length in (-1, 2.5, True, jnp.ones(2, int), jnp.ones(())):
        with pytest.raises(ValueError, match=r"length must be (an|one) integer"):
            jax.eval_shape(lambda state, length=length: loop.step(state, length), state)
    with pytest.raises(ValueError, match="prune must be True or False"):
        jax.eval_shape(lambda state: loop.step(state, 1, prune=0), state)


def test_leaves_that_disagree_are_refused():
    starts = {"a": jnp.ones((2, 1)), "b": jnp.ones((3, 1))}
    with pytest.raises(
        ValueError, match=r"leading axis of num_agents = 2 .*\(3, 1\) at init_params\['b'\]"
    ):
        jd.minimize(lambda x: jnp.sum(x["a"]), ADAM, init_params=starts, steps=1, steps_per_rung=1)
