"""Shift rules give the derivative, and shots the binomial variances."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.quantum.estimators import parameter_shift
from jaxdescent.quantum.estimators.shift_rules import shift_rule

gates, quantum = jd.quantum.gates, jd.quantum
OBSERVABLE = quantum.pauli_sum({"ZZ": 0.5, "XI": 0.8, "YX": -0.3, "II": 2.0})
CIRCUIT = quantum.Circuit(
    2,
    [
        gates.ry(gates.param("a", 0), 0),
        gates.cnot(0, 1),
        gates.crx(gates.param("a", 1), 0, 1),
        gates.rz(0.7 * gates.param("a", 0) + 0.3, 1),  # shared, with another factor
        gates.single_excitation(lambda params: params["b"] ** 2, 0, 1),
        gates.ry(gates.param("b"), 1),
    ],
)
EXPECTATION = CIRCUIT.expectation(OBSERVABLE)
PARAMS = {"a": np.array([0.4, -1.1]), "b": np.array(0.8)}


def params():
    return jax.tree.map(jnp.asarray, PARAMS)


@pytest.mark.parametrize("frequencies", [(1,), (1, 2), (1, 2, 3), (0.5, 1), (1, 2.5), (1, 1.5, 4)])
def test_a_shift_rule_is_exact_for_its_frequencies(frequencies):
    random = np.random.default_rng(0)
    amplitudes, phases = random.normal(size=(2, len(frequencies)))

    def function(x):
        return np.sum(amplitudes * np.sin(np.asarray(frequencies) * x + phases))

    rule = shift_rule(frequencies)
    found = sum(
        weight * (function(0.3 + shift) - function(0.3 - shift))
        for shift, weight in zip(*rule, strict=True)
    )
    expected = np.sum(amplitudes * frequencies * np.cos(np.asarray(frequencies) * 0.3 + phases))
    assert abs(found - expected) <= 1e-12


def test_the_two_term_rule_shifts_by_a_quarter_turn():
    rule = shift_rule((1.0,))
    np.testing.assert_allclose([rule.shifts[0], rule.weights[0]], [np.pi / 2, 0.5], rtol=1e-15)


def test_the_gradient_is_exact_for_shared_scaled_and_composed_angles():
    with jax.enable_x64(True):
        estimator = quantum.parameter_shift(EXPECTATION)
        value, grads = jax.jit(estimator.value_and_grad(EXPECTATION))(params())
        expected = jax.jit(jax.value_and_grad(EXPECTATION))(params())
        for x, y in zip(jax.tree.leaves((value, grads)), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-12)
    # Three rotations have one frequency; the controlled one and the excitation have two.
    assert estimator.evaluations == 1 + 2 * (3 + 2 * 2)
    assert estimator.shots == 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_gradient_by_coordinates_is_exact_where_gates_share_a_parameter(count):
    operations = [gates.h(0), *(gates.rx(gates.param(0), 0), gates.rz(0.4, 0)) * count]
    expectation = quantum.Circuit(1, operations).expectation(quantum.pauli_sum({"Z": 1.0}))
    estimator = quantum.coordinate_shift(1, num_frequencies=count)
    with jax.enable_x64(True):
        x = jnp.array([0.7])
        grads = jax.jit(estimator.value_and_grad(expectation))(x)[1]
        expected = jax.jit(jax.grad(expectation))(x)
        np.testing.assert_allclose(grads, expected, rtol=0, atol=1e-12)
    assert estimator.evaluations == 2 * count + 1


def test_a_qnode_of_pennylane_is_a_function():
    qml = pytest.importorskip("pennylane")
    if jax.__version_info__ >= (0, 11):
        pytest.skip("PennyLane cannot trace functions of this version of JAX")

    @qml.qnode(qml.device("default.qubit", wires=1), interface="jax")
    def node(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=0)
        return qml.expval(qml.PauliZ(0))

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value, grads = quantum.coordinate_shift(2).value_and_grad(node)(jnp.array([0.3, 0.9]))
    expected = [-np.sin(0.3) * np.cos(0.9), -np.cos(0.3) * np.sin(0.9)]
    np.testing.assert_allclose(grads, expected, atol=1e-6)
    np.testing.assert_allclose(value, np.cos(0.3) * np.cos(0.9), atol=1e-6)


DRAWS, SHOTS = 1_000, 20


@pytest.fixture(scope="module")
def draws():
    """Returns 1,000 estimates with shots, and the exact value and gradient."""
    with jax.enable_x64(True):
        estimator = quantum.parameter_shift(EXPECTATION, shots=SHOTS)

        def estimate(key):
            return estimator.estimate(EXPECTATION, params(), key=key)

        found = jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(0), DRAWS))
        return jax.tree.map(np.asarray, (found, jax.value_and_grad(EXPECTATION)(params())))


def test_means_with_shots_are_the_gradient_within_three_standard_errors(draws):
    found, (value, grads) = draws
    samples = [found.value, *jax.tree.leaves(found.grads)]
    for sample, expected in zip(samples, [value, *jax.tree.leaves(grads)], strict=True):
        error = np.std(sample, axis=0) / np.sqrt(DRAWS)
        assert np.all(np.abs(np.mean(sample, axis=0) - expected) <= 3 * error)


def test_variances_with_shots_are_binomial(draws):
    """The variance of a word's mean is (1 - <P>^2) / s; words and ends are independent."""
    found, _ = draws
    coefficients, words = np.array([0.5, 0.8, -0.3]), EXPECTATION.words_at_angles
    with jax.enable_x64(True):
        angles, words_at = CIRCUIT.angles(params()), jax.jit(lambda x: words(x)[0])
        rules = [shift_rule(gate.frequencies) for gate in CIRCUIT.trainable]
        slopes = np.zeros(len(rules))
        for gate, rule in enumerate(rules):
            for shift, weight in zip(*rule, strict=True):
                for end in (shift, -shift):
                    means = words_at(angles.at[gate].add(end))
                    each = np.sum(coefficients**2 * (1 - np.asarray(means) ** 2)) / SHOTS
                    slopes[gate] += weight**2 * each
        jacobian = jax.jacobian(CIRCUIT.angles)(params())
        expected = jax.tree.map(lambda rows: slopes @ np.asarray(rows) ** 2, jacobian)
    for sample, reported, theory in zip(
        *map(jax.tree.leaves, (found.grads, found.variance, expected)), strict=True
    ):
        np.testing.assert_allclose(np.var(sample, axis=0), theory, rtol=0.15)
        np.testing.assert_allclose(np.mean(reported, axis=0), theory, rtol=0.03)


