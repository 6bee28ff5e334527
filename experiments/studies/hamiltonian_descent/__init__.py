"""Quantum Hamiltonian descent on 22 functions, beside multi-agent descent and jd.hybrid.

The quantum algorithm is simulated in its published setting: a uniform start on a periodic grid of
N x N points, a = 2 / (0.001 + t^3), b = 2 t^3, T = 10 in steps of 0.001. Its result is the
probability that one measurement is within 0.1 of the minimizer, in units of the box. The classical
methods have N^2 function values, which is the number that the simulation evaluates, and the same
measure of success: the share of their runs that end within 0.1.

A second table has the form with a gradient term on its three published functions.

A run that is interrupted goes on with the next function.
"""

from experiments import runner
from experiments.studies.hamiltonian_descent import figure, methods
from experiments.studies.hamiltonian_descent.functions import GRADIENT_BENCHMARKS, shared_problems
from experiments.studies.hamiltonian_descent.methods import Classical, Waves
from experiments.studies.hamiltonian_descent.report import make_results
from experiments.studies.hamiltonian_descent.settings import Settings

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs all methods on all functions and draws the figures."""
    waves: dict[str, Waves] = {}
    classical: dict[str, Classical] = {}
    gradient: dict[str, Waves] = {}
    total = 2 * len(settings.functions) + len(settings.gradient_functions)
    with runner.Progress(total=total) as progress:

        def failure(waves: Waves) -> float:
            return 1 - float(waves.success[-1])

        for name, problem in shared_problems(settings.functions).items():
            waves[name] = run.series(
                f"QHD, {name}",
                Waves,
                lambda problem=problem: methods.quantum(problem, settings),
                progress=progress,
                steps=1,
                loss=failure,
            )
            classical[name] = run.series(
                f"classical, {name}",
                Classical,
                lambda problem=problem: methods.classical(problem, settings),
                progress=progress,
                steps=1,
                loss=lambda found: 1 - float(found.magd),
            )
        for name in settings.gradient_functions:
            gradient[name] = run.series(
                f"gradient QHD, {name}",
                Waves,
                lambda name=name: methods.gradient_quantum(GRADIENT_BENCHMARKS[name], settings),
                progress=progress,
                steps=1,
                loss=failure,
            )
    run.save_figure("1_wave", figure.draw_waves(waves, settings))
    run.save_figure("2_success", figure.draw_success(waves, classical))
    return make_results(settings, waves, classical, gradient)
