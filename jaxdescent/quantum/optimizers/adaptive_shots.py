"""Adaptive shots: gradients from as many measurements as the gain of the next step justifies.

    g_l, S_l      derivative and variance of one shot, from s_l shots at each end of the shift
    chi, xi       their exponential means, corrected for their start
    iCANS1        s_l = 2 L eta / (2 - L eta) xi_l / (chi_l^2 + b mu^k), at most the number of shots
                  of the parameter with the largest expected gain per shot,
                  [(eta - L eta^2 / 2) chi_l^2 - L eta^2 xi_l / (2 s_l)] / s_l
    gCANS         s_l = 2 L eta / (2 - L eta) sqrt(xi_l) sum_k sqrt(xi_k) / (|chi|^2 + b mu^k)
    x <- x - eta g

L = sum |c_i| bounds the derivatives of the gradient. A shot measures one word, word i with the
chance |c_i| / L, and yields L times the sign of c_i times the outcome, so that its mean is the
value. These are random outcomes of +L and -L.

All parameters are shifted by pi / 2: their frequency must be 1.

Sources: J. M. Kuebler, A. Arrasmith, L. Cincio, P. J. Coles 2020, arXiv:1909.09083; A. Gu, A. Lowe,
P. A. Dub, P. J. Coles, A. Arrasmith 2021, arXiv:2108.10434; A. Arrasmith, L. Cincio, R. D. Somma,
P. J. Coles 2020, arXiv:2004.06252, for the random choice of words.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.quantum.circuits.circuit import Expectation
from jaxdescent.quantum.estimators.parameter_shift import check_frequencies
from jaxdescent.quantum.estimators.shots import LARGEST_COUNT, check_expectation, sample_means
from jaxdescent.quantum.optimizers.circuit_optimizer import (
    CircuitOptimizer,
    added,
    check_size,
    circuit_optimizer,
    flat_function,
    no_count,
)


class AdaptiveShotsState(NamedTuple):
    """State of `icans` and `gcans`.

    Attributes:
      next_shots: i32[n], number of shots of each end of each parameter in the next step.
      mean_grads: f[n], chi, not corrected.
      mean_variances: f[n], xi, not corrected.
      steps: i32[], number of steps until now.
      executions: i32[], number of executions of circuits until now, 2 n a step.
      shots: i32[], number of measurements until now, 2 sum(next_shots) a step.
    """

    next_shots: jax.Array
    mean_grads: jax.Array
    mean_variances: jax.Array
    steps: jax.Array
    executions: jax.Array
    shots: jax.Array


class Averages(NamedTuple):
    """The corrected averages from which shots are chosen.

    Attributes:
      grads: f[n], chi.
      variances: f[n], xi.
      floor: f[], b mu^k.
      rate: f[], eta.
      smoothness: f[], L.
    """

    grads: jax.Array
    variances: jax.Array
    floor: jax.Array
    rate: jax.Array
    smoothness: jax.Array

    @property
    def factor(self) -> jax.Array:
        """2 L eta / (2 - L eta)."""
        return 2 * self.smoothness * self.rate / (2 - self.smoothness * self.rate)


def icans(
    expectation: Expectation,
    learning_rate: ArrayLike,
    *,
    min_shots: int = 2,
    max_shots: int = 100_000,
    decay: ArrayLike = 0.99,
    floor: ArrayLike = 1e-6,
) -> CircuitOptimizer:
    """Descends with iCANS1: each parameter has the number of shots that its gain justifies.

    Args:
      expectation: the expectation value of a circuit whose parameters have the frequency 1.
      learning_rate: eta, a number in (0, 2 / L), with L = `expectation.observable.norm` without the
        identity.
      min_shots: least number of shots of an end of a shift, at least 2.
      max_shots: largest number, at least `min_shots`, at most 10,000,000.
      decay: mu, a number in [0, 1).
      floor: b, a number in (0, inf).

    Returns:
      A `CircuitOptimizer`. A step takes 2 n executions.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: an argument is out of its range; in `init`, a parameter has other frequencies.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> gates = jd.quantum.gates
      >>> circuit = jd.quantum.Circuit(1, [gates.ry(gates.param(0), 0)])
      >>> expectation = circuit.expectation(jd.quantum.pauli_sum({"Z": 1.0}))
      >>> optimizer, key = jd.quantum.icans(expectation, 0.2), jax.random.key(0)
      >>> params = jnp.array([1.0])
      >>> state = optimizer.init(params, key)
      >>> for key in jax.random.split(key, 60):
      ...     params, state = jax.jit(optimizer.step)(params, state, key)
      >>> bool(expectation(params) < -0.9), int(state.executions)
      (True, 120)
    """
    return _adaptive(_icans_shots, expectation, learning_rate, min_shots, max_shots, decay, floor)


def gcans(
    expectation: Expectation,
    learning_rate: ArrayLike,
    *,
    min_shots: int = 2,
    max_shots: int = 100_000,
    decay: ArrayLike = 0.99,
    floor: ArrayLike = 1e-6,
) -> CircuitOptimizer:
    """Descends with gCANS: shots are shared among parameters for the largest gain of all together.

    The arguments, the result and the errors are the same as in `icans`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> gates = jd.quantum.gates
      >>> circuit = jd.quantum.Circuit(1, [gates.ry(gates.param(0), 0)])
      >>> expectation = circuit.expectation(jd.quantum.pauli_sum({"Z": 1.0}))
      >>> optimizer, params = jd.quantum.gcans(expectation, 0.2), jnp.array([1.0])
      >>> optimizer.init(params, jax.random.key(0)).next_shots.tolist()
      [2]
    """
    return _adaptive(_gcans_shots, expectation, learning_rate, min_shots, max_shots, decay, floor)


def _icans_shots(means: Averages) -> jax.Array:
    """Returns the shots of iCANS1 before they are rounded and clipped, f[n]."""
    wanted = means.factor * means.variances / (means.grads**2 + means.floor)
    shots = jnp.maximum(jnp.ceil(wanted), 1)
    eta, smooth = means.rate, means.smoothness
    gains = (eta - smooth * eta**2 / 2) * means.grads**2
    gains = (gains - smooth * eta**2 * means.variances / (2 * shots)) / shots
    return jnp.minimum(shots, shots[jnp.argmax(gains)])


def _gcans_shots(means: Averages) -> jax.Array:
    """Returns the shots of gCANS before they are rounded and clipped, f[n]."""
    spreads = jnp.sqrt(means.variances)
    return means.factor * spreads * jnp.sum(spreads) / (jnp.sum(means.grads**2) + means.floor)


def _total(shots: jax.Array) -> jax.Array:
    """Returns the sum of counts, i32[], at most 2^31 - 1."""
    fits = jnp.sum(shots.astype(jnp.float32)) < LARGEST_COUNT
    return jnp.where(fits, jnp.sum(shots), LARGEST_COUNT)


def _adaptive(
    choose: Callable[[Averages], jax.Array],
    expectation: Expectation,
    learning_rate: ArrayLike,
    min_shots: int,
    max_shots: int,
    decay: ArrayLike,
    floor: ArrayLike,
) -> CircuitOptimizer:
    check_expectation("expectation", expectation)
    smoothness = expectation.observable.norm - abs(expectation.identity)
    if not smoothness:
        raise ValueError("observable must have a word that is not the identity, got the identity")
    rate = validation.positive_number("learning_rate", learning_rate)
    if validation.is_concrete(learning_rate):
        hint = "2 divided by the sum of the absolute coefficients of the observable"
        validation.open_interval("learning_rate", learning_rate, 0.0, 2 / smoothness, hint)
    validation.integer_in("min_shots", min_shots, 2)
    validation.integer_in("max_shots", max_shots, min_shots, 10_000_000)
    validation.half_open_interval("decay", decay, 0, 1)
    floor = validation.positive_number("floor", floor)

    def init(params: Any, key: Any = None) -> AdaptiveShotsState:
        del key
        flat, _, _ = flat_function(expectation, params)
        check_frequencies(expectation, params, 1, 1.0)
        return AdaptiveShotsState(
            jnp.full(flat.size, min_shots, jnp.int32),
            jnp.zeros_like(flat),
            jnp.zeros_like(flat),
            *(no_count() for _ in range(3)),
        )

    def step(
        params: Any, state: AdaptiveShotsState, key: jax.Array
    ) -> tuple[Any, AdaptiveShotsState]:
        flat, unravel, value_at = flat_function(expectation, params)
        check_size(flat, state.next_shots.size)
        eta, mu = jnp.asarray(rate, flat.dtype), jnp.asarray(decay, flat.dtype)
        moves = np.pi / 2 * jnp.eye(flat.size, dtype=flat.dtype)
        points = jnp.concatenate([flat + moves, flat - moves])
        exact = jax.vmap(lambda x: value_at(x, key))(points) - expectation.identity
        count = state.next_shots.astype(flat.dtype)
        outcomes = sample_means(key, exact / smoothness, jnp.tile(count, 2)).reshape(2, -1)
        grads = smoothness * (outcomes[0] - outcomes[1]) / 2
        spreads = smoothness**2 * (1 - outcomes**2) * count / (count - 1)
        variances = jnp.sum(spreads, axis=0) / 4
        mean_grads = mu * state.mean_grads + (1 - mu) * grads
        mean_variances = mu * state.mean_variances + (1 - mu) * variances
        k = state.steps.astype(flat.dtype)
        correction = 1 - mu ** (k + 1)
        means = Averages(
            mean_grads / correction,
            mean_variances / correction,
            jnp.asarray(floor, flat.dtype) * mu**k,
            eta,
            jnp.asarray(smoothness, flat.dtype),
        )
        chosen = jnp.nan_to_num(choose(means), nan=min_shots)
        shots = jnp.clip(jnp.ceil(chosen), min_shots, max_shots).astype(jnp.int32)
        return unravel(flat - eta * grads), AdaptiveShotsState(
            next_shots=shots,
            mean_grads=mean_grads,
            mean_variances=mean_variances,
            steps=added(state.steps, 1),
            executions=added(state.executions, 2 * flat.size),
            shots=added(state.shots, _total(2 * state.next_shots)),
        )

    return circuit_optimizer(AdaptiveShotsState, init, step)
