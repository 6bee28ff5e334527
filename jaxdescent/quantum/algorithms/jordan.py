"""Jordan's algorithm: a gradient from one query of the function, simulated exactly.

Each of d registers of n qubits is a uniform superposition of k = 0, ..., N - 1, with N = 2^n. One
query of the function at all points of a small cube multiplies the state by a phase,

    exp(2 pi i N / (m l) f(x + l (k / N - 1/2))),

which is exp(2 pi i sum_i k_i (N / m) df/dx_i) where f is linear. The inverse quantum Fourier
transform of each register turns it into the number (N / m) df/dx_i. A measured number j, taken as
negative from N / 2 on, gives the partial derivative j m / N. Its resolution is m / N. Where it is a
multiple of that and f is linear, the probability of the outcome is 1.

The simulation evaluates f at all N^d points. Hardware needs one query, but of a circuit that
computes f with an error well below m l / N.

Source: S. Jordan 2005, Physical Review Letters 95, 050501, arXiv:quant-ph/0405146.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from jaxdescent import numerics, validation
from jaxdescent.programs import compiled

LARGEST_QUBITS = 22
"""The state has 2^22 complex amplitudes, 32 MB in complex64."""


class JordanGradient(NamedTuple):
    """Result of `jordan_gradient`.

    Attributes:
      gradient: the most probable outcome, a tree like x.
      probability: f[], its probability.
      slopes: f[N], the partial derivatives that a register can show, m / N apart.
      marginals: f[d, N], their probabilities in each register.
    """

    gradient: Any
    probability: jax.Array
    slopes: jax.Array
    marginals: jax.Array


def jordan_gradient(
    function: Callable[[Any], jax.Array],
    x: Any,
    *,
    qubits: int = 7,
    length: float = 1e-3,
    slope_range: float = 8.0,
) -> JordanGradient:
    """Simulates Jordan's algorithm for the gradient of a function, which takes one query.

    Finite differences take d + 1 queries. Works in `jax.jit` and `jax.vmap`. In float32 the values
    of the function must be exact to much less than `slope_range * length / 2**qubits`.

    Args:
      function: called with a tree like x; returns a scalar. It is evaluated up to `length / 2`
        away from x in each coordinate.
      x: the point, a tree of floating-point arrays of d numbers together.
      qubits: n, qubits of each register; d n must be at most 22.
      length: l, the side of the cube; f should be linear in it.
      slope_range: m; partial derivatives must be in [-m / 2, m / 2), or they wrap around.

    Raises:
      ValueError: an argument is out of its range, or there are too many qubits to simulate.
      TypeError: the function is not callable.

    Source: S. Jordan 2005, arXiv:quant-ph/0405146.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> def plane(x):
      ...     return 1.5 * x[0] - 0.5 * x[1]
      >>> result = jd.quantum.jordan_gradient(plane, jnp.zeros(2), qubits=5)
      >>> result.gradient.tolist(), round(float(result.probability), 4)
      ([1.5, -0.5], 1.0)
    """
    if not callable(function):
        raise TypeError(f"function must be callable, got {validation.shown(function)}")
    qubits = validation.integer_in("qubits", qubits, 1, LARGEST_QUBITS)
    length = float(validation.positive_number("length", length))
    slope_range = float(validation.positive_number("slope_range", slope_range))
    validation.check_floating("x", x)
    dimension = sum(int(np.prod(jnp.shape(leaf))) for leaf in jax.tree.leaves(x))
    if not 1 <= qubits * dimension <= LARGEST_QUBITS:
        raise ValueError(
            f"qubits must be at most {LARGEST_QUBITS // max(dimension, 1)} for {dimension} "
            f"coordinates, because at most {LARGEST_QUBITS} qubits are simulated, got {qubits}"
        )
    x = validation.arrays("x", x)
    validation.check_scalar("function", jax.eval_shape(function, x))
    sizes = (np.float64(length), np.float64(slope_range))
    return _simulate(x, *sizes, function=function, points=2**qubits)


@compiled("function", "points")
def _simulate(
    x: Any,
    length: jax.Array,
    slope_range: jax.Array,
    *,
    function: Callable[[Any], jax.Array],
    points: int,
) -> JordanGradient:
    dtypes = jax.tree.map(jnp.result_type, x)
    wide = numerics.widest_float(x)
    x = jax.tree.map(lambda leaf: leaf.astype(wide), x)
    center, unravel = jax.flatten_util.ravel_pytree(x)
    dimension, dtype = center.size, center.dtype
    length, slope_range = length.astype(dtype), slope_range.astype(dtype)
    offsets = length * (jnp.arange(points, dtype=dtype) / points - 0.5)
    mesh = jnp.stack(jnp.meshgrid(*[offsets] * dimension, indexing="ij"), -1)
    moved = center + mesh.reshape(-1, dimension)
    values = jax.vmap(lambda y: function(unravel(y)))(moved)
    # A constant changes the phase of the whole state only, and costs digits.
    values = (values - function(x)).reshape(mesh.shape[:-1]).astype(dtype)
    turns = points / (slope_range * length) * values
    angle = 2 * jnp.pi * (turns - jnp.round(turns))
    state = jax.lax.complex(jnp.cos(angle), jnp.sin(angle)) / jnp.sqrt(values.size)
    outcome = jnp.abs(jnp.fft.fftn(state, norm="ortho")) ** 2
    slopes = jnp.asarray(np.fft.fftfreq(points), dtype) * slope_range
    best = jnp.stack(jnp.unravel_index(jnp.argmax(outcome), outcome.shape))
    axes = range(dimension)
    marginals = [jnp.sum(outcome, tuple(i for i in axes if i != axis)) for axis in axes]
    order = np.argsort(np.fft.fftfreq(points))
    return JordanGradient(
        gradient=jax.tree.map(lambda s, to: s.astype(to), unravel(slopes[best]), dtypes),
        probability=jnp.max(outcome),
        slopes=slopes[order],
        marginals=jnp.stack(marginals)[:, order],
    )
