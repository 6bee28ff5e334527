"""The Fubini-Study metric of a circuit, a quarter of the quantum Fisher information.

    g_ij = Re <d_i psi|d_j psi> - Re(<d_i psi|psi> <psi|d_j psi>)

It is with respect to the parameters, not to the angles of gates: where angles are functions a(x) of
the parameters, g = J^T g_a J with J = da/dx. In the block-diagonal form, g_a keeps the entries of
two gates in one layer. A layer has gates whose generators commute, as they are after the Clifford
gates have been moved away. A gate is in the first layer after all earlier gates with which it does
not commute.

Sources: J. Stokes, J. Izaac, N. Killoran, G. Carleo 2020, arXiv:1909.02108.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxdescent import validation
from jaxdescent.quantum.circuits.circuit import Circuit

Form = Literal["full", "block-diagonal"]


def metric(circuit: Circuit, params: Any, *args: Any, form: Form = "full") -> jax.Array:
    """Returns the metric with respect to the flattened parameters, f[n, n].

    Args:
      circuit: a circuit.
      params: the parameters, a tree of n numbers.
      *args: further arguments of the functions that give angles.
      form: "full" or "block-diagonal".

    Raises:
      TypeError: `circuit` is not a circuit.
      ValueError: `form` is not known.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> gates = jd.quantum.gates
      >>> circuit = jd.quantum.Circuit(1, [gates.ry(2.0 * gates.param(0), 0)])
      >>> jd.quantum.metric(circuit, jnp.array([0.3])).round(3).tolist()  # 2^2 / 4
      [[1.0]]
    """
    check_circuit(circuit)
    check_form(form)
    flat, unravel = ravel_pytree(params)

    def angles(x: jax.Array) -> jax.Array:
        return circuit.angles(unravel(x), *args)

    if form == "full":
        return _metric(lambda x: circuit.rotated(angles(x)), flat)
    jacobian = jax.jacfwd(angles)(flat)
    layers = gate_layers(circuit)
    same = jnp.asarray(layers[:, None] == layers, flat.dtype)
    of_gates = same * _metric(circuit.rotated, angles(flat))
    return jnp.einsum("ai,ab,bj->ij", jacobian, of_gates, jacobian, precision="highest")


def _metric(state: Any, x: jax.Array) -> jax.Array:
    """Returns the metric of a real vector (Re psi, Im psi) of norm 1."""
    v, slopes = state(x), jax.jacfwd(state)(x)
    real, imaginary = jnp.split(v, 2)
    turned = jnp.concatenate([-imaginary, real])  # i psi
    phases = jnp.dot(turned, slopes, precision="highest")  # Im <psi|d psi>; the real part is 0
    gram = jnp.matmul(slopes.T, slopes, precision="highest")
    return gram - jnp.outer(phases, phases)


def gate_layers(circuit: Circuit) -> np.ndarray:
    """Returns the layer of each trainable gate, i32[gates]."""
    words: list[list[Any]] = [[] for _ in circuit.trainable]
    rows = circuit.rotation_angles
    order: list[tuple[int | None, list[Any]]] = []
    for word, gate, factor in zip(circuit.words, rows.gate, rows.factor, strict=True):
        if not factor:
            order.append((None, [word]))
        elif words[gate]:
            words[gate].append(word)
        else:
            words[gate].append(word)
            order.append((int(gate), words[gate]))
    found = np.zeros(len(words), int)
    placed: list[tuple[int, list[Any]]] = []
    for index, members in order:
        before = [
            layer
            for layer, others in placed
            if not all(a.commutes(b) for a in members for b in others)
        ]
        layer = max(before, default=-1) + (1 if index is not None else 0)
        if index is not None:
            found[index] = layer
        placed.append((layer, members))
    return found


def metric_executions(circuit: Circuit, form: Form) -> int:
    """Returns the executions that measure a metric.

    One per layer, whose words have a common eigenbasis, for their covariances. The full metric
    needs a Hadamard test in addition for each pair of words in different layers.
    """
    layers = gate_layers(circuit)
    blocks = len(np.unique(layers))
    if form == "block-diagonal":
        return blocks
    rows = circuit.rotation_angles
    of_words = layers[rows.gate[rows.factor != 0]]
    pairs = np.sum(of_words[:, None] != of_words) // 2
    return blocks + int(pairs)


def check_circuit(circuit: Any) -> None:
    """Raises TypeError unless an argument is a circuit."""
    if not isinstance(circuit, Circuit):
        raise TypeError(
            f"circuit must be a jd.quantum.Circuit, got {validation.shown(circuit)}; an "
            "expectation value has it as the attribute circuit"
        )


def check_form(form: Any) -> None:
    """Raises ValueError unless the form of a metric is known."""
    if form not in ("full", "block-diagonal"):
        raise ValueError(f"form must be 'full' or 'block-diagonal', got {validation.shown(form)}")
