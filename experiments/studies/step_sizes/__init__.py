"""Long step sizes: worst-case guarantees, and gradients needed on twenty convex problems.

First the study computes the worst cases of silver, anytime and OBS-F steps after 1 to 31 steps
with PEPit, and lists the horizons at which they are worse than constant steps. Then it counts
the gradients that each method needs until f(x) - f* is a millionth of its initial value. Guarded
silver steps measure the smoothness L during the run, and each Hessian-vector product counts as
two gradients. Steps of 1/L, momentum methods and the other schedules are given L; L-BFGS does
not use it.
"""

from functools import partial

import jax
import numpy as np

from experiments import runner
from experiments.studies.step_sizes.methods import (
    Goal,
    MethodRun,
    ReferenceValues,
    reference_values,
    solvers,
)
from experiments.studies.step_sizes.problems import ConvexProblem, load_problems
from experiments.studies.step_sizes.report import (
    ProblemResult,
    draw_gaps,
    draw_worst_cases,
    make_results,
)
from experiments.studies.step_sizes.settings import (
    GRADIENT_BUDGET,
    LONGEST_HORIZON,
    SMOKE_PROBLEMS,
    TARGET_GAP,
    Settings,
)
from experiments.studies.step_sizes.worst_cases import WorstCases, compute_worst_cases

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Computes the worst cases, runs every method on every problem and draws two figures."""
    selected = [
        problem
        for problem in load_problems()
        if settings.scale != "smoke" or problem.name in SMOKE_PROBLEMS
    ]
    num_series = 1 + len(selected) * (1 + len(solvers()))
    with jax.enable_x64(True), runner.Progress(total=num_series) as progress:
        compute = partial(compute_worst_cases, LONGEST_HORIZON[settings.scale])
        worst = run.series("worst cases", WorstCases, compute, progress=progress, steps=1)
        results = [_solve(run, progress, problem, settings) for problem in selected]
    run.save_figure("step_sizes", draw_gaps(results))
    run.save_figure("worst_cases", draw_worst_cases(worst))
    return make_results(settings, results, worst)


def _solve(
    run: runner.Run, progress: runner.Progress, problem: ConvexProblem, settings: Settings
) -> ProblemResult:
    """Runs every method on a problem."""
    budget = GRADIENT_BUDGET[settings.scale]
    reference = run.series(
        f"{problem.name}, minimum",
        ReferenceValues,
        partial(reference_values, problem),
        progress=progress,
        steps=1,
    )
    goal = Goal(reference, TARGET_GAP, budget, settings.margin)
    runs = {
        name: run.series(
            f"{problem.name}, {name}",
            MethodRun,
            partial(solve, problem, goal),
            progress=progress,
            steps=1,
            loss=lambda run: np.fmin.reduce(run.curve),
        )
        for name, solve in solvers().items()
    }
    return ProblemResult(problem.name, len(problem.start), runs, budget)
