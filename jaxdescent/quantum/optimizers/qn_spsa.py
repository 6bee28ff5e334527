"""QN-SPSA: the quantum natural gradient from random perturbations.

    g_hat = (f(x + e h) - f(x - e h)) / (2 e) h                                    2 executions
    dF    = F(e h1 + e h2) - F(e h1) - F(-e h1 + e h2) + F(-e h1)                  4 executions
    G_hat = -dF / (8 e^2) (h1 h2^T + h2 h1^T)          F(d) = |<psi(x)|psi(x + d)>|^2
    G     <- k / (k + 1) G + 1 / (k + 1) G_hat         G = I at first
    x     <- x - eta R^-1 g_hat                        R = (sqrt(G G) + b I) / (1 + b)

h are random signs. The paper averages the raw estimates, as here. PennyLane goes on from the
regularized matrix, G <- R after each step, which `average="regularized"` does.

With blocking, a step that raises the value by more than two standard deviations of the last five
values is not taken, at the price of a further execution for the new value.

Source: J. Gacon, C. Zoufal, G. Carleo, S. Woerner 2021, arXiv:2103.09232.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.quantum.circuits.circuit import Expectation
from jaxdescent.quantum.estimators.shots import LARGEST_COUNT, SampledExpectation, shots_per_value
from jaxdescent.quantum.optimizers.circuit_optimizer import (
    CircuitOptimizer,
    added,
    check_function,
    check_size,
    circuit_optimizer,
    flat_function,
    no_count,
    widened,
)

HISTORY = 5


class QnSpsaState(NamedTuple):
    """State of `qn_spsa`.

    Attributes:
      metric: f[n, n], the average G.
      values: f[5], the last values at accepted parameters; infinite before there are any.
      steps: i32[], number of steps until now.
      rejected: i32[], number of steps that were blocked.
      executions: i32[], number of executions of a circuit until now, overlaps included.
      shots: i32[], number of measurements until now. Overlaps are exact, and not included.
    """

    metric: jax.Array
    values: jax.Array
    steps: jax.Array
    rejected: jax.Array
    executions: jax.Array
    shots: jax.Array


def qn_spsa(
    function: Any,
    learning_rate: ArrayLike = 1e-3,
    *,
    overlap: Any = None,
    epsilon: ArrayLike = 1e-2,
    regularization: ArrayLike = 1e-3,
    average: Literal["raw", "regularized"] = "raw",
    blocking: bool = True,
) -> CircuitOptimizer:
    """Minimizes a function by simultaneous perturbation, with a metric from random overlaps.

    Args:
      function: an `Expectation`, or a `sampled` one; with `overlap`, any function of the
        parameters.
      learning_rate: eta, a number in (0, inf).
      overlap: Called as `overlap(params, other)`; returns the fidelity of two states. By default
        the one of the circuit.
      epsilon: e, a number in (0, inf). Errors of float32 grow as 1 / e^2: with the default, use 64
        bits, or choose 0.1 in float32.
      regularization: b, a number in (0, inf).
      average: "raw" or "regularized" matrices are averaged.
      blocking: whether steps that raise the value are rejected.

    Returns:
      A `CircuitOptimizer`, whose step takes 6 executions, and with blocking 7, of which the first
      step takes one more for the value at the start.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: an argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> gates = jd.quantum.gates
      >>> circuit = jd.quantum.Circuit(1, [gates.ry(gates.param(0), 0)])
      >>> expectation = circuit.expectation(jd.quantum.pauli_sum({"Z": 1.0}))
      >>> optimizer = jd.quantum.qn_spsa(expectation, 0.1, epsilon=0.1)
      >>> params, key = jnp.array([1.0]), jax.random.key(0)
      >>> state = optimizer.init(params, key)
      >>> for key in jax.random.split(key, 60):
      ...     params, state = jax.jit(optimizer.step)(params, state, key)
      >>> bool(expectation(params) < -0.99), int(state.executions)
      (True, 421)
    """
    check_function(function)
    inner = function.expectation if isinstance(function, SampledExpectation) else function
    if overlap is None:
        if not isinstance(inner, Expectation):
            raise TypeError(
                "function must be circuit.expectation(observable) without overlap=, got "
                f"{validation.shown(function)}; pass the fidelity of two states as overlap"
            )
        overlap = inner.circuit.overlap
    if not callable(overlap):
        raise TypeError(
            "overlap must be a function of two trees of parameters, such as circuit.overlap, got "
            f"{validation.shown(overlap)}"
        )
    rate = validation.positive_number("learning_rate", learning_rate)
    size = validation.positive_number("epsilon", epsilon)
    beta = validation.positive_number("regularization", regularization)
    if average not in ("raw", "regularized"):
        raise ValueError(f"average must be 'raw' or 'regularized', got {validation.shown(average)}")
    validation.boolean("blocking", blocking)

    def init(params: Any, key: Any = None) -> QnSpsaState:
        del key
        flat, _, _ = flat_function(function, params)
        return QnSpsaState(
            jnp.eye(flat.size, dtype=flat.dtype),
            jnp.full(HISTORY, jnp.inf, flat.dtype),
            *(no_count() for _ in range(4)),
        )

    def step(params: Any, state: QnSpsaState, key: jax.Array) -> tuple[Any, QnSpsaState]:
        flat, unravel, value_at = flat_function(function, params)
        check_size(flat, len(state.metric))
        e, b, eta = (jnp.asarray(x, flat.dtype) for x in (size, beta, rate))
        draws, *measured = jax.random.split(key, 5)
        h, h1, h2 = jax.random.rademacher(draws, (3, flat.size), flat.dtype)
        slope = value_at(flat + e * h, measured[0]) - value_at(flat - e * h, measured[1])
        grads = slope / (2 * e) * h

        _, unravel_wide, _ = flat_function(function, wide := widened(params))

        def fidelity(change: jax.Array) -> jax.Array:
            with validation.tracing("overlap"):
                found = overlap(wide, unravel_wide(flat + change))
            validation.check_scalar("overlap", found)
            return jnp.asarray(found, flat.dtype)

        change = (
            fidelity(e * (h1 + h2)) - fidelity(e * h1) - fidelity(e * (h2 - h1)) + fidelity(-e * h1)
        )
        estimate = -change / (8 * e**2) * (jnp.outer(h1, h2) + jnp.outer(h2, h1))
        k = state.steps.astype(flat.dtype) + 1
        mean = (k * state.metric + estimate) / (k + 1)
        values, vectors = jnp.linalg.eigh(mean)
        eigenvalues = (jnp.abs(values) + b) / (1 + b)
        regular = vectors * eigenvalues @ vectors.T
        direction = vectors @ ((vectors.T @ grads) / eigenvalues)
        moved = flat - eta * direction
        per_value, later = shots_per_value(function), 3 if blocking else 2
        measured_shots = [min(count * per_value, LARGEST_COUNT) for count in (4, later)]
        history, taken, spent = state.values, jnp.asarray(True), jnp.asarray(6)
        if blocking:
            first = state.steps == 0
            start = value_at(flat, measured[2])
            history = jnp.where(first & (jnp.arange(HISTORY) == 0), start, history)
            value = value_at(moved, measured[3])
            known = jnp.isfinite(history)
            limit = history[0] + 2 * jnp.std(history, where=known)
            taken = value <= limit
            pushed = jnp.roll(history, 1).at[0].set(value)
            history = jnp.where(taken, pushed, history)
            spent = jnp.where(first, 8, 7)
        return unravel(jnp.where(taken, moved, flat)), QnSpsaState(
            metric=regular if average == "regularized" else mean,
            values=history,
            steps=added(state.steps, 1),
            rejected=added(state.rejected, ~taken),
            executions=added(state.executions, spent),
            shots=added(state.shots, jnp.where(spent == 8, *measured_shots)),
        )

    return circuit_optimizer(QnSpsaState, init, step)