def equations(jaxpr):
    """Yields the names of all equations, and of the equations of inner functions."""
    for each in jaxpr.eqns:
        yield each.primitive.name
        for inner in jax.tree.leaves(each.params, is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner := getattr(inner, "jaxpr", inner), "eqns"):
                yield from equations(inner)


@pytest.mark.parametrize("batch", [2**24, 2**6], ids=["one batch", "batches with a remainder"])
def test_the_program_with_shots_draws_once_however_many_shifts_and_words(batch, monkeypatch):
    """Binomial draws have two loops, and take most of the time to compile."""
    monkeypatch.setattr(parameter_shift, "MAX_NUMBERS", batch)

    def names(layers, words):
        rows = [[gates.crx(gates.param(i), 0, 1), gates.crx(gates.param(i), 1, 2)] for i in layers]
        expectation = quantum.Circuit(3, rows).expectation(quantum.pauli_sum(words, 3))
        estimator = quantum.parameter_shift(expectation, shots=10)
        evaluate = estimator.value_and_grad(expectation)
        x, key = jnp.ones(len(layers)), jax.random.key(0)
        return [*equations(jax.make_jaxpr(evaluate)(x, key=key).jaxpr)]

    few = names(range(2), {"Z0": 1.0})
    many = names(range(20), {f"{a}0 {b}2": 1.0 for a in "XYZ" for b in "XYZ"})
    assert len(few) == len(many) < 900
    # Two forms are traced, of which one is compiled: by points on CPUs, together elsewhere.
    assert many.count("platform_index") == 1
    assert many.count("while") == 2 * 2


