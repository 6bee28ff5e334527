"""Values, gradients and states are PennyLane's, under all transformations of JAX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from jaxdescent.quantum.circuits import pauli, statevector
from tests.quantum.circuits.random_circuits import (
    QUBITS,
    TERMS,
    draw,
    peer_observable,
    peer_operations,
)

gates = jd.quantum.gates
OBSERVABLE = jd.quantum.pauli_sum(TERMS)


@functools.cache
def circuit_of(seed):
    return jd.quantum.Circuit(QUBITS, draw(seed).operations)


def padded(moves, length, width):
    """Pads moves, so that one compiled program runs all circuits."""
    rows = length - len(moves.x)
    words = [(0, width - n) for n in moves.z.shape[1:]]
    widths = [(0, rows), *words]
    return statevector.Moves(
        np.pad(moves.x, (0, rows)), np.pad(moves.z, widths), np.pad(moves.sign, widths)
    )


def test_values_and_gradients_of_200_circuits_are_those_in_pennylane():
    qml = pytest.importorskip("pennylane")
    from pennylane.devices import qubit

    length, seeds = 64, range(200)
    rows, angles, expected = [], [], []
    for seed in seeds:
        drawn, circuit = draw(seed), circuit_of(seed)
        rows.append(
            (
                padded(circuit.moves, length, 1),
                padded(circuit.expectation(OBSERVABLE).terms, len(TERMS), len(TERMS)),
            )
        )
        each = circuit.rotation_angles
        fitted = each.factor * drawn.params[each.gate] + each.fixed
        angles.append(np.pad(fitted, (0, length - len(fitted))))
        measured = [qml.expval(peer_observable(qml))]
        tape = qml.tape.QuantumScript(
            peer_operations(qml, drawn), measured, trainable_params=range(7)
        )
        expected.append((qubit.simulate(tape), qubit.adjoint_jacobian(tape)))
    with jax.enable_x64(True):

        def evaluate(moves, terms, angles):
            both = statevector.value_and_grad(QUBITS, moves, terms)
            return jax.tree.map(lambda x: x[0], both(angles[None]))

        stacked = jax.tree.map(lambda *x: jnp.stack(x), *rows)
        values, slopes = jax.jit(jax.vmap(evaluate))(*stacked, jnp.asarray(angles))
    for seed, value, slope, (peer, peer_grads) in zip(seeds, values, slopes, expected, strict=True):
        each, grads = circuit_of(seed).rotation_angles, np.zeros(7)
        np.add.at(grads, each.gate, each.factor * np.asarray(slope)[: len(each.gate)])
        np.testing.assert_allclose(value, peer, rtol=0, atol=1e-10)
        np.testing.assert_allclose(grads, peer_grads, rtol=0, atol=1e-10)


@functools.cache
def programs(seed):
    """Returns compiled functions of the expectation value: its gradient, and by its state."""
    circuit = circuit_of(seed)
    expectation = circuit.expectation(OBSERVABLE)
    matrix = pauli.sparse_matrix(OBSERVABLE).toarray()

    def by_state(params):
        state = circuit.state(params)
        return jnp.real(jnp.vdot(state, matrix @ state))

    return jax.jit(jax.value_and_grad(expectation)), jax.jit(jax.value_and_grad(by_state))


def test_the_adjoint_gradient_is_the_derivative_of_the_simulated_state():
    with jax.enable_x64(True):
        params = jnp.asarray(draw(3).params)
        (value, grads), (expected, slopes) = (program(params) for program in programs(3))
        np.testing.assert_allclose(value, expected, atol=1e-12)
        np.testing.assert_allclose(grads, slopes, atol=1e-12)


def test_states_are_those_in_pennylane_up_to_a_phase():
    qml = pytest.importorskip("pennylane")
    drawn = draw(5)
    tape = qml.tape.QuantumScript(peer_operations(qml, drawn), [qml.state()])
    from pennylane.devices import qubit

    expected = np.ravel(qubit.simulate(tape))
    with jax.enable_x64(True):
        state = np.asarray(circuit_of(5).state(jnp.asarray(drawn.params)))
    assert {*tape.wires} == {*range(QUBITS)}
    np.testing.assert_allclose(abs(np.vdot(expected, state)), 1, atol=1e-12)


def test_vmap_over_agents_and_over_two_axes_equals_a_loop():
    program = jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(circuit_of(3).expectation(OBSERVABLE)))))
    agents = jax.random.normal(jax.random.key(0), (2, 3, 7))
    values, grads = program(agents)
    for i, j in np.ndindex(2, 3):
        value, slopes = programs(3)[0](agents[i, j])
        np.testing.assert_allclose(values[i, j], value, atol=2e-6)
        np.testing.assert_allclose(grads[i, j], slopes, atol=2e-6)


def test_hessians_are_the_derivatives_of_gradients():
    with jax.enable_x64(True):
        params, step = jnp.asarray(draw(3).params), 1e-5
        hessian = jax.jit(jax.hessian(circuit_of(3).expectation(OBSERVABLE)))(params)
        gradient = programs(3)[0]
        ends = [gradient(params.at[0].add(sign * step))[1] for sign in (1, -1)]
        np.testing.assert_allclose(hessian[0], (ends[0] - ends[1]) / (2 * step), atol=1e-8)
        np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)


def test_both_modes_of_derivatives_can_be_nested():
    with jax.enable_x64(True):
        params, function = jnp.asarray(draw(3).params), circuit_of(3).expectation(OBSERVABLE)
        hessian = jax.jit(jax.hessian(function))(params)
        reverse = jax.jit(jax.jacrev(jax.grad(function)))(params)
        np.testing.assert_allclose(reverse, hessian, atol=1e-12)
        slope = jax.jit(lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),))[1])(params)
        np.testing.assert_allclose(slope, programs(3)[0](params)[1].sum(), atol=1e-12)


def test_angles_may_be_entries_of_a_tree_multiples_and_functions_of_data():
    operations = [
        gates.ry(2.0 * gates.param("layers", 1, 0) + 0.1, 0),
        gates.rz(-gates.param("bias"), 0),
        gates.rx(lambda params, x: params["layers"][0] @ x, 0),
        gates.rx(0.3, 0),
    ]
    circuit = jd.quantum.Circuit(1, operations)
    params = {"layers": jnp.array([[0.1, 0.2], [0.3, 0.4]]), "bias": jnp.array(0.5)}
    x = jnp.array([1.0, -2.0])
    np.testing.assert_allclose(circuit.angles(params, x), [0.7, -0.5, -0.3], rtol=1e-6)
    expectation = circuit.expectation(jd.quantum.pauli_sum({"Z": 1.0}))
    # The last two rotations cancel. What remains of Z after a rotation around Y is its cosine.
    grads = jax.jit(jax.grad(expectation))(params, x)
    np.testing.assert_allclose(expectation(params, x), np.cos(0.7), rtol=1e-6)
    np.testing.assert_allclose(grads["layers"][1], [-2 * np.sin(0.7), 0], atol=1e-6)


def test_the_memory_of_a_gradient_does_not_grow_with_the_circuit():
    qubits, sizes = 10, []
    for layers in (2, 20):
        operations = [
            [gates.ry(gates.param(layer, wire), wire), gates.cnot(wire, (wire + 1) % qubits)]
            for layer in range(layers)
            for wire in range(qubits)
        ]
        circuit = jd.quantum.Circuit(qubits, operations)
        expectation = circuit.expectation(jd.quantum.pauli_sum({"Z0": 1.0, "X0 X5": 0.5}, qubits))
        lowered = jax.jit(jax.value_and_grad(expectation)).lower(jnp.zeros((layers, qubits)))
        sizes.append(lowered.compile().memory_analysis().temp_size_in_bytes)
    state, rotation = 8 * 2**qubits, 40  # bytes; the angles of a rotation
    assert sizes[0] < 6 * state
    assert sizes[1] - sizes[0] <= rotation * qubits * (20 - 2)


def test_a_circuit_of_many_clifford_gates_has_only_its_rotations():
    operations = [[gates.h(0), gates.cnot(0, 1), gates.s(1)] for _ in range(50)]
    circuit = jd.quantum.Circuit(2, [*operations, gates.rx(gates.param(0), 0)])
    assert len(circuit.words) == 1


def test_the_matrix_of_a_sum_is_the_sum_of_products():
    x, y, z = np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])
    found = pauli.sparse_matrix(jd.quantum.pauli_sum({"XY": 0.5, "Z1": 2.0, "": 1.0}, 2))
    expected = 0.5 * np.kron(x, y) + 2 * np.kron(np.eye(2), z) + np.eye(4)
    np.testing.assert_allclose(found.toarray(), expected)
