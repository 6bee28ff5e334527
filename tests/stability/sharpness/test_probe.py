"""Records of a probe against dense eigenvalues, and the divergence test."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.stability.sharpness.probe import add_record

Outcome = jd.StabilityOutcome
MATRIX = np.random.default_rng(1).normal(size=(30, 30))
MATRIX = (MATRIX + MATRIX.T) / 2


def bowl(params, matrix):
    x = jnp.concatenate([params["a"], params["b"]])
    return 0.5 * x @ matrix @ x


PARAMS = {"a": jnp.ones(10), "b": jnp.linspace(-1, 1, 20)}

MAX_RECORDS = 64  # all cases share one program


@functools.cache
def recorder(log_size):
    def run(ratios, losses, count, patience, rise):
        def add_one(state, numbers):
            i, ratio, loss = numbers
            new = add_record(state, record(10 * i, ratio, loss), patience, rise)
            return jax.tree.map(lambda a, b: jnp.where(i < count, a, b), new, state), None

        start = jd.stability_probe(bowl, jd.thresholds.sgd(), log_size=log_size).init(jnp.zeros(()))
        return jax.lax.scan(add_one, start, (jnp.arange(MAX_RECORDS), ratios, losses))[0]

    return jax.jit(run)


def record(step, ratio, loss):
    return jd.StabilityRecord(
        step=step,
        loss=loss,
        learning_rate=jnp.float32(0.5),
        sharpness=4 * ratio,
        residual=jnp.float32(0.0),
        converged=jnp.ones((), bool),
        threshold=jnp.float32(4.0),
    )


def state_after(ratios, losses, patience=3, rise=0.5, log_size=MAX_RECORDS):
    """Returns the state after records with these ratios of sharpness to threshold."""
    count = len(ratios)

    def pad(x):
        return np.pad(np.float32(np.broadcast_to(x, count)), (0, MAX_RECORDS - count))

    return recorder(log_size)(pad(ratios), pad(losses), count, patience, rise)


def test_outcome_goes_from_unknown_to_below_to_edge():
    assert Outcome(int(state_after([], 1.0).outcome)) is Outcome.UNKNOWN
    assert Outcome(int(state_after([0.3, 0.999], 1.0).outcome)) is Outcome.BELOW
    state = state_after([0.3, 0.999, 1.001, 0.9], 1.0)
    assert Outcome(int(state.outcome)) is Outcome.EDGE
    assert int(state.reached) == 20


@pytest.mark.parametrize(
    ("ratios", "reached"),
    [([1.3, 1.2, 1.1], 0), ([9.0, 0.3, 0.9, 1.0], 30), ([9.0, 0.3, 0.9], -1), ([0.5, 2, 0.5], 10)],
)
def test_a_start_above_the_threshold_is_forgotten_once_below_it(ratios, reached):
    assert int(state_after(ratios, 1.0).reached) == reached


def test_the_log_keeps_the_last_records_in_order():
    state = state_after(np.arange(7) / 10, np.arange(7.0), log_size=3)
    found = jd.stability_log({"anywhere": [state]})
    np.testing.assert_array_equal(found.step, [40, 50, 60])
    np.testing.assert_array_equal(found.loss, [4.0, 5.0, 6.0])
    assert float(state.last.loss) == 6.0
    assert int(state.probes) == 7
    assert len(jd.stability_log(state_after([], 1.0)).step) == 0


# The divergence test.


def at_the_edge(seed, count=60):
    """Returns ratios in [.95, 1.23] and a loss that falls 100-fold but often rises."""
    random = np.random.default_rng(seed)
    losses = np.geomspace(1.0, 0.01, count) * random.uniform(0.75, 1.35, count)
    return random.uniform(0.95, 1.23, count), losses


def test_a_run_that_oscillates_at_the_edge_is_not_diverging():
    rises, above = 0, 0
    for seed in range(100):
        ratios, losses = at_the_edge(seed)
        state = state_after(ratios, losses)
        assert Outcome(int(state.outcome)) is Outcome.EDGE, seed
        rises += np.mean(np.diff(losses) > 0) / 100
        above += np.mean(ratios > 1) / 100
    assert rises > 0.3
    assert above > 0.7


def test_runs_far_below_the_edge_are_not_diverging_for_any_loss():
    random = np.random.default_rng(0)
    for _ in range(20):
        state = state_after(random.uniform(0, 0.5, 60), np.exp(random.normal(size=60).cumsum()))
        assert Outcome(int(state.outcome)) is Outcome.BELOW


def test_a_growing_loss_above_the_threshold_is_diverging_at_the_third_probe():
    state = state_after([1.05] * 6, [1.0, 1.2, 1.6, 2.5, 4.0, 6.0])
    assert Outcome(int(state.outcome)) is Outcome.DIVERGING
    assert int(state.diverged) == 40  # 1.6, 2.5 and 4 are above 1.5


def test_a_late_divergence_is_found_and_final():
    losses = [1.0, 0.5, 0.1, 0.01, 0.3, 0.6, 0.7, 0.65, 0.01, 0.01]
    state = state_after([0.5, 0.9, 1.02, 1.05, 1.2, 1.5, 1.4, 1.3, 0.9, 0.9], losses)
    assert int(state.diverged) == 70
    assert Outcome(int(state.outcome)) is Outcome.DIVERGING


@pytest.mark.parametrize("recovery", [(1.1, 0.4), (0.9, 5.0)])
def test_patience_restarts_when_sharpness_or_loss_recovers(recovery):
    ratios = [1.1, 1.1, 1.1, recovery[0], 1.1, 1.1]
    losses = [1.0, 3.0, 3.0, recovery[1], 3.0, 3.0]
    assert int(state_after(ratios, losses).diverged) == -1
    assert int(state_after([1.1, *ratios[4:], 1.1], [1.0, *losses[4:], 3.0]).diverged) == 30


def test_patience_and_rise_set_the_divergence_test():
    assert int(state_after([1.1] * 4, [1.0, 3.0, 3.0, 3.0], patience=1).diverged) == 10
    assert int(state_after([1.1] * 4, [1.0, 3.0, 3.0, 3.0], patience=2).diverged) == 20
    assert int(state_after([1.1] * 4, [1.0, 3.0, 3.0, 3.0], rise=2.5).diverged) == -1
    assert int(state_after([1.1] * 5, [-9.0, -5.0, -5.0, -5.0, -5.0]).diverged) == -1
    assert int(state_after([1.1] * 5, [-9.0, -4.0, -4.0, -4.0, -4.0]).diverged) == 30


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_non_finite_number_is_recorded_with_its_step(bad):
    state = state_after([0.5, 0.5, bad, 0.5], [1.0, 1.0, 1.0, 1.0])
    assert Outcome(int(state.outcome)) is Outcome.NOT_FINITE
    assert int(state.not_finite) == 20
    assert int(state_after([0.5, 0.5], [1.0, bad]).not_finite) == 10


# The eigenvalue.

MATVEC_ONLY = {"num_steps": 4, "max_restarts": 0, "tolerance": 1e-3}
EXACT = {"tolerance": 1e-4, "max_restarts": 50}


@functools.cache
def make_probe(exact):
    probe = jd.stability_probe(bowl, jd.thresholds.sgd(0.1), **(EXACT if exact else MATVEC_ONLY))
    return probe.init, jax.jit(probe.update)


def probed(exact, matrices):
    """Returns the state after probes of these matrices."""
    init, update = make_probe(exact)
    state = init(PARAMS)
    for step, matrix in enumerate(matrices):
        state = update(state, PARAMS, (), None, jnp.float32(matrix), 10 * step)
    return state


def test_records_equal_dense_values():
    found = jd.stability_log(probed(True, [MATRIX, -MATRIX, 2 * MATRIX]))
    x = np.concatenate([PARAMS["a"], PARAMS["b"]])
    values, loss = np.linalg.eigvalsh(MATRIX), 0.5 * x @ MATRIX @ x
    top = [values[-1], -values[0], 2 * values[-1]]
    np.testing.assert_array_equal(found.step, [0, 10, 20])
    np.testing.assert_allclose(found.loss, [loss, -loss, 2 * loss], rtol=1e-5)
    np.testing.assert_allclose(found.sharpness, top, rtol=1e-5)
    np.testing.assert_allclose(found.ratio, np.array(top) / 20, rtol=1e-5)
    np.testing.assert_allclose(found.threshold, [20.0] * 3, rtol=1e-6)
    np.testing.assert_array_equal(found.learning_rate, np.float32([0.1] * 3))
    assert found.converged.all()


def test_a_non_finite_matrix_does_not_affect_later_probes():
    state = probed(True, [MATRIX, np.full_like(MATRIX, np.nan), MATRIX])
    assert int(state.not_finite) == 10
    np.testing.assert_allclose(state.last.sharpness, np.linalg.eigvalsh(MATRIX)[-1], rtol=1e-5)


def test_an_unconverged_value_is_recorded_with_its_residual_and_counted():
    state = probed(False, [MATRIX])
    record = state.last
    vector = np.concatenate([state.vector["a"], state.vector["b"]])
    residual = np.linalg.norm(MATRIX @ vector - float(record.sharpness) * vector)
    assert not bool(record.converged)
    assert int(state.unconverged) == 1
    np.testing.assert_allclose(record.residual, residual, rtol=1e-4)
    assert residual > 1e-3 * float(record.sharpness)


def test_the_next_probe_starts_from_the_last_vector():
    """A few products per probe converge over several probes, but not from a cold start."""
    top = np.linalg.eigvalsh(MATRIX)[-1]
    errors = [abs(float(probed(False, [MATRIX] * n).last.sharpness) / top - 1) for n in (1, 8)]
    assert errors[0] > 1e-2
    assert errors[1] < 1e-3


def test_adams_sharpness_is_the_top_of_the_preconditioned_matrix():
    tx = optax.adam(1e-3)
    probe = jd.stability_probe(bowl, jd.thresholds.adam(1e-3), **EXACT)

    @jax.jit
    def probed_once(matrix):
        grads = jax.grad(bowl)(PARAMS, matrix)
        _, opt_state = tx.update(grads, tx.init(PARAMS), PARAMS)
        return grads, probe.update(probe.init(PARAMS), PARAMS, opt_state, grads, matrix, 0)

    grads, state = probed_once(jnp.float32(MATRIX))
    p = 0.1 * (np.abs(np.concatenate([grads["a"], grads["b"]])) + 1e-8)
    top = np.linalg.eigvals(MATRIX / p[:, None]).real.max()
    np.testing.assert_allclose(state.last.sharpness, top, rtol=1e-3)
    np.testing.assert_allclose(state.last.threshold, 38 / 1e-3, rtol=1e-5)


def test_vmapped_probes_equal_separate_probes():
    init, update = make_probe(True)
    seeds = jnp.float32(np.stack([MATRIX, 2 * MATRIX]))
    probes = jax.vmap(lambda matrix: update(init(PARAMS), PARAMS, (), None, matrix, 0))
    every = jax.jit(probes)(seeds)
    for i in range(2):
        found = jd.stability_log(jax.tree.map(lambda x, i=i: x[i], every))
        alone = jd.stability_log(probed(True, [seeds[i]]))
        np.testing.assert_allclose(found.loss, alone.loss, rtol=1e-5)
        np.testing.assert_allclose(found.sharpness, alone.sharpness, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"log_size": 0}, "log_size must be an integer at least 1, got 0"),
        ({"patience": 0}, "patience must be an integer at least 1, got 0"),
        ({"rise": 0.0}, "rise must be in (0, inf), got 0.0"),
        ({"tolerance": 0.0}, "tolerance must be in (0, inf), got 0.0"),
        ({"num_steps": 0}, "num_steps must be an integer at least 1, got 0"),
        ({"max_restarts": -1}, "max_restarts must be an integer at least 0, got -1"),
    ],
)
def test_bad_arguments_raise(options, words):
    with pytest.raises(ValueError, match=r".*") as error:
        jd.stability_probe(bowl, jd.thresholds.sgd(), **options)
    assert words in str(error.value)


def test_arguments_of_the_wrong_type_raise():
    with pytest.raises(TypeError, match=r"call it first, as in jd\.thresholds\.sgd\(0\.1\)"):
        jd.stability_probe(bowl, jd.thresholds.sgd)
    with pytest.raises(TypeError, match=r"loss_fn must be callable, got 3"):
        jd.stability_probe(3, jd.thresholds.sgd())
    with pytest.raises(ValueError, match=r"state must hold one StabilityState, got 0"):
        jd.stability_log(optax.adam(0.1).init(jnp.zeros(2)))
    state = state_after([], 1.0)
    with pytest.raises(ValueError, match=r"state must hold one StabilityState, got 2"):
        jd.get_stability((state, state))


def test_an_eigenvalue_that_overtakes_the_old_one_is_found():
    bulk = jnp.linspace(0.0, 0.45, 2_000)

    def loss(x, scales):
        return 0.5 * jnp.sum(scales * x**2)

    probe = jd.stability_probe(loss, jd.thresholds.sgd(1.0))
    x, state = jnp.ones(2_000), None
    update = jax.jit(lambda state, scales, step: probe.update(state, x, (), x, scales, step))
    for step, top in enumerate((0.3, 0.3, 1.0, 2.2)):
        scales = bulk.at[0].set(0.9).at[1].set(top)
        state = update(probe.init(x) if state is None else state, scales, step)
    np.testing.assert_allclose(jd.stability_log(state).sharpness, [0.9, 0.9, 1.0, 2.2], rtol=1e-3)


def test_an_overtaking_eigenvalue_is_found_at_once_for_any_key():
    """With a bulk of 20,000 eigenvalues, a few steps converge only slowly."""
    bulk, x = jnp.linspace(0.0, 0.45, 20_000), jnp.ones(20_000)

    def loss(x, scales):
        return 0.5 * jnp.sum(scales * x**2)

    probe = jd.stability_probe(loss, jd.thresholds.sgd(1.0))
    update = jax.jit(lambda state, top, step: probe.update(
        state, x, (), x, bulk.at[0].set(0.9).at[1].set(top), step
    ))  # fmt: skip
    before = update(update(probe.init(x), 0.3, 0), 0.3, 1)
    np.testing.assert_allclose(before.last.sharpness, 0.9, rtol=1e-3)
    found = [float(update(before, 2.2, 2 + 100 * i).last.sharpness) for i in range(20)]
    np.testing.assert_allclose(found, 2.2, rtol=1e-2)


def test_the_log_of_a_batch_of_runs_raises():
    probe = jd.stability_probe(bowl, jd.thresholds.sgd(1.0))
    states = jax.vmap(probe.init)(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match=r"state must be of one run"):
        jd.stability_log(states)
