"""Quantum gradient descent: algorithms for classical functions, simulated.

    result = jd.quantum.hamiltonian_descent(jd.problems.rastrigin(), grid=128)
    result.success[-1]      # the probability that a measurement is near the minimum

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

__all__ = [
    "AmplitudeDescentResult",
    "HamiltonianDescentResult",
    "JordanGradient",
    "Schedule",
    "amplitude_descent",
    "cubic_schedule",
    "gradient_schedule",
    "hamiltonian_descent",
    "jordan_gradient",
]


def __dir__() -> list[str]:
    return __all__
