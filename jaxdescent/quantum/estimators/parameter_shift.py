"""The parameter-shift rule: derivatives of circuits from values at shifted angles.

    df/da_g = sum over k of y_k (f(a + s_k e_g) - f(a - s_k e_g))          see `shift_rules`

`parameter_shift` shifts the angle a_g of each gate, and multiplies by the derivatives of the
angles: parameters may be shared by gates, scaled, or pass through any function.
`coordinate_shift` shifts the parameters of any function.

Sources: K. Mitarai, M. Negoro, M. Kitagawa, K. Fujii 2018, arXiv:1803.00745; D. Wierichs et al.
2022, arXiv:2107.12390.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.estimators.estimator import Estimate, Estimator
from jaxdescent.quantum.circuits.circuit import Expectation
from jaxdescent.quantum.estimators.shift_rules import shift_rule
from jaxdescent.quantum.estimators.shots import (
    Measurement,
    SampledExpectation,
    check_expectation,
    check_shots,
    measure_words,
    measured_words,
)

MAX_NUMBERS = 2**24
"""Numbers of the state vectors that are simulated together."""


def parameter_shift(
    expectation: Expectation,
    *,
    shots: int | None = None,
    rule: Literal["general", "two-term"] = "general",
) -> Estimator:
    """Estimates the gradient of a circuit from values at shifted angles, with or without shots.

    Without shots, the estimate is the gradient, up to rounding. With shots, the value and the
    gradient are unbiased.

    Args:
      expectation: the expectation value of a circuit.
      shots: number of measurements of each word of the observable in each execution, at least 1,
        or None for exact values. Words that commute are not grouped. It can also be given to each
        call, as an array.
      rule: "two-term" refuses gates that need more than two values per angle, such as controlled
        rotations and excitations.

    Returns:
      An `Estimator`, whose `evaluations` are the executions of the circuit: one for the value, and
      two per frequency of each gate with parameters. Its `shots` are the sum over all executions.
      Its function must be `expectation`.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: `shots` is below 1, or a gate does not fit the two-term rule.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> gates = jd.quantum.gates
      >>> circuit = jd.quantum.Circuit(1, [gates.rx(gates.param(0), 0)])
      >>> expectation = circuit.expectation(jd.quantum.pauli_sum({"Z": 1.0}))
      >>> estimator = jd.quantum.parameter_shift(expectation)
      >>> value, grads = estimator.value_and_grad(expectation)(jnp.array([0.5]))
      >>> round(float(grads[0]), 4), estimator.evaluations  # -sin(0.5)
      (-0.4794, 3)
    """
    check_expectation("expectation", expectation)
    if rule not in ("general", "two-term"):
        raise ValueError(f"rule must be 'general' or 'two-term', got {validation.shown(rule)}")
    if shots is not None:
        check_shots(shots)
    circuit, default = expectation.circuit, shots
    rules = []
    for gate in circuit.trainable:
        if rule == "two-term" and len(gate.frequencies) > 1:
            raise ValueError(
                f"rule must be 'general', got 'two-term' for {gate.name} on {gate.wires}, whose "
                f"generator has more than two eigenvalues, with differences {gate.frequencies}"
            )
        rules.append(shift_rule(gate.frequencies))
    owners = np.repeat(np.arange(len(rules)), [len(each.shifts) for each in rules])
    shifts = np.concatenate([each.shifts for each in rules])
    weights = np.concatenate([each.weights for each in rules])
    executions = 1 + 2 * len(shifts)
    words = measured_words(expectation)

    def estimate(
        function: Any,
        params: Any,
        *args: Any,
        key: Any = None,
        shots: ArrayLike | None = None,
        scale: Any = None,
        has_aux: bool = False,
    ) -> Estimate:
        del scale
        if function is not expectation or has_aux:
            raise ValueError(
                "function must be the expectation that parameter_shift was made for, without aux, "
                f"got {validation.shown(function)}; for other functions use coordinate_shift"
            )
        angles, pull_back = jax.vjp(lambda x: circuit.angles(x, *args), params)
        moves = np.zeros((len(shifts), len(rules)))
        moves[np.arange(len(shifts)), owners] = shifts
        moves = jnp.asarray(np.concatenate([np.zeros((1, len(rules))), moves, -moves]))
        points = angles + moves.astype(angles.dtype)
        if shots is not None:
            check_shots(shots)
        shots = default if shots is None else shots
        found = _values(expectation, points, key, shots)
        count = len(shifts)
        differences = found.value[1 : count + 1] - found.value[count + 1 :]
        spreads = found.variance[1 : count + 1] + found.variance[count + 1 :]
        slopes = _sums(jnp.asarray(weights, angles.dtype) * differences, owners, len(rules))
        (grads,) = pull_back(slopes)
        spread = _sums(jnp.asarray(weights**2, angles.dtype) * spreads, owners, len(rules))
        variance = jax.tree.map(jnp.zeros_like, grads)
        if shots is not None:
            jacobian = jax.jacobian(lambda x: circuit.angles(x, *args))(params)
            variance = jax.tree.map(
                lambda rows, x: jnp.tensordot(spread, rows.astype(spread.dtype) ** 2, 1).astype(
                    x.dtype
                ),
                jacobian,
                grads,
            )
        nonfinite = jnp.sum(~jnp.isfinite(found.value), dtype=jnp.int32)
        return Estimate(found.value[0], grads, variance, nonfinite)

    hyperparams = () if default is None else ("shots",)
    return Estimator(
        estimate, executions, hyperparams=hyperparams, shots=(default or 0) * words * executions
    )


def _values(expectation: Expectation, points: jax.Array, key: Any, shots: Any) -> Measurement:
    """Returns the values at angles, f[points, gates], in batches that fit in memory."""
    size = 2 << expectation.circuit.num_qubits
    batch = max(1, min(len(points), MAX_NUMBERS // size))
    if shots is None:
        values = jax.lax.map(expectation.at_angles, points, batch_size=batch)
        return Measurement(values, jnp.zeros_like(values), jnp.zeros((), jnp.int32))
    keys = jax.random.split(validation.random_key("key", key), len(points))
    # Outside of the batches, because draws take most of the time to compile.
    means = jax.lax.map(lambda each: expectation.words_at_angles(each)[0], points, batch_size=batch)

    def at(row: tuple[jax.Array, jax.Array]) -> Measurement:
        means, key = row
        return measure_words(expectation, means, key, shots)

    # One point at a time compiles and runs faster on CPUs; other devices need long rows.
    return jax.lax.platform_dependent(
        (means, keys), cpu=lambda rows: jax.lax.map(at, rows), default=jax.vmap(at)
    )


def _sums(values: jax.Array, owners: np.ndarray, count: int) -> jax.Array:
    return jax.ops.segment_sum(values, jnp.asarray(owners, jnp.int32), count)


def coordinate_shift(num_params: int, *, num_frequencies: int = 1, unit: float = 1.0) -> Estimator:
    """Estimates the gradient of any function that is a trigonometric polynomial of each parameter.

    An example is a QNode of PennyLane whose parameters are angles of gates. The estimate is the
    gradient, up to rounding, if the frequencies of each parameter are among `unit`, ...,
    `num_frequencies * unit`.

    Args:
      num_params: number of parameters, of all leaves together.
      num_frequencies: R, at least 1. A parameter of r gates with the frequency 1 has R = r.
      unit: the lowest frequency, a number in (0, inf): 1 for rotations; 1/2, with R = 2, for
        controlled rotations and excitations.

    Returns:
      An `Estimator` that spends `2 * num_frequencies * num_params + 1` evaluations.

    Raises:
      TypeError: `unit` is not a number.
      ValueError: an argument is out of its range; in a call, the function is an expectation value
        with other frequencies, or the number of parameters differs.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> estimator = jd.quantum.coordinate_shift(2)
      >>> _, grads = estimator.value_and_grad(lambda x: jnp.sum(jnp.sin(x)))(jnp.array([0.0, 1.0]))
      >>> grads.round(4).tolist() == jnp.cos(jnp.array([0.0, 1.0])).round(4).tolist()
      True
    """
    validation.integer_in("num_params", num_params, 1)
    validation.integer_in("num_frequencies", num_frequencies, 1)
    unit = float(validation.positive_number("unit", unit))
    rule = shift_rule([unit * each for each in range(1, num_frequencies + 1)])

    def estimate(
        function: Any,
        params: Any,
        *args: Any,
        key: Any = None,
        scale: Any = None,
        has_aux: bool = False,
    ) -> Estimate:
        del key, scale
        validation.check_floating("params", params)
        flat, unravel = ravel_pytree(params)
        if flat.size != num_params:
            raise ValueError(f"params must hold num_params = {num_params} numbers, got {flat.size}")
        if isinstance(function, Expectation):
            check_frequencies(function, params, num_frequencies, unit)
        if isinstance(function, SampledExpectation):
            raise TypeError(
                "function must be exact, got a sampled expectation value; estimate with shots by "
                "jd.quantum.parameter_shift(expectation, shots=...)"
            )
        with validation.tracing("function"):
            value = function(params, *args)
        value, aux = value if has_aux else (value, None)
        validation.check_scalar("function", value)

        def value_at(x: jax.Array) -> jax.Array:
            found = function(unravel(x), *args)
            return found[0] if has_aux else found

        moves = jnp.asarray(rule.shifts, flat.dtype)[:, None, None] * jnp.eye(flat.size)
        moves = moves.reshape(-1, flat.size).astype(flat.dtype)
        values = jax.vmap(value_at)(jnp.concatenate([flat + moves, flat - moves]))
        ahead, behind = values.reshape(2, len(rule.shifts), flat.size)
        slopes = jnp.tensordot(jnp.asarray(rule.weights, values.dtype), ahead - behind, 1)
        grads = unravel(slopes.astype(flat.dtype))
        nonfinite = jnp.sum(~jnp.isfinite(values), dtype=jnp.int32)
        return Estimate(value, grads, jax.tree.map(jnp.zeros_like, grads), nonfinite, aux)

    return Estimator(estimate, 2 * num_frequencies * num_params + 1)


def check_frequencies(
    expectation: Expectation, params: Any, num_frequencies: int, unit: float
) -> None:
    """Raises ValueError unless each parameter of a circuit has frequencies k * unit, k <= R.

    Gates whose angle is a function of the parameters are refused: their frequencies are not known.
    """
    for entry, found in expectation.circuit.frequencies(params).items():
        if not found:
            continue
        multiples = np.asarray(found) / unit
        fits = np.allclose(multiples, np.round(multiples)) and multiples[-1] < num_frequencies + 0.5
        if not fits:
            raise ValueError(
                f"num_frequencies must be large enough for parameter {entry}, which has the "
                f"frequencies {found}, got {num_frequencies} with unit {unit:g}; a generator with "
                "more than two eigenvalues, or a parameter of several gates, needs more than the "
                "two-term rule"
            )
