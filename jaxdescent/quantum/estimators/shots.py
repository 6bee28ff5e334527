"""Expectation values from a finite number of shots.

    value = sum of c_i (2 k_i / s - 1)          k_i ~ Binomial(s, (1 + <P_i>) / 2)
    Var   = sum of c_i^2 (1 - <P_i>^2) / s

Each word P_i of the observable is measured s times by itself: words that commute are not grouped,
so that their estimates are independent.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.quantum.circuits.circuit import Expectation

LARGEST_COUNT = 2**31 - 1
"""Counts of executions and shots stay there."""


class Measurement(NamedTuple):
    """A value from a finite number of shots.

    Attributes:
      value: f[], the estimate of the expectation value.
      variance: f[], an unbiased estimate of its variance; NaN with one shot per word.
      shots: i32[], number of shots, of all words together, at most 2^31 - 1.
    """

    value: jax.Array
    variance: jax.Array
    shots: jax.Array


def measure(
    expectation: Expectation, params: Any, *args: Any, key: jax.Array, shots: ArrayLike
) -> Measurement:
    """Measures each word of an observable a number of times; one execution of a circuit.

    Args:
      expectation: an expectation value of a circuit.
      params: the parameters, a tree of arrays.
      *args: further arguments of the functions that give angles.
      key: random key.
      shots: number of measurements of each word, a positive integer, which may be traced.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: `shots` is below 1.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> gates = jd.quantum.gates
      >>> circuit = jd.quantum.Circuit(1, [gates.ry(gates.param(0), 0)])
      >>> expectation = circuit.expectation(jd.quantum.pauli_sum({"Z": 1.0}))
      >>> key = jax.random.key(0)
      >>> found = jd.quantum.measure(expectation, jnp.array([0.5]), key=key, shots=10_000)
      >>> abs(float(found.value) - 0.8776) < 0.02, int(found.shots)
      (True, 10000)
    """
    check_expectation("expectation", expectation)
    key = validation.random_key("key", key)
    check_shots(shots)
    return measure_at_angles(expectation, expectation.circuit.angles(params, *args), key, shots)


class SampledExpectation:
    """A function of parameters and a key, whose values are measured. Make it by `sampled`.

    Attributes:
      expectation: the expectation value of a circuit.
      shots: number of measurements of each word.
      shots_per_value: number of measurements of all words.
    """

    def __init__(self, expectation: Expectation, shots: int) -> None:
        """See `sampled`."""
        check_expectation("expectation", expectation)
        check_shots(shots)
        self.expectation, self.shots = expectation, int(shots)
        self.shots_per_value = self.shots * measured_words(expectation)

    def __call__(self, params: Any, *args: Any, key: jax.Array) -> jax.Array:
        """Returns a value, f[]."""
        return measure(self.expectation, params, *args, key=key, shots=self.shots).value


def sampled(expectation: Expectation, shots: int) -> SampledExpectation:
    """Returns a function whose values are measured, for optimizers that use values.

    Args:
      expectation: an expectation value of a circuit.
      shots: number of measurements of each word, at least 1.

    Raises:
      TypeError: `expectation` is not the expectation of a circuit.
      ValueError: `shots` is below 1.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> gates = jd.quantum.gates
      >>> circuit = jd.quantum.Circuit(1, [gates.ry(gates.param(0), 0)])
      >>> expectation = circuit.expectation(jd.quantum.pauli_sum({"Z": 1.0}))
      >>> function = jd.quantum.sampled(expectation, shots=1)
      >>> float(function(jnp.zeros(1), key=jax.random.key(0)))
      1.0
    """
    return SampledExpectation(expectation, shots)


def measured_words(expectation: Expectation) -> int:
    """Returns the number of words that need measurements."""
    observable = expectation.observable
    pairs = zip(observable.words, observable.coefficients, strict=True)
    return sum(1 for letters, coefficient in pairs if letters.strip("I") and coefficient)


def value_of(function: Any, params: Any, key: jax.Array) -> jax.Array:
    """Returns the value of a function, with the key if it measures."""
    if isinstance(function, SampledExpectation):
        return function(params, key=key)
    return function(params)


def shots_per_value(function: Any) -> int:
    """Returns the number of measurements of a value; 0 if it is exact."""
    return function.shots_per_value if isinstance(function, SampledExpectation) else 0


def measure_at_angles(
    expectation: Expectation, angles: jax.Array, key: jax.Array, shots: ArrayLike
) -> Measurement:
    """Measures each word at the angles of the trainable gates, f[gates]."""
    means, _ = expectation.words_at_angles(angles)
    return measure_words(expectation, means, key, shots)


def measure_words(
    expectation: Expectation, means: jax.Array, key: jax.Array, shots: ArrayLike
) -> Measurement:
    """Measures each word, from the exact values of `Expectation.words_at_angles`, f[words]."""
    shots = jnp.asarray(shots)
    count = shots.astype(means.dtype)
    estimates = sample_means(key, means, count)
    weights = jnp.asarray(expectation.word_coefficients, means.dtype)
    variances = (1 - estimates**2) / (count - 1)
    return Measurement(
        jnp.asarray(expectation.identity, means.dtype) + jnp.sum(weights * estimates),
        jnp.sum(weights**2 * variances),
        total_shots(shots, len(weights)),
    )


def total_shots(shots: jax.Array, words: int) -> jax.Array:
    """Returns the shots of all words, i32[], at most 2^31 - 1."""
    limit = LARGEST_COUNT // max(words, 1)
    total = jnp.minimum(shots, limit).astype(jnp.int32) * words
    return jnp.where(shots > limit, LARGEST_COUNT if words else 0, total)


def sample_means(key: jax.Array, means: jax.Array, shots: jax.Array) -> jax.Array:
    """Draws means of `shots` outcomes +1 or -1 with given expectation values."""
    chances = jnp.clip((1 + means) / 2, 0, 1)
    # Draws the rarer outcome, for which float32 is exact enough, and which may be impossible.
    rare = jnp.minimum(chances, 1 - chances)
    found = jax.random.binomial(key, shots, rare, shape=means.shape, dtype=means.dtype)
    fraction = jnp.where(rare > 0, found, 0) / shots
    found = jnp.where(chances > 0.5, 1 - 2 * fraction, 2 * fraction - 1)
    return jnp.where(jnp.isfinite(means), found, jnp.nan)


def check_shots(shots: Any) -> None:
    """Raises ValueError unless shots are a positive integer; a traced one may be below 1."""
    if np.ndim(shots):
        raise ValueError(
            f"shots must be one number, got shape {np.shape(shots)}; map over several by jax.vmap"
        )
    if validation.is_concrete(shots):
        validation.integer_in(
            "shots", shots.item() if hasattr(shots, "item") else shots, 1, LARGEST_COUNT
        )
    elif not jnp.issubdtype(jnp.result_type(shots), jnp.integer):
        raise ValueError(f"shots must be an integer, got {validation.shown(shots)}")


def check_expectation(name: str, value: Any) -> Expectation:
    """Returns the expectation value of a circuit, or raises TypeError."""
    if not isinstance(value, Expectation):
        raise TypeError(
            f"{name} must be the expectation of a circuit, got {validation.shown(value)}; make it "
            "by circuit.expectation(observable)"
        )
    return value
