"""Rotosolve and Rotoselect find the exact minimum of each coordinate, at their stated cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd

gates, quantum = jd.quantum.gates, jd.quantum
KEY = jax.random.key(0)
TERMS = {"ZZ": 0.5, "XI": 0.8, "YX": -0.3, "II": 2.0}
OPERATIONS = [
    gates.ry(gates.param(0), 0),
    gates.rx(gates.param(1), 1),
    gates.cnot(0, 1),
    gates.ry(gates.param(2), 0),
    gates.rz(gates.param(3), 1),
]
EXPECTATION = quantum.Circuit(2, OPERATIONS).expectation(quantum.pauli_sum(TERMS))
VALUE = jax.jit(EXPECTATION)


def counted(function):
    """Returns a function that counts its calls outside of transformations of JAX."""
    calls = []

    def call(x):
        jax.debug.callback(lambda _: calls.append(1), x[0])
        return function(x)

    return call, calls


def sweeps(optimizer, params, count):
    state = optimizer.init(params, KEY)
    step = jax.jit(optimizer.step)
    for key in jax.random.split(KEY, count):
        params, state = step(params, state, key)
    return params, state


def test_a_sweep_minimizes_each_coordinate_in_turn():
    with jax.enable_x64(True):
        x = np.array([0.3, -1.0, 2.0, 0.5])
        found, state = sweeps(quantum.rotosolve(EXPECTATION), jnp.asarray(x), 1)
        for i in range(4):
            values = [VALUE(jnp.asarray(x).at[i].add(d)) for d in (0, np.pi / 2, -np.pi / 2)]
            center, ahead, behind = map(float, values)
            mean = (ahead + behind) / 2
            angle = np.arctan2((ahead - behind) / 2, center - mean) + np.pi  # of the minimum
            x[i] += angle
        np.testing.assert_allclose(np.exp(1j * np.asarray(found)), np.exp(1j * x), atol=1e-10)
        np.testing.assert_allclose(state.value, VALUE(found), atol=1e-12)
        assert bool(jnp.all(jnp.diff(state.values) <= 1e-12))
        assert float(state.values[-1]) == float(state.value)
        assert bool(jnp.all(jnp.abs(found) <= np.pi))


@pytest.mark.parametrize(("refresh", "expected"), [(True, [9, 18]), (False, [9, 17])])
def test_a_sweep_costs_2n_plus_1_executions(refresh, expected):
    optimizer = quantum.rotosolve(EXPECTATION, refresh=refresh)
    costs = [int(sweeps(optimizer, jnp.ones(4), n)[1].executions) for n in (1, 2)]
    assert costs == expected


def test_the_executions_are_the_calls_of_the_function():
    function, calls = counted(lambda x: jnp.sum(jnp.cos(x)))
    _, state = sweeps(quantum.rotosolve(function), jnp.ones(3), 1)
    jax.effects_barrier()
    assert len(calls) == int(state.executions) == 7


@pytest.mark.parametrize(("count", "unit"), [(2, 1.0), (3, 1.0), (2, 0.5)])
def test_several_frequencies_are_minimized_on_the_whole_circle(count, unit):
    random = np.random.default_rng(count)
    cosines, sines = random.normal(size=(2, count))
    orders = unit * np.arange(1, count + 1)

    def function(x):
        return jnp.sum(cosines * jnp.cos(orders * x) + sines * jnp.sin(orders * x))

    with jax.enable_x64(True):
        optimizer = quantum.rotosolve(function, num_frequencies=count, unit=unit)
        _, state = sweeps(optimizer, jnp.array([0.3]), 1)
        grid = jax.vmap(function)(jnp.linspace(0, 2 * np.pi / unit, 100_001)[:, None])
        np.testing.assert_allclose(state.value, jnp.min(grid), atol=1e-7)
        assert float(state.value) <= float(jnp.min(grid)) + 1e-12
    assert int(state.executions) == 2 * count + 1


def test_rotoselect_finds_the_best_axis_and_angle_of_a_gate():
    axes = [gates.rx, gates.ry, gates.rz]
    rows = [[axis(gates.param(g, i), g) for i, axis in enumerate(axes)] for g in range(2)]
    circuit = quantum.Circuit(2, [gates.h(0), rows[0], rows[1], gates.cnot(0, 1)])
    expectation = circuit.expectation(quantum.pauli_sum(TERMS))
    with jax.enable_x64(True):
        params, state = sweeps(quantum.rotoselect(expectation), jnp.zeros((2, 3)), 1)
        assert int(state.executions) == 14
        assert bool(jnp.all(jnp.sum(params != 0, axis=1) <= 1))
        np.testing.assert_allclose(state.value, expectation(params), atol=1e-12)
        # No other axis and angle of the last gate is lower.
        angles = np.linspace(-np.pi, np.pi, 41)
        rows = jnp.asarray([axis * angle for axis in np.eye(3) for angle in angles])
        others = jax.jit(jax.vmap(lambda row: expectation(params.at[1].set(row))))(rows)
        assert float(jnp.min(others)) >= float(state.value) - 1e-12


def test_sampled_values_reach_the_minimum_and_their_shots_are_counted():
    function = quantum.sampled(EXPECTATION, shots=4_000)
    params, state = sweeps(quantum.rotosolve(function), jnp.ones(4), 4)
    exact, _ = sweeps(quantum.rotosolve(EXPECTATION), jnp.ones(4), 4)
    assert float(EXPECTATION(params)) < float(EXPECTATION(exact)) + 0.02
    assert int(state.executions) == 36
    assert int(state.shots) == 36 * 3 * 4_000


def test_agents_are_independent():
    optimizer = quantum.rotosolve(EXPECTATION)
    starts = jnp.linspace(-2, 2, 12).reshape(3, 4)
    states = jax.vmap(optimizer.init)(starts, jax.random.split(KEY, 3))
    params, states = jax.jit(jax.vmap(optimizer.step))(starts, states, jax.random.split(KEY, 3))
    for i, start in enumerate(starts):
        alone, state = sweeps(optimizer, start, 1)
        np.testing.assert_allclose(state.value, states.value[i], atol=1e-5)
        np.testing.assert_allclose(jnp.cos(alone), jnp.cos(params[i]), atol=1e-3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: quantum.rotosolve(3), TypeError, "function must be a function"),
        (lambda: quantum.rotosolve(jnp.sum, num_frequencies=0), ValueError, "num_frequencies must"),
        (lambda: quantum.rotosolve(jnp.sum, unit=0), ValueError, "unit must be"),
        (
            lambda: quantum.rotosolve(EXPECTATION, unit=2.0).init(jnp.ones(4), KEY),
            ValueError,
            "num_frequencies must be large enough",
        ),
        (
            lambda: quantum.rotoselect(jnp.sum).init(jnp.ones(3), KEY),
            ValueError,
            r"params must be f\[gates, 3\]",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
