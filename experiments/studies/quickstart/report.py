"""The tables of the quickstart, with their notes."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments import runner
from experiments.studies.quickstart.costs import Cost
from experiments.studies.quickstart.pruning import AGENTS, LOG10_RATES, PruningComparison
from experiments.studies.quickstart.settings import Settings
from experiments.studies.quickstart.starts import HYPER_RATE, Method, Sweep

COLUMNS = (
    "method",
    "test accuracy %",
    "selected rate",
    "median %",
    "worst %",
    "within 1 point",
    "learned rates",
    "step time",
)


def results(
    settings: Settings,
    starts: Sequence[float],
    swept: Mapping[Method, Sweep],
    compared: Sequence[PruningComparison],
    costs: Sequence[Cost],
) -> runner.Results:
    """Returns the tables, the notes and the numbers."""
    fixed = {method.optimizer: s for method, s in swept.items() if method.kind == "fixed"}
    rows, close = [], {}
    for method, sweep in swept.items():
        reference = fixed[method.optimizer]
        best_fixed = reference.mean_accuracies[reference.best]
        close[method] = int(np.sum(sweep.mean_accuracies >= best_fixed - 1))
        slowdown = float(reference.steps_per_second / sweep.steps_per_second)
        rows.append(_row(method, sweep, starts, close[method], slowdown))
    counts = [
        f"{count} with {_in_words(method)}"
        for method, count in close.items()
        if method.optimizer == "Adam" and method.kind != "fixed, averaged"
    ]
    verdict = (
        f"Of {len(starts)} initial learning rates of Adam, these come within one percentage point "
        f"of the best fixed one: {', '.join(counts)}."
    )
    by_name = {m.name: {**sweep._asdict(), "starts": starts} for m, sweep in swept.items()}
    values = {
        **by_name,
        "costs": {f"{cost.optimizer}, {cost.name}": cost._asdict() for cost in costs},
        "populations": [each._asdict() for each in compared],
    }
    title = "Training without choosing a learning rate"
    tables = [_costs_table(costs)]
    return runner.Results(title, COLUMNS, rows, _notes(settings), values, verdict, tables)


def _in_words(method: Method) -> str:
    if method.kind == "tower":
        return f"a tower of height {method.height}"
    return "a fixed learning rate" if method.kind == "fixed" else method.kind


def _row(
    method: Method, sweep: Sweep, starts: Sequence[float], close: int, slowdown: float
) -> tuple[str, ...]:
    accuracies, best = sweep.mean_accuracies, sweep.best
    rates = np.exp(np.log(sweep.rates).mean(1))
    learns = not method.kind.startswith("fixed")
    return (
        method.name,
        f"{accuracies[best]:.1f} ± {sweep.accuracies[best].std():.1f}",
        f"{starts[best]:.0e}",
        f"{np.median(accuracies):.1f}",
        f"{accuracies.min():.1f}",
        f"{close} of {len(starts)}",
        f"{np.nanmin(rates):.1e} .. {np.nanmax(rates):.1e}" if learns else "-",
        f"{slowdown:.2f}",
    )


def _costs_table(costs: Sequence[Cost]) -> runner.Table:
    rows = [
        (
            f"{cost.optimizer}, {cost.name}",
            f"{cost.accuracies.mean():.1f} ± {cost.accuracies.std():.1f}",
            f"{cost.trainings:.3g}",
        )
        for cost in costs
    ]
    columns = ("learning rate", "test accuracy %", "gradients / one training")
    return runner.Table(columns, rows, "Cost of choosing the learning rate")


def _notes(settings: Settings) -> list[str]:
    low, high = LOG10_RATES
    return [
        "Self-tuning gives the same result from every initial learning rate of 1e-8 or more, "
        "because it first tests far lower ones, and begins again from the initial parameters. The "
        "steps of this test count as training steps.",
        f"Towers learn the learning rate in log space by Adam with learning rate {HYPER_RATE}; "
        "each further level learns the learning rate of the level below in the same way. They "
        "start at the initial learning rate; if it is so large that it destroys the network, they "
        "do not recover.",
        f"'{AGENTS} random rates' is a population of {AGENTS} networks with learning rates drawn "
        f"log-uniformly from 1e{low:.0f} to 1e{high:.0f}, trained by Adam, of which the one with "
        "the least validation loss is taken; 'pruned' is the same population with successive "
        f"halving by validation loss. Means over {settings.populations} populations; ± is the "
        "standard deviation.",
        f"Accuracies are on 360 test images, means over {settings.seeds} networks. The first is "
        "from 'selected rate', the initial learning rate with the least validation loss; 'median' "
        "and 'worst' are over all initial learning rates. 'within 1 point' counts those that come "
        "within one percentage point of the best fixed learning rate. Self-tuning and 'averaged' "
        "are evaluated at the average of the parameters. 'step time' is from the fastest epoch, "
        "relative to the fixed learning rate.",
    ]
