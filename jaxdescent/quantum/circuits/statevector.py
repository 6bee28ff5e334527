"""Simulation of a product of exponentials of Pauli words, on real vectors.

    v = (Re psi, Im psi), f[2 * 2^n]            the bit above the qubits chooses the part
    exp(-i a/2 P) v = cos(a/2) v + sin(a/2) A v         A = -i P

A is real: it moves the entry j ^ x to j and multiplies it by a sign, the parity of j & z. The masks
are data of one loop, so that the time to compile does not depend on the number of gates.

    f = <v, H v>          df/da_k = <A_k v_k, l_k>          v_k, l_k: after exponential k

The adjoint method (T. Jones, J. Gacon 2020, arXiv:2009.02823) begins with l = H v and undoes the
exponentials one by one, so that two vectors are the memory of a gradient, however long the circuit.

Agents are the last axis, f[2 * 2^n, agents]: a move is a copy of rows.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent.quantum.circuits.pauli import Word

WORDS_PER_STEP = 8
"""Words of an observable that move the entries alike, and are applied together."""


class Moves(NamedTuple):
    """Moves of entries: entry j becomes sign * parity(j & z) * entry j ^ x.

    Attributes:
      x: i32[k], masks.
      z: i32[k] or i32[k, words], masks.
      sign: f[k] or f[k, words], factors; 0 is padding.
    """

    x: Any
    z: Any
    sign: Any


def as_move(word: Word, turns: int, num_qubits: int) -> tuple[int, int, int]:
    """Returns the masks and the sign of i^turns word on real vectors."""
    power = (word.phase + turns + 2 * (word.x & word.z).bit_count()) % 4
    part = (1 << num_qubits) * (power % 2)
    return word.x | part, word.z | part, (1, -1, -1, 1)[power]


def rotations(words: Sequence[Word], num_qubits: int) -> Moves:
    """Returns the moves -i P of exponentials."""
    moves = [as_move(each, -1, num_qubits) for each in words]
    x, z, sign = np.array(moves, np.int64).reshape(-1, 3).T
    return Moves(x.astype(np.int32), z.astype(np.int32), sign.astype(np.float64))


def observable(words: Sequence[Word], coefficients: Sequence[float], num_qubits: int) -> Moves:
    """Returns the moves of a sum of words, with equal moves together."""
    groups: dict[int, list[tuple[int, float]]] = {}
    for word, coefficient in zip(words, coefficients, strict=True):
        x, z, sign = as_move(word, 0, num_qubits)
        groups.setdefault(x, []).append((z, sign * coefficient))
    width = min(WORDS_PER_STEP, max(map(len, groups.values())))
    rows: list[tuple[int, list[tuple[int, float]]]] = []
    for x, group in groups.items():
        for start in range(0, len(group), width):
            part = group[start : start + width]
            rows.append((x, part + [(0, 0.0)] * (width - len(part))))
    return Moves(
        np.array([x for x, _ in rows], np.int32),
        np.array([[z for z, _ in part] for _, part in rows], np.int32),
        np.array([[sign for _, sign in part] for _, part in rows], np.float64),
    )


def rotate(v: jax.Array, moves: Moves, angles: jax.Array) -> jax.Array:
    """Returns exponentials applied to v, f[size, agents]; the angles are f[k, agents]."""
    moves = _as_dtype(moves, v.dtype)

    def step(v: jax.Array, each: Any) -> tuple[jax.Array, None]:
        move, cos, sin = each
        return cos * v + sin * _moved(v, move), None

    return jax.lax.scan(step, v, (moves, jnp.cos(angles / 2), jnp.sin(angles / 2)))[0]


def apply_observable(v: jax.Array, moves: Moves) -> jax.Array:
    """Returns H v, f[size, agents]."""
    moves = _as_dtype(moves, v.dtype)

    def step(total: jax.Array, move: Moves) -> tuple[jax.Array, None]:
        return total + _moved(v, move), None

    return jax.lax.scan(step, jnp.zeros_like(v), moves)[0]


def expectations(v: jax.Array, moves: Moves) -> jax.Array:
    """Returns <v, sign word v> of each word, f[k, words, agents]; 0 for padding."""
    moves = _as_dtype(moves, v.dtype)

    def step(_: None, move: Moves) -> tuple[None, jax.Array]:
        products = v * v.at[_entries(v) ^ move.x].get(mode="promise_in_bounds")
        signs = jax.vmap(lambda z, sign: _signs(v, z, sign))(move.z, move.sign)
        return None, jnp.tensordot(signs, products, 1, precision="highest")

    return jax.lax.scan(step, None, moves)[1]


def zero_state(num_qubits: int, agents: int, dtype: Any) -> jax.Array:
    """Returns the vector of |0...0>, f[size, agents]."""
    return jnp.zeros((2 << num_qubits, agents), dtype).at[0].set(1)


def value_and_grad(num_qubits: int, moves: Moves, terms: Moves) -> Callable[[jax.Array], Any]:
    """Returns a function of angles, f[agents, k]; it returns values f[agents] and gradients."""

    def evaluate(angles: jax.Array) -> tuple[jax.Array, jax.Array]:
        angles = angles.T
        v = rotate(zero_state(num_qubits, angles.shape[1], angles.dtype), moves, angles)
        image = apply_observable(v, terms)
        typed = _as_dtype(moves, v.dtype)

        def undo(state: Any, each: Any) -> tuple[Any, jax.Array]:
            v, image = state
            move, cos, sin = each
            moved = _moved(v, move), _moved(image, move)
            turned, turned_image = jax.lax.optimization_barrier(moved)  # gathered once
            slope = _dot(turned, image)
            return (cos * v - sin * turned, cos * image - sin * turned_image), slope

        halves = jnp.cos(angles / 2), jnp.sin(angles / 2)
        _, grads = jax.lax.scan(undo, (v, image), (typed, *halves), reverse=True)
        return _dot(v, image), grads.T

    return evaluate


def value(num_qubits: int, moves: Moves, terms: Moves) -> Callable[[jax.Array], jax.Array]:
    """Returns a function of angles, f[agents, k]; it returns values f[agents]."""

    def evaluate(angles: jax.Array) -> jax.Array:
        angles = angles.T
        v = rotate(zero_state(num_qubits, angles.shape[1], angles.dtype), moves, angles)
        return _dot(v, apply_observable(v, terms))

    return evaluate


def over_agents(function: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """Returns a function of one agent's angles, f[k], which `jax.vmap` evaluates together.

    `function` takes angles f[agents, k] and returns a tree with the leading axis of agents.
    """

    def alone(angles: jax.Array) -> Any:
        return _of_one(function, angles)

    @jax.custom_batching.custom_vmap
    def of_one(angles: jax.Array) -> Any:
        return alone(angles)

    @of_one.def_vmap
    def together(_: int, batched: list[bool], angles: jax.Array) -> tuple[Any, Any]:
        # In derivatives of derivatives, only the tangents may have an axis of agents.
        found = function(angles) if batched[0] else alone(angles)
        return found, jax.tree.map(lambda _: batched[0], found)

    return of_one


def _of_one(function: Callable[[jax.Array], Any], angles: jax.Array) -> Any:
    return jax.tree.map(lambda x: x[0], function(angles[None]))


def differentiable(
    value: Callable[[jax.Array], Any], value_and_grad: Callable[[jax.Array], Any]
) -> Callable[[jax.Array], jax.Array]:
    """Returns a function of one agent's angles, f[k], whose gradient is the adjoint method's.

    It can be differentiated in both modes, more than once. Both arguments take angles f[agents, k].
    """
    of_one, both_of_one = over_agents(value), over_agents(value_and_grad)

    @jax.custom_jvp
    def both(angles: jax.Array) -> Any:
        return both_of_one(angles)

    @both.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        # Without the rule of `over_agents`, through which JAX cannot transpose.
        return jax.jvp(lambda angles: _of_one(value_and_grad, angles), primals, tangents)

    @jax.custom_jvp
    def evaluate(angles: jax.Array) -> jax.Array:
        return of_one(angles)

    @evaluate.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        found, grads = both(*primals)
        return found, jnp.sum(grads * tangents[0])

    return evaluate


def to_complex(v: jax.Array) -> jax.Array:
    """Returns the complex vector of a real one, c[2^n, ...]."""
    real, imaginary = jnp.split(v, 2)
    return jax.lax.complex(real, imaginary)


def _as_dtype(moves: Moves, dtype: Any) -> Moves:
    return Moves(jnp.asarray(moves.x), jnp.asarray(moves.z), jnp.asarray(moves.sign, dtype))


def _entries(v: jax.Array) -> jax.Array:
    return jax.lax.iota(jnp.int32, len(v))


def _signs(v: jax.Array, z: jax.Array, sign: jax.Array) -> Any:
    """Returns sign * parity(j & z) for every entry j; summed over words."""
    if sign.ndim:  # added one by one, which compilers vectorize
        return sum(_signs(v, z[i], sign[i]) for i in range(len(sign)))
    parity = jax.lax.population_count(_entries(v) & z) & 1
    return sign * (1 - 2 * parity).astype(v.dtype)


def _moved(v: jax.Array, move: Moves) -> jax.Array:
    rows = v.at[_entries(v) ^ move.x].get(mode="promise_in_bounds")
    return _signs(v, move.z, move.sign)[:, None] * rows


def _dot(v: jax.Array, w: jax.Array) -> jax.Array:
    """Returns the inner product of each agent, f[agents].

    In two sums, the first of them over long rows, which compilers vectorize.
    """
    rows = jnp.sum((v * w).reshape(-1, min(len(v), 32), v.shape[1]), axis=0)
    return jnp.sum(jax.lax.optimization_barrier(rows), axis=0)
