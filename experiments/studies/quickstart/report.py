"""The tables of the quickstart, with their notes."""

from collections.abc import Sequence

import numpy as np

from experiments import runner
from experiments.studies.quickstart.costs import Cost
from experiments.studies.quickstart.pruning import AGENTS, LOG10_RATES, PruningComparison
from experiments.studies.quickstart.settings import Settings
from experiments.studies.quickstart.starts import HYPER_RATE, METHODS, Sweep

COLUMNS = (
    "method",
    "best test accuracy %",
    "from",
    "median %",
    "worst %",
    "within 1 point",
    "learned rates",
    "step time",
)


def results(
    settings: Settings,
    starts: Sequence[float],
    swept: Sequence[Sweep],
    compared: Sequence[PruningComparison],
    costs: Sequence[Cost],
) -> runner.Results:
    """Returns the table, the notes and the numbers."""
    fixed = {m.optimizer: s for m, s in zip(METHODS, swept, strict=True) if m.kind == "fixed"}
    rows, values = [], {}
    for method, sweep in zip(METHODS, swept, strict=True):
        reference = fixed[method.optimizer]
        accuracies, best = sweep.mean_accuracies, sweep.best
        close = int(np.sum(accuracies >= reference.mean_accuracies[reference.best] - 1))
        slowdown = float(reference.steps_per_second / sweep.steps_per_second)
        rates = np.exp(np.log(sweep.rates).mean(1))
        learned = "-" if method.kind.startswith("fixed") else _span(rates)
        rows.append(
            (
                method.name,
                f"{accuracies[best]:.1f} ± {sweep.accuracies[best].std():.1f}",
                f"{starts[best]:.0e}",
                f"{np.median(accuracies):.1f}",
                f"{accuracies.min():.1f}",
                f"{close} of {len(starts)}",
                learned,
                f"{slowdown:.2f}",
            )
        )
        values[method.name] = {**sweep._asdict(), "starts": starts}
    values["costs"] = {f"{cost.optimizer}, {cost.name}": cost._asdict() for cost in costs}
    values["populations"] = [each._asdict() for each in compared]
    return runner.Results(
        "Training without choosing a learning rate", COLUMNS, rows, _notes(settings, costs), values
    )


def _span(rates: np.ndarray) -> str:
    return f"{np.nanmin(rates):.1e} .. {np.nanmax(rates):.1e}"


def _notes(settings: Settings, costs: Sequence[Cost]) -> list[str]:
    low, high = LOG10_RATES
    listed = "; ".join(
        f"{cost.optimizer}, {cost.name}: {cost.accuracies.mean():.1f} ± "
        f"{cost.accuracies.std():.1f}% at {cost.trainings:.3g} times the gradients"
        for cost in costs
    )
    return [
        f"Cost of choosing the learning rate, relative to one training: {listed}.",
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
        f"Accuracies are on 360 test images, means over {settings.seeds} networks. 'best' is from "
        "the initial learning rate with the least validation loss, which 'from' shows; 'median' "
        "and 'worst' are over all initial learning rates. 'within 1 point' counts those that come "
        "within one percentage point of the best fixed learning rate. Self-tuning and 'averaged' "
        "are evaluated at the average of the parameters. 'step time' is relative to the fixed "
        "learning rate.",
    ]
