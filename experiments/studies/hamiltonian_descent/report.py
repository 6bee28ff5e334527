"""The tables, the verdict and the notes of the study."""

from collections.abc import Mapping

import numpy as np

from experiments import runner
from experiments.studies.hamiltonian_descent.functions import BENCHMARKS, GRADIENT_BENCHMARKS
from experiments.studies.hamiltonian_descent.methods import AGENTS, TIE, Classical, Waves
from experiments.studies.hamiltonian_descent.settings import Settings

COLUMNS = (
    "function",
    "QHD, published",
    "QHD",
    "difference",
    "one descent",
    "MAGD",
    "jd.hybrid",
    "values to jd.hybrid's best",
    "NAGD, SGD published",
)
GRADIENT_COLUMNS = (
    "function",
    "with gradient, published",
    "with gradient",
    "without, published",
    "without",
    "NAG, SGDM published",
)
CLOSE = 0.03
"""Largest difference from the published probability that counts as reproduced."""

FAILURE = 0.5
"""A probability of success below this is a failure."""


def make_results(
    settings: Settings,
    waves: Mapping[str, Waves],
    classical: Mapping[str, Classical],
    gradient: Mapping[str, Waves],
) -> runner.Results:
    """Returns the tables, the verdict and the notes."""
    rows = [_row(name, found, classical[name]) for name, found in waves.items()]
    tables = []
    if gradient:
        title = "With a gradient term: probability of a value less than 1 above the minimum"
        cells = [_gradient_row(name, found) for name, found in gradient.items()]
        tables.append(runner.Table(GRADIENT_COLUMNS, cells, title))
    values = {
        name: {
            "published": BENCHMARKS[name].published,
            "success": float(found.success[-1]),
            "norm": float(found.norm),
            **{key: float(value) for key, value in classical[name]._asdict().items()},
        }
        for name, found in waves.items()
    }
    values |= {
        f"gradient, {name}": {
            "success": float(found.success[-1]),
            "without": float(found.plain_success),
            "norm": float(found.norm),
        }
        for name, found in gradient.items()
    }
    points = settings.size.points
    title = f"Quantum Hamiltonian descent on {len(waves)} functions, {points} x {points} points"
    notes = _notes(settings, waves, classical)
    verdict = _verdict(waves, classical)
    return runner.Results(title, COLUMNS, rows, notes, values, verdict, tables)


def _published(value: float) -> str:
    return ">.999" if value == 1 else f"{value:.3f}"


def _row(name: str, waves: Waves, classical: Classical) -> tuple[str, ...]:
    benchmark, success = BENCHMARKS[name], float(waves.success[-1])
    peers = benchmark.classical
    return (
        benchmark.title,
        _published(benchmark.published),
        f"{success:.3f}",
        f"{success - benchmark.published:+.3f}",
        f"{classical.descent:.3f}",
        f"{classical.magd:.2f}",
        f"{classical.hybrid:.2f}",
        f"{classical.hybrid_to_best:.0f}",
        f"{peers[0]:.3f}, {peers[1]:.3f}" if peers else "-",
    )


def _gradient_row(name: str, waves: Waves) -> tuple[str, ...]:
    benchmark = GRADIENT_BENCHMARKS[name]
    with_term, without, *peers = benchmark.published
    return (
        benchmark.title,
        f"{with_term:.2f}",
        f"{waves.success[-1]:.3f}",
        f"{without:.2f}",
        f"{waves.plain_success:.3f}",
        ", ".join(f"{value:.2f}" for value in peers),
    )


def _verdict(waves: Mapping[str, Waves], classical: Mapping[str, Classical]) -> str:
    """Compares with the published probabilities, and with the classical methods."""
    success = {name: float(found.success[-1]) for name, found in waves.items()}
    differences = [abs(value - BENCHMARKS[name].published) for name, value in success.items()]
    close = sum(difference <= CLOSE for difference in differences)
    failures = [BENCHMARKS[name].title for name, value in success.items() if value < FAILURE]
    better = {
        method: sum(getattr(classical[name], method) >= value for name, value in success.items())
        for method in ("descent", "magd", "hybrid")
    }
    count = len(success)
    failed = f"It fails, below {FAILURE:g}, on {', '.join(failures)}. " if failures else ""
    return (
        f"QHD is within {CLOSE:g} of its published probability of success on {close} of {count} "
        f"functions (largest difference {max(differences):.3f}); its mean is "
        f"{np.mean(list(success.values())):.3f}. {failed}With the same number of function values, "
        f"jd.hybrid succeeds at least as often on {better['hybrid']} of {count} functions, MAGD on "
        f"{better['magd']}, and one descent by Adam on {better['descent']}."
    )


def _notes(
    settings: Settings, waves: Mapping[str, Waves], classical: Mapping[str, Classical]
) -> list[str]:
    size = settings.size
    points, budget = size.points, size.points**2
    norms = [abs(float(found.norm) - 1) for found in waves.values()]
    magd = np.mean([found.magd_values for found in classical.values()])
    hybrid = np.mean([found.hybrid_values for found in classical.values()])
    return [
        f"QHD: {points} x {points} points, T = {settings.end_time:g}, steps of {size.time_step:g}, "
        "uniform start, complex64. Success: the probability of one measurement within "
        f"{settings.radius:g} of the minimizer, in units of the box. The norm of the wave differs "
        f"from 1 by at most {max(norms):.1e}.",
        f"The simulation evaluates the function at all {budget:,} grid points, so it is not a way "
        "to find a minimum: the lowest of those values is known before the first step. Hardware "
        "would need a circuit of the function and a qubit register for each coordinate.",
        f"MAGD ({AGENTS} agents, successive halving) and jd.hybrid may use as many function values "
        f"({budget:,}; a value with its gradient counts once), {size.runs} runs each; they used "
        f"{magd:,.0f} and {hybrid:,.0f} on average. One descent: Adam with {points} steps, the "
        f"share of {size.runs * budget // points:,} descents from uniform starts. The wave "
        "starts at all grid points at once, so it is compared with methods of many starts.",
        "Only the published minimizer counts. Alpine 1 has others with the same value, at which "
        "the classical methods may end.",
        "NAGD and SGD are Nesterov's method and stochastic gradient descent from random starts, as "
        "published beside QHD.",
        "The gradient term is integrated by orthogonal matrices; the published code uses an "
        "explicit step. Published numbers are read off figures. Their gap of 1 ties, to within "
        "rounding, with the floor of a valley of Michalewicz's function, which counted as a "
        f"success; a gap of {TIE:g} includes it without a tie.",
    ]
