"""Eigensolvers: every method on every molecule."""

from functools import partial

from experiments import runner
from experiments.studies.quantum.figure import draw
from experiments.studies.quantum.methods import METHODS, Course, MethodName, available
from experiments.studies.quantum.parts import Part
from experiments.studies.quantum.problems import MoleculeName, load
from experiments.studies.quantum.report import report
from experiments.studies.quantum.settings import Settings


def run(settings: Settings, run: runner.Run) -> Part:
    """Minimizes the energy of every molecule by every method."""
    rows: dict[MoleculeName, list[MethodName]] = {
        task: [
            name for name in settings.methods if available(name) and task in METHODS[name].molecules
        ]
        for task in settings.molecules
    }
    courses: dict[tuple[MoleculeName, MethodName], Course] = {}
    with runner.Progress(total=sum(map(len, rows.values()))) as progress:
        for task, names in rows.items():
            problem = load(task)
            for name in names:
                courses[task, name] = run.series(
                    f"{METHODS[name].title}, {task}",
                    Course,
                    partial(METHODS[name].minimize, problem, settings.budget(task)),
                    progress=progress,
                    steps=1,
                )
    run.save_figure("1_executions", draw(settings.molecules, courses))
    return report(settings, courses)
