"""The table, the verdict and the notes of the eigensolvers."""

from collections.abc import Mapping

import numpy as np

import jaxdescent as jd
from experiments import runner
from experiments.studies.quantum.methods import METHODS, Course, MethodName, spent
from experiments.studies.quantum.parts import Part
from experiments.studies.quantum.problems import MoleculeName
from experiments.studies.quantum.settings import Settings

COLUMNS = ("molecule", "method", "learning rate", "executions", "reached", "last error (mHa)")


def report(settings: Settings, courses: Mapping[tuple[MoleculeName, MethodName], Course]) -> Part:
    """Returns the table, the verdict and the notes."""
    rows, values, sentences = [], {}, []
    for task in settings.molecules:
        molecule = jd.quantum.molecule(task)
        goal = molecule.ground_energy + jd.quantum.CHEMICAL_ACCURACY
        medians: dict[MethodName, float] = {}
        for (found, method), course in courses.items():
            if found != task:
                continue
            counts = spent(course, goal)
            medians[method] = float(np.median(counts))
            error = 1e3 * float(np.median(course.energies[:, -1] - molecule.ground_energy))
            rows.append(
                (
                    task,
                    METHODS[method].title,
                    f"{course.learning_rate:g}" if METHODS[method].has_rate else "-",
                    f"{medians[method]:,.0f}" if np.isfinite(medians[method]) else "-",
                    f"{np.isfinite(counts).sum()} of {len(counts)}",
                    f"{error:.3f}",
                )
            )
            values[f"{method}, {task}"] = {"executions": medians[method], "error": error}
        sentences.append(_verdict(task, medians))
    notes = [
        "Executions: median over repetitions until the energy is within 1.6 mHa of the lowest "
        "eigenvalue; a dash where fewer than half reached it within the budget of "
        + ", ".join(f"{settings.budget(task).executions:,} ({task})" for task in settings.molecules)
        + ". A course ends at a tenth of this error.",
        "A gradient is counted as the parameter-shift rule takes it, four executions for an "
        "excitation; the natural gradient takes one more for the value. Rotosolve knows the energy "
        "after each parameter, and may stop within a sweep. A block-diagonal metric is counted as "
        "one execution per layer. A calibration of SPSA costs 50.",
        "Learning rates: the best of "
        + "; ".join(
            ", ".join(f"{rate:g}" for rate in settings.budget(task).learning_rates) + f" ({task})"
            for task in settings.molecules
        )
        + " for each method that has one; the others are not counted. Values are exact.",
        "PennyLane's optimizers are its own classes, and use this package's simulator for "
        "values, gradients and metrics. Its QN-SPSA takes only its own circuits, and runs on its "
        "device lightning.qubit, with 8 executions a step. A step on LiH takes 0.8 s of CPU time "
        "there, too long for this table.",
    ]
    title = "Executions until chemical accuracy"
    return Part(runner.Table(COLUMNS, rows, title), notes, values, " ".join(sentences))


def _verdict(task: str, medians: Mapping[MethodName, float]) -> str:
    """Returns the method with the fewest executions, beside the best of PennyLane."""
    ours = {name: count for name, count in medians.items() if not name.startswith("pl_")}
    peers = {name: count for name, count in medians.items() if name.startswith("pl_")}

    def phrase(found: Mapping[MethodName, float], nothing: str) -> str:
        if not found or not np.isfinite(min(found.values())):
            return nothing
        best = min(found, key=lambda name: found[name])
        return f"{METHODS[best].title} ({found[best]:,.0f} executions)"

    return (
        f"On {task} the fewest executions are by {phrase(ours, 'no method of this package')}; of "
        f"PennyLane's optimizers, by {phrase(peers, 'none within the budget')}."
    )
