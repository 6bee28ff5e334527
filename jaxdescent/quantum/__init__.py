"""Quantum gradient descent, simulated: on the parameters of circuits, and on functions.

    gates = jd.quantum.gates
    circuit = jd.quantum.Circuit(2, [gates.ry(gates.param(0), 0), gates.cnot(0, 1)])
    expectation = circuit.expectation(jd.quantum.pauli_sum({"ZZ": 1.0, "XI": 0.5}))
    value, grads = jax.value_and_grad(expectation)(params)

Circuits and observables:

    Circuit                gates on qubits, whose angles depend on parameters
    gates                  rx, cnot, double_excitation, ...: help(jd.quantum.gates) lists them
    pauli_sum              an observable: words of Pauli matrices with coefficients
    molecule, excitation_circuit
                           H2 and LiH as observables, and circuits for them
    CHEMICAL_ACCURACY      1.6 mHa
    metric                 the Fubini-Study metric of a circuit, full or block-diagonal
    Expectation, PauliSum, Molecule
                           the types

Values and gradients as a quantum computer obtains them, with the executions and shots that they
take:

    measure                a value from a finite number of shots
    sampled                the same as a function, for optimizers that use values
    parameter_shift        gradients of a circuit from values at shifted angles
    coordinate_shift       the same for any function, such as a QNode of PennyLane
    spsa_gains, calibrated_spsa_gains
                           Spall's gains of simultaneous perturbation
    Measurement, SampledExpectation, SpsaGains
                           the results

An optax transformation:

    quantum_natural_gradient
                           steepest descent in the space of states

Optimizers that execute circuits themselves, and count them, with `init` and `step`:

    rotosolve              exact minimization of one parameter after another
    rotoselect             the same, and a choice of the axis of each rotation
    spsa                   simultaneous perturbation with Spall's gains
    qn_spsa                the natural gradient from random perturbations
    icans, gcans           as many shots as the gain of the next step justifies
    CircuitOptimizer       the protocol
    NaturalGradientState, RotosolveState, SpsaState, QnSpsaState, AdaptiveShotsState
                           the states

Algorithms that descend on a function of few variables:

    hamiltonian_descent    quantum Hamiltonian descent on a grid, with or without a gradient term
    cubic_schedule, gradient_schedule, Schedule
                           weights of its terms over time: as published, or of your own
    HamiltonianDescentResult
                           the distribution over time, and the probability of success
    jordan_gradient, JordanGradient
                           a gradient from one query of the function
    amplitude_descent, AmplitudeDescentResult
                           polynomials on the sphere, with the number of copies that hardware needs
"""

from jaxdescent.quantum.algorithms.amplitude_descent import (
    AmplitudeDescentResult,
    amplitude_descent,
)
from jaxdescent.quantum.algorithms.hamiltonian_descent import (
    HamiltonianDescentResult,
    Schedule,
    cubic_schedule,
    gradient_schedule,
    hamiltonian_descent,
)
from jaxdescent.quantum.algorithms.jordan import JordanGradient, jordan_gradient
from jaxdescent.quantum.circuits import gates
from jaxdescent.quantum.circuits.circuit import Circuit, Expectation
from jaxdescent.quantum.circuits.metric import metric
from jaxdescent.quantum.circuits.molecules import (
    CHEMICAL_ACCURACY,
    Molecule,
    excitation_circuit,
    molecule,
)
from jaxdescent.quantum.circuits.pauli import PauliSum, pauli_sum
from jaxdescent.quantum.estimators.parameter_shift import coordinate_shift, parameter_shift
from jaxdescent.quantum.estimators.shots import (
    Measurement,
    SampledExpectation,
    measure,
    sampled,
)
from jaxdescent.quantum.estimators.spsa_gains import (
    SpsaGains,
    calibrated_spsa_gains,
    spsa_gains,
)
from jaxdescent.quantum.optimizers.adaptive_shots import AdaptiveShotsState, gcans, icans
from jaxdescent.quantum.optimizers.circuit_optimizer import CircuitOptimizer
from jaxdescent.quantum.optimizers.natural_gradient import (
    NaturalGradientState,
    quantum_natural_gradient,
)
from jaxdescent.quantum.optimizers.qn_spsa import QnSpsaState, qn_spsa
from jaxdescent.quantum.optimizers.rotosolve import RotosolveState, rotoselect, rotosolve
from jaxdescent.quantum.optimizers.spsa import SpsaState, spsa

__all__ = [
    "CHEMICAL_ACCURACY",
    "AdaptiveShotsState",
    "AmplitudeDescentResult",
    "Circuit",
    "CircuitOptimizer",
    "Expectation",
    "HamiltonianDescentResult",
    "JordanGradient",
    "Measurement",
    "Molecule",
    "NaturalGradientState",
    "PauliSum",
    "QnSpsaState",
    "RotosolveState",
    "SampledExpectation",
    "Schedule",
    "SpsaGains",
    "SpsaState",
    "amplitude_descent",
    "calibrated_spsa_gains",
    "coordinate_shift",
    "cubic_schedule",
    "excitation_circuit",
    "gates",
    "gcans",
    "gradient_schedule",
    "hamiltonian_descent",
    "icans",
    "jordan_gradient",
    "measure",
    "metric",
    "molecule",
    "parameter_shift",
    "pauli_sum",
    "qn_spsa",
    "quantum_natural_gradient",
    "rotoselect",
    "rotosolve",
    "sampled",
    "spsa",
    "spsa_gains",
]


def __dir__() -> list[str]:
    return __all__
