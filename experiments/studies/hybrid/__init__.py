"""Global minimization: jd.hybrid against Adam, SciPy's methods and BIPOP-CMA-ES.

Every method has the same budget of evaluations and one setting for all functions. There are three
suites, named beforehand in `settings.py` and `functions/`: the hard eight of `jd.problems` in 2,
20 and 100 dimensions, thirty classic functions on which methods may be developed, and twenty that
are only reported. `bbob_development` and `bbob_report` are the 24 functions of BBOB in 5 and 20
dimensions, to a precision of 1e-8, in instances from 16 and from 1 on. Look at results of
`--suites report bbob_report` when a method is finished, not before.

`--ablation` switches off the parts of `jd.hybrid`, one at a time, on the same instances.

Evaluations are counted in two ways: a gradient as one evaluation, and as three. BIPOP-CMA-ES, and
COCO's own functions by which values of BBOB are checked, need the extra `bbob`. A run that is
interrupted goes on with the next function. `--resume` can also add methods and suites.
"""

from functools import partial

import jax
from threadpoolctl import threadpool_limits

from experiments import runner
from experiments.instances import Instances
from experiments.studies.hybrid.cells import Cell, run_cell
from experiments.studies.hybrid.figure import draw
from experiments.studies.hybrid.methods import METHODS, is_installed
from experiments.studies.hybrid.report import GroupResult, make_results
from experiments.studies.hybrid.settings import Group, Settings
from experiments.studies.hybrid.suites import draw_group
from jaxdescent.extras import require

__all__ = ["Settings", "check", "run"]


def check(settings: Settings) -> None:
    """Raises MissingPackageError if a method that a flag names is not installed."""
    if "bipop_cma" in settings.methods:
        require("cma", "bbob")


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs all methods on all functions and draws the figure."""
    methods = [name for name in settings.chosen_methods if is_installed(name)]
    skipped = [
        f"{METHODS[name].title} is left out because its package is not installed; "
        "pip install 'jaxdescent[bbob]'."
        for name in settings.chosen_methods
        if name not in methods
    ]
    groups = settings.groups
    total = sum(
        len(group.functions) * sum(map(bool, map(group.runs_of, methods))) for group in groups
    )
    found = []
    with (
        runner.Progress(total=total) as progress,
        jax.enable_x64(True),
        threadpool_limits(1),  # threads slow SciPy's small matrices down
    ):
        for group in groups:
            functions = draw_group(group, settings.seed)
            cells = {
                name: _run_method(run, progress, group, name, functions)
                for name in methods
                if group.runs_of(name)
            }
            found.append(GroupResult(group, cells))
    run.save_figure("success", draw(found))
    return make_results(found, skipped)


def _run_method(
    run: runner.Run,
    progress: runner.Progress,
    group: Group,
    name: str,
    functions: list[Instances],
) -> dict[str, Cell]:
    """Runs a method on all functions of a group."""
    return {
        instances.name: run.series(
            f"{group.suite}, {group.title}, {name}, {instances.name}",
            Cell,
            partial(
                run_cell,
                METHODS[name],
                instances.first(group.runs_of(name)),
                group,
                run.interruption.check,
            ),
            progress=progress,
            steps=1,
            loss=lambda cell: 1 - cell.solved.mean(),
        )
        for instances in functions
    }
