"""The tables of the study, with its notes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import runner
from experiments.studies.history.descent import SETTLED, Path
from experiments.studies.history.figures import LONGEST, Found
from experiments.studies.history.landscapes import Landscape
from experiments.studies.history.methods import (
    HYPER_RATE,
    METHODS,
    MOMENTUM,
    TOWER_RATE,
    WEIGHT_DECAY,
)
from experiments.studies.history.network import Training
from experiments.studies.history.settings import SOLVED, Setup

COLUMNS = (
    "year, method and what it added",
    "solved",
    "evaluations, median",
    "with tuning",
    "network, test loss",
    "accuracy %",
    "gradients with tuning",
)


def make_results(
    setup: Setup,
    landscapes: Mapping[str, Landscape],
    found: Found,
    trainings: Mapping[str, Training],
) -> runner.Results:
    """Returns the tables, the notes and the numbers."""
    rows = [_row(name, found, trainings.get(name)) for name in setup.methods]
    values: dict[str, Any] = {
        landscape: {name: _numbers(path) for name, path in paths.items()}
        for landscape, paths in found.items()
    }
    values["network"] = {name: training._asdict() for name, training in trainings.items()}
    tables = [_evaluations_table(setup, landscapes, found), _sources_table(setup)]
    return runner.Results(
        "From Cauchy to now",
        COLUMNS,
        rows,
        notes(setup, found, trainings),
        values,
        verdict(setup, found, trainings),
        tables,
    )


def _numbers(path: Path) -> dict[str, float]:
    return {
        "learning_rate": float(path.learning_rate),
        "reached": int(path.reached),
        "tuned": int(path.tuned),
        "least": float(path.least[-1]),
        "evaluations": int(path.evaluations[-1]),
    }


def _row(name: str, found: Found, training: Training | None) -> tuple[str, ...]:
    method = METHODS[name]
    solved = [paths[name] for paths in found.values() if paths[name].reached >= 0]
    medians = [
        f"{np.median([getattr(path, field) for path in solved]):,.0f}" if solved else "-"
        for field in ("reached", "tuned")
    ]
    count = f"{len(solved)} of {len(found)}"
    network = ("-", "-", "-") if training is None else _network_cells(training)
    return (f"{method.year} {method.title}: {method.addition}", count, *medians, *network)


def _network_cells(training: Training) -> tuple[str, str, str]:
    return (
        f"{training.test.mean():.3f} ± {training.test.std():.3f}",
        f"{training.accuracies.mean():.1f}",
        f"{training.gradients[-1]:,.0f}",
    )


def _evaluations_table(
    setup: Setup, landscapes: Mapping[str, Landscape], found: Found
) -> runner.Table:
    rows = [
        (METHODS[name].title, *(_cell(paths[name]) for paths in found.values()))
        for name in setup.methods
    ]
    columns = ("method", *(landscapes[name].title for name in found))
    title = "Evaluations until solved, at the best learning rate of the grid for each landscape"
    return runner.Table(columns, rows, title)


def _cell(path: Path) -> str:
    reached = f"{path.reached:,}" if path.reached >= 0 else "-"
    return reached if np.isnan(path.learning_rate) else f"{reached} at {path.learning_rate:g}"


def _sources_table(setup: Setup) -> runner.Table:
    rows = [(f"{METHODS[name].label}: {METHODS[name].source}",) for name in setup.methods]
    return runner.Table(("source",), rows, "Sources")


def verdict(setup: Setup, found: Found, trainings: Mapping[str, Training]) -> str:
    """Returns what solved most landscapes, and the least test loss with and without tuning."""
    counts = {
        name: sum(int(paths[name].reached >= 0) for paths in found.values())
        for name in setup.methods
    }
    most = max(counts.values())
    best = " and ".join(METHODS[name].title for name, count in counts.items() if count == most)
    losses = {name: training.test.mean() for name, training in trainings.items()}
    parts = []
    for kind, words in (("grid", "with a tuned learning rate"), ("fixed", "without tuning")):
        among = {name: loss for name, loss in losses.items() if METHODS[name].kind == kind}
        if among:
            name = min(among, key=among.__getitem__)
            parts.append(
                f"{words} {among[name]:.3f} ({METHODS[name].title}, "
                f"{trainings[name].gradients[-1]:,.0f} gradients)"
            )
    return (
        f"Most landscapes, {most} of {len(found)}, are solved by {best}. The least test loss of "
        f"the network is {' and '.join(parts)}."
    )


def notes(setup: Setup, found: Found, trainings: Mapping[str, Training]) -> list[str]:
    """Returns the notes below the tables."""
    low, high = setup.rates[0], setup.rates[-1]
    ends = [
        f"{METHODS[name].title} on {place}"
        for place, paths in found.items()
        for name, path in paths.items()
        if path.learning_rate in (low, high)
    ]
    ends += [
        f"{METHODS[name].title} on the network"
        for name, training in trainings.items()
        if training.at_end
    ]
    written = [
        f"A landscape is solved at the first value less than {SOLVED:g} above its minimum, within "
        f"{setup.budget:,} evaluations. A gradient counts as one evaluation. A value counts if "
        f"the next {SETTLED - 1} are not higher, since paths at large learning rates pass through "
        "low values by chance. For MAGD and the hybrid it is the best value so far.",
        "All methods that descend from one point have the same start on a landscape, and so has "
        "the first agent of MAGD. The other agents and the hybrid begin at random points of the "
        "box; the results are of one seed.",
        f"Methods with a learning rate are shown at the best one of {len(setup.rates)} half "
        f"decades from {low:g} to {high:g}, chosen for each landscape with its minimum known: an "
        "upper bound on what a user reaches. 'With tuning' counts the evaluations of all these "
        "learning rates side by side until the first solves the landscape. Medians are over the "
        "solved landscapes.",
        f"One setting for all: momentum {MOMENTUM:g} where it is not Adam's, also for Nesterov; "
        f"decay {WEIGHT_DECAY:g} in AdamW, which pulls toward 0, where no minimum is; a tower of "
        f"Adam whose learning rate starts at {TOWER_RATE:g} and is trained by Adam at "
        f"{HYPER_RATE:g}; self-tuning Adam; Schedule-Free AdamW without decay and without warmup. "
        "Schedule-Free and self-tuning are evaluated, and drawn, at their averages.",
        f"MAGD has {setup.agents:,} agents and one setting, as in the study `functions`, where it "
        "was chosen on other functions and seeds; its evaluations are counted at the ends of "
        "parts of its rungs.",
        "Muon orthogonalizes matrices. A vector of two coordinates is a matrix of one column, "
        "whose orthogonalization is the vector divided by its length, up to a constant: Muon is "
        "then momentum with steps of constant length. The 2 x 2 matrix has curvatures 1 and 100 "
        "along its two singular directions. Gradient descent, momentum, Nesterov and Muon stay "
        "in the plane that is drawn; paths of methods that act on single coordinates are "
        "projected onto it, and their values are the true ones.",
        "Learning rates are constant, without a schedule. Methods whose steps do not shorten near "
        "a minimum then end at a distance from it that is proportional to the learning rate, and "
        "need a low one: Lion and Muon everywhere, and most methods on the roof. On Rastrigin, a "
        "descent from one point ends in a local minimum near it, or jumps about at a large "
        "learning rate; where it then ends is chance.",
        f"Paths are drawn until the landscape is solved (cross), and up to a length of {LONGEST:g} "
        "diagonals of the window.",
    ]
    if trainings:
        written.append(
            "Network: a multilayer perceptron 64-64-10 on the bundled digits, batches of 64, "
            f"{setup.epochs} epochs, {setup.seeds} seeds; ± is the standard deviation. A network "
            "is taken from its epoch with the least validation loss, and the best of "
            f"{setup.num_network_rates} half decades is chosen by this loss. Muon acts on both "
            "weight matrices, Adam with the same learning rate on the biases. MAGD is Adam with "
            "the learning rates of its grid, pruned by validation loss in ten rungs; its networks "
            "are from ends of rungs. `jd.hybrid` takes at most 2,000 coordinates, and the network "
            "has 4,810."
        )
    if ends:
        written.append(f"The best learning rate is at an end of its grid: {', '.join(ends)}.")
    return written