def test_executions_and_shots_are_counted():
    estimator = quantum.parameter_shift(EXPECTATION, shots=SHOTS)
    assert estimator.evaluations == 15
    assert estimator.shots == 15 * 3 * SHOTS  # three words; the identity is not measured
    found = quantum.measure(EXPECTATION, params(), key=jax.random.key(0), shots=7)
    assert int(found.shots) == 3 * 7


def test_shots_may_be_traced():
    def value(shots):
        return quantum.measure(EXPECTATION, params(), key=jax.random.key(0), shots=shots)

    few, many = jax.jit(jax.vmap(value))(jnp.array([10, 1_000_000])).variance
    assert few > 1e4 * many


@pytest.mark.parametrize("mean", [-1.0, 1.0])
def test_a_certain_outcome_is_always_measured(mean):
    operations = [gates.x(0)] * (mean < 0) + [gates.rz(gates.param(0), 0)]
    expectation = quantum.Circuit(1, operations).expectation(quantum.pauli_sum({"Z": 1.0}))
    found = quantum.measure(expectation, jnp.ones(1), key=jax.random.key(0), shots=50)
    assert (float(found.value), float(found.variance)) == (mean, 0)


def controlled():
    circuit = quantum.Circuit(2, [gates.crx(gates.param(0), 0, 1)])
    return circuit.expectation(quantum.pauli_sum({"ZZ": 1.0}))


def test_parameters_that_are_not_finite_measure_nan():
    broken = jax.tree.map(lambda x: x * jnp.nan, params())
    found = quantum.measure(EXPECTATION, broken, key=jax.random.key(0), shots=10)
    assert bool(jnp.isnan(found.value))


@pytest.mark.parametrize("shots", [0, jnp.array([10, 20])])
def test_shots_of_a_call_are_checked(shots):
    estimator = quantum.parameter_shift(EXPECTATION, shots=10)
    with pytest.raises(ValueError, match="shots must be"):
        estimator.estimate(EXPECTATION, params(), key=jax.random.key(0), shots=shots)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: quantum.parameter_shift(controlled(), rule="two-term"),
            ValueError,
            r"crx on \(0, 1\), whose generator has more than two eigenvalues",
        ),
        (
            lambda: quantum.coordinate_shift(1).value_and_grad(controlled())(jnp.ones(1)),
            ValueError,
            "num_frequencies must be large enough for parameter params",
        ),
        (lambda: quantum.parameter_shift(EXPECTATION, shots=0), ValueError, "shots must be an int"),
        (lambda: quantum.parameter_shift(jnp.sum), TypeError, "expectation must be the expect"),
        (lambda: quantum.parameter_shift(EXPECTATION, rule="3"), ValueError, "rule must be"),
        (
            lambda: quantum.measure(EXPECTATION, params(), key=jax.random.key(0), shots=0),
            ValueError,
            r"shots must be an integer in \[1, 2147483647\]",
        ),
        (lambda: quantum.sampled(EXPECTATION, -1), ValueError, "shots must be an integer"),
        (lambda: quantum.coordinate_shift(0), ValueError, "num_params must be"),
        (
            lambda: quantum.coordinate_shift(3).value_and_grad(jnp.sum)(jnp.ones(2)),
            ValueError,
            "params must hold num_params = 3 numbers, got 2",
        ),
        (
            lambda: quantum.parameter_shift(EXPECTATION).value_and_grad(jnp.sum)(jnp.ones(2)),
            ValueError,
            "use coordinate_shift",
        ),
        (
            lambda: quantum.parameter_shift(EXPECTATION, shots=5).value_and_grad(EXPECTATION)(
                params()
            ),
            TypeError,
            "key must be one random key",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_agents_descend_with_exact_shifts_as_with_gradients():
    energy = quantum.Circuit(1, [gates.ry(gates.param(0), 0)]).expectation(
        quantum.pauli_sum({"Z": 1.0})
    )
    found = [
        jd.minimize(
            energy,
            optax.sgd(0.3),
            init_params=jnp.array([[0.3], [1.0]]),
            steps=20,
            key=jax.random.key(0),
            estimator=estimator,
            prune=False,
        )
        for estimator in (quantum.parameter_shift(energy), jd.estimators.exact())
    ]
    np.testing.assert_allclose(found[0].params, found[1].params, rtol=1e-4)
    assert float(found[0].value) < -0.99
