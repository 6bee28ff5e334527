"""Quantum circuits: ground energies of molecules, a classifier, barren plateaus, and shot noise.

h2, lih: each method minimizes the energy of H2 (4 qubits, 3 parameters) or of the full LiH (12
qubits, 92 parameters) on the same circuit of excitations, from Hartree-Fock. The study counts
executions of a circuit until the energy is within 1.6 mHa of the lowest eigenvalue, which is
chemical accuracy. A gradient is counted as the parameter-shift rule takes it. Values are exact.
PennyLane's optimizers are its own classes; they run if it is installed. They get the same values,
gradients and metrics from the same simulator. All methods with a learning rate try the same rates,
and the best one counts.

classifier: see `classifier.py`. plateaus: see `plateaus.py`. noise: see
`noise.py`.
"""

import jax

from experiments import runner
from experiments.studies.quantum import classifier, eigensolvers, noise, plateaus
from experiments.studies.quantum.parts import Part, make_results
from experiments.studies.quantum.settings import Settings

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs all tasks and draws their figures."""
    parts: list[Part] = []
    with jax.enable_x64(True):
        if settings.molecules:
            parts.append(eigensolvers.run(settings, run))
        if "classifier" in settings.tasks:
            parts.append(classifier.run(classifier.SIZES[settings.scale], run))
        if "plateaus" in settings.tasks:
            parts.append(plateaus.run(plateaus.SIZES[settings.scale], run))
        if "noise" in settings.tasks:
            parts.append(noise.run(noise.SIZES[settings.scale], run))
    return make_results(f"Quantum circuits: {', '.join(settings.tasks)}", parts)
