"""Wrong circuits and observables are refused, with a message that says what to do."""

import jax
import jax.numpy as jnp
import pytest

import jaxdescent as jd

gates, quantum = jd.quantum.gates, jd.quantum
RX = gates.rx(gates.param(0), 0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: quantum.Circuit(2, [gates.h(0)]), ValueError, "at least one angle that depends"),
        (lambda: quantum.Circuit(2, [gates.rx(0.5, 0)]), ValueError, "use gates.param"),
        (lambda: quantum.Circuit(2, ["rx"]), TypeError, "operations must be gates"),
        (lambda: quantum.Circuit(1, [RX, gates.cnot(0, 1)]), ValueError, "wires must be below"),
        (lambda: quantum.Circuit(0, [RX]), ValueError, "num_qubits must be an integer in"),
        (lambda: gates.cnot(1, 1), ValueError, "wires of cnot must be different"),
        (lambda: gates.rx([1.0, 2.0], 0), ValueError, "angle of rx must be one number"),
        (lambda: gates.rx("a", 0), TypeError, "angle must be a real number"),
        (lambda: gates.pauli_rotation("II", 0.1, (0, 1)), ValueError, "at least one of them not I"),
        (lambda: gates.pauli_rotation("XY", 0.1, (0,)), ValueError, "for each of 1 wires"),
        (lambda: quantum.pauli_sum({"XY": 1j}), ValueError, "not Hermitian"),
        (lambda: quantum.pauli_sum({"XY": float("nan")}), ValueError, "real, finite"),
        (lambda: quantum.pauli_sum({"XQ": 1.0}), ValueError, "words of 2 letters"),
        (lambda: quantum.pauli_sum({"X0 Y0": 1.0}, 2), ValueError, "different qubits"),
        (lambda: quantum.pauli_sum({"XY": 1.0, "X": 1.0}), ValueError, "words of 2 letters"),
        (lambda: quantum.pauli_sum({"X0 Z2": 1.0}), ValueError, "num_qubits must be given"),
        (lambda: quantum.pauli_sum({"Z": [1, 2]}), TypeError, "numbers as coefficients"),
        (lambda: quantum.pauli_sum({"Z": "a"}), TypeError, "numbers as coefficients"),
        (lambda: quantum.Circuit(1, 5), TypeError, "operations must be a sequence"),
        (lambda: quantum.Circuit(1, RX), TypeError, "operations must be a sequence"),
        (lambda: gates.pauli_rotation("X", 0.1, 0), TypeError, "wires must be a tuple"),
        (lambda: gates.param(0) * gates.param(1), TypeError, "takes constant numbers"),
        (lambda: gates.param(0) * float("nan"), ValueError, "must be finite"),
        (lambda: quantum.excitation_circuit("h2"), TypeError, "molecule must be a"),
        (lambda: quantum.pauli_sum({}), ValueError, "at least one entry"),
        (lambda: quantum.Circuit(1, [RX]).expectation("Z"), TypeError, "must be a pauli_sum"),
        (
            lambda: quantum.Circuit(1, [RX]).expectation(quantum.pauli_sum({"ZZ": 1.0})),
            ValueError,
            "observable must have the circuit's 1 qubits, got 2",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("angle", "params", "error", "message"),
    [
        (gates.param(3), jnp.ones(2), ValueError, r"the entry \(3,\) of rx"),
        (gates.param("w"), jnp.ones(2), ValueError, "the entry"),
        (gates.param(0), jnp.ones((2, 2)), ValueError, "one number at"),
        (gates.param("w"), {"w": jnp.ones(2)}, ValueError, "add indices"),
        (gates.param(0), jnp.arange(2), ValueError, "floating-point"),
        (lambda params: params, jnp.ones(2), ValueError, "must return a real scalar"),
        (lambda params: float(params[0]), jnp.ones(2), TypeError, "jax.numpy"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(angle, params, error, message):
    circuit = quantum.Circuit(1, [gates.rx(angle, 0)])
    with pytest.raises(error, match=message):
        jax.eval_shape(circuit.angles, params)


def test_constants_can_be_added_to_parameters_and_divide_them():
    import numpy as np

    angle = 1.0 - np.float64(2.0) * (0.5 + gates.param(0)) / 4 - 0.25
    assert angle == gates.param(0) * -0.5 + 0.5


TWO = quantum.Circuit(2, [gates.ry(gates.param(0), 0), gates.ry(gates.param(1), 1)])
ENERGY = TWO.expectation(quantum.pauli_sum({"ZZ": 1.0}))
START, KEY = jnp.ones(2), jax.random.key(0)
OPTIMIZERS = {
    "rotosolve": quantum.rotosolve(ENERGY),
    "spsa": quantum.spsa(ENERGY, 10),
    "qn_spsa": quantum.qn_spsa(ENERGY),
    "icans": quantum.icans(ENERGY, 0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_refuses_wrong_keys_states_and_sizes(name):
    optimizer = OPTIMIZERS[name]
    state = optimizer.init(START, KEY)
    with pytest.raises(TypeError, match=r"key must be one random key, .*, got 3"):
        optimizer.step(START, state, 3)
    with pytest.raises(TypeError, match="key must be one random key"):
        optimizer.step(START, state, jax.random.split(KEY))
    with pytest.raises(TypeError, match=r"state must be the \w+State that init.*, got None"):
        optimizer.step(START, None, KEY)
    if name != "spsa":  # its state has no size
        with pytest.raises(ValueError, match=r"params must hold 2 numbers, .* got 3"):
            optimizer.step(jnp.ones(3), state, KEY)


def test_rotoselect_refuses_other_rows_than_at_the_start():
    optimizer = quantum.rotoselect(jnp.sum)
    with pytest.raises(ValueError, match=r"params must hold 6 numbers, .* got 9"):
        optimizer.step(jnp.ones((3, 3)), optimizer.init(jnp.ones((2, 3)), KEY), KEY)


def test_an_overlap_must_be_a_function_that_returns_a_number():
    with pytest.raises(TypeError, match="overlap must be a function of two trees"):
        quantum.qn_spsa(ENERGY, overlap=3)
    optimizer = quantum.qn_spsa(ENERGY, overlap=lambda params, other: params * other)
    with pytest.raises(ValueError, match="overlap must return a real scalar"):
        optimizer.step(START, optimizer.init(START, KEY), KEY)


def test_the_natural_gradient_refuses_wrong_states_and_sizes():
    tx = quantum.quantum_natural_gradient(TWO)
    state = tx.init(START)
    with pytest.raises(TypeError, match="state must be the NaturalGradientState"):
        tx.update(START, None, START, value=1.0)
    with pytest.raises(
        ValueError, match=r"params must hold 2 numbers, as in init\(params\), got 3"
    ):
        tx.update(START, state, jnp.ones(3), value=1.0)
    with pytest.raises(ValueError, match=r"grads must hold 2 numbers, as in init\(params\), got 3"):
        tx.update(jnp.ones(3), state, START, value=1.0)


def test_shots_beyond_32_bits_are_refused():
    with pytest.raises(
        ValueError, match=r"shots must be an integer in \[1, 2147483647\], got 1000"
    ):
        quantum.parameter_shift(ENERGY, shots=10**12)
