"""Quantum eigensolvers: executions of a circuit until the ground energy of a molecule is found.

Each method minimizes the energy of H2 (4 qubits, 3 parameters) and of the full LiH (12 qubits, 92
parameters) on the same circuit of excitations, from Hartree-Fock. The study counts executions of a
circuit until the energy is within 1.6 mHa of the lowest eigenvalue, which is chemical accuracy. A
gradient is counted as the parameter-shift rule takes it. Values are exact.

PennyLane's optimizers are its own classes; they run if it is installed. They get the same values,
gradients and metrics from the same simulator. All methods with a learning rate try the same rates,
and the best one counts.
"""

from functools import partial

import jax

from experiments import runner
from experiments.studies.quantum.figure import draw
from experiments.studies.quantum.methods import METHODS, Course, MethodName, available
from experiments.studies.quantum.problems import TaskName, load
from experiments.studies.quantum.report import make_results
from experiments.studies.quantum.settings import Settings

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Minimizes the energy of every molecule by every method."""
    names = [name for name in settings.methods if available(name)]
    courses: dict[tuple[TaskName, MethodName], Course] = {}
    total = len(names) * len(settings.tasks)
    with jax.enable_x64(True), runner.Progress(total=total) as progress:
        for task in settings.tasks:
            problem = load(task)
            for name in names:
                courses[task, name] = run.series(
                    f"{METHODS[name].title}, {task}",
                    Course,
                    partial(METHODS[name].minimize, problem, settings.budget(task)),
                    progress=progress,
                    steps=1,
                )
    run.save_figure("1_executions", draw(settings.tasks, courses))
    return make_results(settings, courses)
