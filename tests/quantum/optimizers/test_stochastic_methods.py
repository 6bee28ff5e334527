"""SPSA, QN-SPSA and adaptive shots follow their formulas, and count what they spend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from jaxdescent.quantum.optimizers.adaptive_shots import Averages, _gcans_shots, _icans_shots

gates, quantum = jd.quantum.gates, jd.quantum
KEY = jax.random.key(0)
OPERATIONS = [
    gates.ry(gates.param(0), 0),
    gates.ry(gates.param(1), 1),
    gates.cnot(0, 1),
    gates.rx(gates.param(2), 0),
]
CIRCUIT = quantum.Circuit(2, OPERATIONS)
EXPECTATION = CIRCUIT.expectation(quantum.pauli_sum({"ZZ": 0.5, "XI": 0.8, "II": 1.0}))
START = np.array([0.3, 1.2, -0.7])


def steps(optimizer, params, count, key=KEY):
    state = optimizer.init(params, key)

    def step(carry, key):
        carry = optimizer.step(*carry, key)
        return carry, None

    keys = jax.random.split(key, count)
    return jax.jit(lambda p, s, keys: jax.lax.scan(step, (p, s), keys)[0])(params, state, keys)


def test_spalls_gains_are_those_in_pennylane():
    gains = quantum.spsa_gains(200)
    for k in (1, 10, 200):
        rate, sigma = gains.at(k)
        np.testing.assert_allclose(rate, 0.05 * 21**0.602 / (20 + k) ** 0.602, rtol=1e-5)
        np.testing.assert_allclose(sigma, 0.2 / k**0.101, rtol=1e-5)


def test_a_calibrated_first_step_has_the_chosen_size_and_its_cost_is_counted():
    slopes = jnp.array([3.0])

    def function(x):
        return jnp.sum(slopes * x)

    optimizer = quantum.spsa(function, 100, calibrate=True)
    state = optimizer.init(jnp.zeros(1), KEY)
    assert int(state.executions) == 50
    params, state = optimizer.step(jnp.zeros(1), state, KEY)
    np.testing.assert_allclose(params, -2 * np.pi / 10, rtol=1e-4)
    assert int(state.executions) == 52
    # A = 0: the learning rate falls from the first step on.
    (first, _), (tenth, _) = state.gains.at(1), state.gains.at(10)
    np.testing.assert_allclose(tenth / first, 10**-0.602, rtol=1e-5)
    gains = quantum.calibrated_spsa_gains(function, jnp.zeros(1), KEY, stability=9.0)
    np.testing.assert_allclose(gains.at(1)[0], first, rtol=1e-5)
    np.testing.assert_allclose(gains.at(11)[0] / first, 2**-0.602, rtol=1e-5)
    flat = quantum.calibrated_spsa_gains(lambda x: 0 * x[0], jnp.zeros(1), KEY)
    np.testing.assert_allclose(flat.at(1)[0], 0.05, rtol=1e-5)


def test_spsa_reaches_the_minimum_with_sampled_values():
    optimizer = quantum.spsa(quantum.sampled(EXPECTATION, shots=100), 300, calibrate=True)
    params, state = steps(optimizer, jnp.asarray(START, jnp.float32), 300)
    assert float(EXPECTATION(params)) < 1 - 0.8
    assert (int(state.executions), int(state.shots)) == (650, 650 * 200)


def test_a_step_of_qn_spsa_is_the_published_one():
    """The step is repeated in NumPy, with the same random signs."""
    e, b, eta = 0.01, 0.001, 0.1
    with jax.enable_x64(True):
        params = jnp.asarray(START)
        optimizer = quantum.qn_spsa(EXPECTATION, eta, blocking=False)
        moved, state = jax.jit(optimizer.step)(params, optimizer.init(params, KEY), KEY)
        draws = jax.random.rademacher(jax.random.split(KEY, 5)[0], (3, 3), jnp.float64)
        h, h1, h2 = map(np.asarray, draws)
        value, state_at = jax.jit(EXPECTATION), jax.jit(CIRCUIT.state)
        slope = value(params + e * h) - value(params - e * h)
        states = [
            np.asarray(state_at(params + x))
            for x in (0 * h, e * (h1 + h2), e * h1, e * (h2 - h1), -e * h1)
        ]
    f = [abs(np.vdot(states[0], each)) ** 2 for each in states[1:]]
    estimate = -(f[0] - f[1] - f[2] + f[3]) / (8 * e**2)
    mean = (np.eye(3) + estimate * (np.outer(h1, h2) + np.outer(h2, h1))) / 2
    values, vectors = np.linalg.eigh(mean)
    regular = (vectors * np.abs(values) @ vectors.T + b * np.eye(3)) / (1 + b)
    expected = START - eta * np.linalg.solve(regular, float(slope) / (2 * e) * h)
    np.testing.assert_allclose(moved, expected, rtol=1e-6)
    np.testing.assert_allclose(state.metric, mean, rtol=1e-6)
    assert int(state.executions) == 6


def test_the_mean_of_the_random_metrics_is_the_metric():
    with jax.enable_x64(True):
        params = jnp.asarray(START)
        optimizer = quantum.qn_spsa(EXPECTATION, blocking=False)
        start = optimizer.init(params, KEY)

        def estimate(key):  # from the average (I + G_hat) / 2 of the first step
            return 2 * optimizer.step(params, start, key)[1].metric - jnp.eye(3)

        found = np.asarray(jax.jit(jax.vmap(estimate))(jax.random.split(KEY, 4_000)))
        exact = np.asarray(quantum.metric(CIRCUIT, params))
    error = np.std(found, axis=0) / np.sqrt(len(found)) + 1e-4
    assert np.all(np.abs(np.mean(found, axis=0) - exact) <= 3.5 * error)


@pytest.mark.parametrize("average", ["raw", "regularized"])
def test_blocking_never_accepts_a_large_rise_and_costs_one_execution(average):
    optimizer = quantum.qn_spsa(EXPECTATION, 0.2, epsilon=0.1, average=average)
    params, state = steps(optimizer, jnp.asarray(START, jnp.float32), 150)
    assert float(EXPECTATION(params)) < 1 - 0.85
    assert int(state.executions) == 7 * 150 + 1
    assert bool(jnp.all(jnp.isfinite(state.metric)))


def test_16_bit_parameters_are_perturbed_in_32_bits():
    optimizer = quantum.qn_spsa(EXPECTATION, 0.1, epsilon=0.1)
    params = jnp.asarray(START, jnp.bfloat16)
    wide = params.astype(jnp.float32)
    step = jax.jit(optimizer.step)
    moved, state = step(params, optimizer.init(params, KEY), KEY)
    expected, _ = step(wide, optimizer.init(wide, KEY), KEY)
    assert state.metric.dtype == jnp.float32
    np.testing.assert_array_equal(moved, expected.astype(jnp.bfloat16))


def test_counts_stay_at_their_largest_value():
    function = quantum.sampled(EXPECTATION, 2_000_000_000)
    for optimizer in (quantum.spsa(function, 5), quantum.qn_spsa(function, epsilon=0.1)):
        _, state = jax.jit(optimizer.step)(START, optimizer.init(START, KEY), KEY)
        assert int(state.shots) == 2**31 - 1
    optimizer = quantum.gcans(EXPECTATION, 0.1)
    state = optimizer.init(START, KEY)._replace(next_shots=jnp.full(3, 700_000_000, jnp.int32))
    assert int(jax.jit(optimizer.step)(START, state, KEY)[1].shots) == 2**31 - 1
    measure = jax.jit(lambda x: quantum.measure(EXPECTATION, x, key=KEY, shots=2_000_000_000))
    found = measure(START)
    assert int(found.shots) == 2**31 - 1


def averages(grads, variances, rate=0.1, smoothness=1.3, floor=1e-6):
    values = (grads, variances, floor, rate, smoothness)
    return Averages(*(jnp.asarray(x, jnp.float32) for x in values))


def test_icans_caps_shots_at_the_parameter_of_the_largest_gain_per_shot():
    means = averages([0.5, 0.01], [1.0, 1.0])
    factor = 2 * 1.3 * 0.1 / (2 - 1.3 * 0.1)
    # ceil(0.139 / 0.25) = 1 for the first, which has the largest gain; the second wants 1,376.
    assert int(np.ceil(factor * 1.0 / (0.01**2 + 1e-6))) > 1_000
    np.testing.assert_array_equal(_icans_shots(means), [1, 1])


def test_gcans_shares_shots_by_standard_deviations():
    shots = _gcans_shots(averages([0.3, 0.4], [1.0, 4.0]))
    factor = 2 * 1.3 * 0.1 / (2 - 1.3 * 0.1)
    np.testing.assert_allclose(shots, factor * np.array([1, 2]) * 3 / 0.25, rtol=1e-4)


@pytest.mark.parametrize("make", [quantum.icans, quantum.gcans])
def test_adaptive_shots_grow_near_the_minimum_and_are_counted(make):
    optimizer = make(EXPECTATION, 0.3, decay=0.9)
    params, state = steps(optimizer, jnp.asarray(START, jnp.float32), 80)
    assert float(EXPECTATION(params)) < 1 - 0.8
    assert int(state.executions) == 2 * 3 * 80
    assert int(state.shots) > 2 * 3 * 2 * 80
    assert int(jnp.max(state.next_shots)) > 2


@pytest.mark.parametrize("make", [quantum.icans, quantum.gcans])
def test_a_step_with_adaptive_shots_is_unbiased(make):
    optimizer, params = make(EXPECTATION, 0.3), jnp.asarray(START, jnp.float32)
    state = optimizer.init(params, KEY)

    def gradient(key):
        return (params - optimizer.step(params, state, key)[0]) / 0.3

    found = np.asarray(jax.jit(jax.vmap(gradient))(jax.random.split(KEY, 4_000)))
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0) - jax.grad(EXPECTATION)(params)) <= 3 * error)


@pytest.mark.parametrize(
    "optimizer",
    [
        quantum.spsa(EXPECTATION, 10, calibrate=True),
        quantum.qn_spsa(EXPECTATION, 0.1, epsilon=0.1),
        quantum.icans(EXPECTATION, 0.1),
    ],
    ids=["spsa", "qn_spsa", "icans"],
)
def test_agents_are_independent(optimizer):
    starts = jnp.asarray(np.stack([START, -START]), jnp.float32)
    keys = jax.random.split(KEY, 2)

    @jax.jit
    def run(start, key):
        return optimizer.step(start, optimizer.init(start, key), key)

    together, states = jax.jit(jax.vmap(run))(starts, keys)
    for i in range(2):
        alone, state = run(starts[i], keys[i])
        np.testing.assert_allclose(together[i], alone, atol=1e-4)
        assert int(states.executions[i]) == int(state.executions)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: quantum.spsa(EXPECTATION, 0), ValueError, "num_steps must be"),
        (lambda: quantum.spsa(3, 10), TypeError, "function must be"),
        (lambda: quantum.spsa(jnp.sum, 9).init({}, KEY), ValueError, "at least one number"),
        (lambda: quantum.spsa_gains(10, c=0), ValueError, "c must be"),
        (
            lambda: quantum.calibrated_spsa_gains(jnp.sum, jnp.ones(1), KEY, stability=-1.0),
            ValueError,
            r"stability must be in \[0, inf\), got -1",
        ),
        (lambda: quantum.qn_spsa(jnp.sum), TypeError, "without overlap="),
        (lambda: quantum.qn_spsa(EXPECTATION, epsilon=0), ValueError, "epsilon must be"),
        (lambda: quantum.qn_spsa(EXPECTATION, average="x"), ValueError, "average must be"),
        (lambda: quantum.icans(EXPECTATION, 2.0), ValueError, r"learning_rate must be in \(0, 1.5"),
        (lambda: quantum.icans(EXPECTATION, 0.1, min_shots=1), ValueError, "min_shots must be"),
        (lambda: quantum.gcans(jnp.sum, 0.1), TypeError, "expectation must be"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
