"""Descent on a vector of amplitudes, the algorithm of Rebentrost et al., simulated.

A polynomial of even degree 2 p on the unit sphere,

    f(x) = 1/2 (x (x) ... (x) x)^T A (x (x) ... (x) x),    grad f(x) = D(x) x,

has the gradient of a matrix D(x), which is A contracted with x in all but one of its p pairs of
indices, summed over the pairs. The vector x is stored in the amplitudes of ceil(log2 n) qubits, and
a step

    x <- (x - eta D(x) x) / ||x - eta D(x) x||

applies 1 - eta D(x), which is not unitary, with an ancilla: the step succeeds if the ancilla is
measured in the right state. With 1 - eta D(x) as a linear combination of unitary operators, the
probability is

    P = ||x - eta D(x) x||^2 / (1 + eta ||D(x)||)^2.

A state cannot be copied, and D(x) is made from further copies of x. If a trial of a step takes
1 + k copies of x, one copy after T steps takes the product of (1 + k) / P_t copies of the start.
That is exponential in the number of steps. Hardware therefore runs this algorithm for few steps
only; here it is an example to learn from and not an optimizer.

Source: P. Rebentrost, M. Schuld, L. Wossnig, F. Petruccione, S. Lloyd 2019, New Journal of Physics
21, 073023, arXiv:1612.01789. The linear combination of unitary operators, and the count with it,
are ours; the paper prepares the step by phase estimation.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import numerics, validation

LARGEST_COEFFICIENTS = 2**24
"""Entries of A, 64 MB in float32."""


class AmplitudeDescentResult(NamedTuple):
    """Result of `amplitude_descent`.

    Attributes:
      params: f[n], the last vector, of norm 1.
      path: f[steps + 1, n], the vectors from the start on.
      values: f[steps + 1], the function's values there.
      step_probability: f[steps], probabilities that the ancilla lets each step pass; 0 where
        1 - eta D(x) maps x to 0, after which vectors are NaN.
      log10_copies: f[steps], logarithm to base 10 of the expected number of copies of the start
        for one copy of the vector after each step.
      qubits: number of qubits that hold one vector.
    """

    params: jax.Array
    path: jax.Array
    values: jax.Array
    step_probability: jax.Array
    log10_copies: jax.Array
    qubits: int


def amplitude_descent(
    coefficients: Any,
    x: Any,
    *,
    learning_rate: float,
    steps: int,
    copies_per_step: int = 4,
) -> AmplitudeDescentResult:
    """Simulates the amplitude-encoded descent of Rebentrost et al. on the unit sphere.

    This is gradient descent that is normalized after each step, with the costs of hardware counted.

    Args:
      coefficients: A, f[n^p, n^p], symmetric; p is found from its size.
      x: f[n], the start, which is normalized; n is at least 2.
      learning_rate: eta.
      steps: number of steps.
      copies_per_step: k, copies of x by which one trial of a step applies D(x). More are more
        accurate: the error of density matrix exponentiation is of order 1 / k. The simulation is
        exact and uses it for the count only.

    Raises:
      ValueError: an argument is out of its range, A is not symmetric, or its size is not n^p.
      TypeError: an argument is not numeric.

    Source: P. Rebentrost et al. 2019, arXiv:1612.01789.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> A = jnp.diag(jnp.array([1.0, 2.0, 3.0, 4.0]))
      >>> result = jd.quantum.amplitude_descent(A, jnp.ones(4), learning_rate=0.2, steps=20)
      >>> result.qubits, round(float(result.values[-1]), 2), int(result.log10_copies[-1])
      (2, 0.5, 28)
    """
    matrix, start = _checked(coefficients, x)
    learning_rate = float(validation.positive_number("learning_rate", learning_rate))
    steps = validation.integer_in("steps", steps, 1)
    copies = validation.integer_in("copies_per_step", copies_per_step, 1)
    n = start.size
    degree = round(math.log(matrix.shape[0], n))
    path, values, probability = _descend(
        matrix.reshape((n,) * (2 * degree)), start, np.float64(learning_rate), steps
    )
    factors = jnp.log10(1 + copies) - jnp.log10(probability)
    return AmplitudeDescentResult(
        path[-1], path, values, probability, jnp.cumsum(factors), math.ceil(math.log2(n))
    )


def _checked(coefficients: Any, x: Any) -> tuple[jax.Array, jax.Array]:
    """Returns A and x as floating-point arrays of one dtype, or raises."""
    matrix, start = (
        jnp.asarray(value) if isinstance(value, jax.Array) else validation.real_array(name, value)
        for name, value in (("coefficients", coefficients), ("x", x))
    )
    dtype = numerics.widest_float((matrix, start))
    matrix, start = jnp.asarray(matrix, dtype), jnp.asarray(start, dtype)
    if start.ndim != 1 or start.size < 2:
        raise ValueError(f"x must be a vector of at least 2 numbers, got shape {start.shape}")
    rows = matrix.shape[0] if matrix.ndim == 2 else 0
    degree = round(math.log(rows, start.size)) if rows > 1 else 0
    if matrix.shape != (rows, rows) or degree < 1 or start.size**degree != rows:
        raise ValueError(
            f"coefficients must be a square matrix of {start.size}^p rows, got {matrix.shape}"
        )
    if matrix.size > LARGEST_COEFFICIENTS:
        raise ValueError(
            f"coefficients must have at most {LARGEST_COEFFICIENTS} entries, got {matrix.size}"
        )
    if validation.is_concrete(matrix):
        validation.finite_array("coefficients", matrix)
        scale = float(jnp.max(jnp.abs(matrix)))
        if float(jnp.max(jnp.abs(matrix - matrix.T))) > 1e-6 * scale:
            raise ValueError("coefficients must be symmetric; pass (A + A.T) / 2")
    if validation.is_concrete(start):
        validation.finite_array("x", start)
        if not jnp.any(start != 0):
            raise ValueError(f"x must not be 0, got {validation.shown(start)}")
    return matrix, start


def descent_matrix(tensor: jax.Array, x: jax.Array) -> jax.Array:
    """Returns D(x), f[n, n], for which grad f(x) = D(x) x.

    Args:
      tensor: A with one axis for each index, f[n, ..., n]: p of rows, then p of columns.
      x: f[n].
    """
    degree = tensor.ndim // 2
    total = jnp.zeros((x.size, x.size), x.dtype)
    for kept in range(degree):
        part = jnp.moveaxis(tensor, (kept, degree + kept), (0, 1))
        while part.ndim > 2:
            part = jnp.matmul(part, x, precision="highest")
        total = total + part
    return total


@functools.partial(jax.jit, static_argnums=3)
def _descend(
    tensor: jax.Array, start: jax.Array, learning_rate: jax.Array, steps: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    degree = tensor.ndim // 2
    learning_rate = learning_rate.astype(start.dtype)

    def value(x: jax.Array) -> jax.Array:
        # By Euler's theorem the gradient times x is 2 p f.
        gradient = jnp.matmul(descent_matrix(tensor, x), x, precision="highest")
        return jnp.vdot(x, gradient) / (2 * degree)

    def step(x: jax.Array, _: None) -> Any:
        matrix = descent_matrix(tensor, x)
        moved = x - learning_rate * jnp.matmul(matrix, x, precision="highest")
        length = jnp.linalg.norm(moved)
        largest = jnp.max(jnp.abs(jnp.linalg.eigvalsh(matrix)))
        x = moved / length
        return x, (x, (length / (1 + learning_rate * largest)) ** 2)

    first = start / jnp.linalg.norm(start)
    _, (path, probability) = jax.lax.scan(step, first, length=steps)
    path = jnp.concatenate([first[None], path])
    return path, jax.vmap(value)(path), probability
