"""The metric is the Fubini-Study metric, and damped steps stay finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.quantum.circuits.metric import gate_layers, metric_executions
from jaxdescent.quantum.optimizers.natural_gradient import damped_solve

gates, quantum = jd.quantum.gates, jd.quantum
LAYERED = [
    [
        *(gates.ry(gates.param(layer, wire, 0), wire) for wire in range(3)),
        *(gates.rz(gates.param(layer, wire, 1), wire) for wire in range(3)),
        *(gates.cnot(wire, wire + 1) for wire in range(2)),
    ]
    for layer in range(2)
]
CIRCUIT = quantum.Circuit(3, LAYERED)
PARAMS = np.random.default_rng(0).normal(size=(2, 3, 2))


def peer_metric(approx):
    qml = pytest.importorskip("pennylane")
    from pennylane import numpy as pnp

    @qml.qnode(qml.device("default.qubit", wires=4))
    def node(params):
        for layer in range(2):
            for wire in range(3):
                qml.RY(params[layer, wire, 0], wires=wire)
            for wire in range(3):
                qml.RZ(params[layer, wire, 1], wires=wire)
            for wire in range(2):
                qml.CNOT(wires=[wire, wire + 1])
        return qml.expval(qml.PauliZ(0))

    found = qml.metric_tensor(node, approx=approx)(pnp.array(PARAMS, requires_grad=True))
    return np.reshape(found, (12, 12))


@pytest.mark.parametrize(
    ("form", "approx"), [("full", None), ("block-diagonal", "block-diag")], ids=["full", "blocks"]
)
def test_the_metric_is_the_metric_of_pennylane(form, approx):
    expected = peer_metric(approx)
    with jax.enable_x64(True):
        found = jax.jit(lambda x: quantum.metric(CIRCUIT, x, form=form))(jnp.asarray(PARAMS))
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_layers_are_sets_of_commuting_gates():
    # One layer of rotations around Y, one around Z, and so on.
    expected = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    np.testing.assert_array_equal(gate_layers(CIRCUIT), expected)
    assert metric_executions(CIRCUIT, "block-diagonal") == 4
    assert metric_executions(CIRCUIT, "full") == 4 + 3 * 3 * 6


@pytest.mark.parametrize("form", ["full", "block-diagonal"])
def test_the_metric_is_by_the_parameters_not_by_the_angles(form):
    """Two gates share the first parameter, as 2 x and x; g = J^T g_a J."""
    operations = [gates.ry(2 * gates.param(0), 0), gates.ry(gates.param(0), 1)]
    circuit = quantum.Circuit(2, [*operations, gates.rx(gates.param(1) * 3, 0)])
    found = quantum.metric(circuit, jnp.array([0.4, 0.2]), form=form)
    # 2^2 / 4 + 1 / 4; 3^2 / 4 (1 - <X>^2) with <X> = sin(0.8); a product has no other terms.
    expected = [[1.25, 0], [0, 2.25 * (1 - np.sin(0.8) ** 2)]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_step_solves_the_damped_system():
    random = np.random.default_rng(1)
    root, grads = random.normal(size=(3, 3)), random.normal(size=3)
    metric = root @ root.T
    damped = metric + 0.1 * np.max(np.diag(metric)) * np.eye(3)
    with jax.enable_x64(True):
        direction, condition = damped_solve(*map(jnp.asarray, (metric, grads, 0.1)))
    np.testing.assert_allclose(direction, np.linalg.solve(damped, grads), rtol=1e-10)
    np.testing.assert_allclose(condition, np.linalg.cond(damped), rtol=1e-10)


def run(circuit, terms, start, steps, **settings):
    """Returns values and states of natural gradient descent."""
    expectation = circuit.expectation(quantum.pauli_sum(terms))
    tx = quantum.quantum_natural_gradient(circuit, **settings)

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(expectation)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), (value, state)

    return jax.jit(lambda x: jax.lax.scan(step, (x, tx.init(x)), length=steps)[1])(start)


def test_a_singular_metric_gives_finite_steps_and_a_reported_condition():
    """Both rotations around Z act on |0>, which they do not change, and then twice as one."""
    operations = [gates.rz(gates.param(0), 0), gates.ry(gates.param(1), 0)]
    circuit = quantum.Circuit(1, [*operations, gates.ry(gates.param(2), 0)])
    values, states = run(circuit, {"Z": 1.0}, jnp.array([0.3, 0.2, 0.1]), 20, learning_rate=0.25)
    assert bool(jnp.all(jnp.isfinite(states.params)))
    assert float(states.condition[0]) > 1_000
    assert float(values[-1]) < -0.999


def test_a_metric_of_zeros_gives_no_step_along_a_gradient_of_zeros():
    circuit = quantum.Circuit(1, [gates.rz(gates.param(0), 0)])
    _, states = run(circuit, {"Z": 1.0}, jnp.ones(1), 3)
    np.testing.assert_array_equal(states.params, 1)


def test_levenberg_rejects_steps_that_raise_the_value_and_goes_back():
    circuit = quantum.Circuit(1, [gates.ry(gates.param(0), 0)])
    # A step of 40 times the natural gradient jumps over the minimum.
    _, states = run(circuit, {"Z": 1.0}, jnp.array([1.0]), 40, learning_rate=40.0)
    assert int(states.rejected[-1]) > 0
    assert bool(jnp.all(jnp.diff(states.value) <= 0))
    assert float(states.value[-1]) < -0.99
    executions = 1 * (40 - int(states.rejected[-1]))
    assert int(states.executions[-1]) == executions


def test_agents_are_independent():
    starts = jnp.array([[0.5], [1.0], [2.0]])
    circuit = quantum.Circuit(1, [gates.ry(gates.param(0), 0)])
    follow = jax.jit(lambda x: run(circuit, {"Z": 1.0}, x, 5)[0])
    for start, values in zip(starts, jax.vmap(follow)(starts), strict=True):
        np.testing.assert_allclose(follow(start), values, atol=1e-5)


def test_steps_that_are_not_finite_change_nothing():
    tx, params = quantum.quantum_natural_gradient(CIRCUIT), jnp.asarray(PARAMS, jnp.float32)
    grads = jnp.full_like(params, jnp.nan)
    updates, state = tx.update(grads, tx.init(params), params, value=jnp.nan)
    np.testing.assert_array_equal(updates, 0)
    assert int(state.rejected) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: quantum.quantum_natural_gradient(3), TypeError, "circuit must be a"),
        (lambda: quantum.quantum_natural_gradient(CIRCUIT, 0.0), ValueError, "learning_rate must"),
        (lambda: quantum.quantum_natural_gradient(CIRCUIT, form="x"), ValueError, "form must be"),
        (lambda: quantum.quantum_natural_gradient(CIRCUIT, damping=0), ValueError, "damping must"),
        (
            lambda: quantum.quantum_natural_gradient(CIRCUIT).update(
                jnp.ones((2, 3, 2)), None, jnp.ones((2, 3, 2))
            ),
            ValueError,
            "needs value=",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
