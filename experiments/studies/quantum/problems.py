"""The energy of a molecule as a function of the parameters, and the price of what methods use."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd
from jaxdescent.quantum.circuits.metric import metric_executions

MoleculeName = Literal["h2", "lih"]


class Problem(NamedTuple):
    """A molecule on a circuit of excitations.

    Attributes:
      name: "h2" or "lih".
      energy: the energy as a function of the parameters.
      start: the parameters of Hartree-Fock, f[n].
      lowest: the lowest energy.
      gradient_cost: executions of a value and a gradient by the parameter-shift rule.
      metric_cost: executions of a block-diagonal metric.
      value: compiled energy.
      value_and_grad: compiled energy and gradient.
      metric: compiled block-diagonal metric.
    """

    name: str
    energy: jd.quantum.Expectation
    start: np.ndarray
    lowest: float
    gradient_cost: int
    metric_cost: int
    value: Any
    value_and_grad: Any
    metric: Any


def load(name: MoleculeName) -> Problem:
    """Returns a molecule's problem."""
    molecule = jd.quantum.molecule(name)
    circuit = jd.quantum.excitation_circuit(molecule)
    energy = circuit.expectation(molecule.observable)
    return Problem(
        name,
        energy,
        np.zeros(len(circuit.trainable)),
        molecule.ground_energy,
        jd.quantum.parameter_shift(energy).evaluations,
        metric_executions(circuit, "block-diagonal"),
        jax.jit(energy),
        jax.jit(jax.value_and_grad(energy)),
        jax.jit(lambda x: jd.quantum.metric(circuit, jnp.asarray(x), form="block-diagonal")),
    )
