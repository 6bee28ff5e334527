"""The table and the notes of the study of shallow networks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import runner
from experiments.studies.shallow_nets.networks import HIDDEN_UNITS
from experiments.studies.shallow_nets.settings import (
    AGENTS,
    ALLOWED_COMPUTE,
    BATCH_SIZE,
    ETA,
    REGIMES,
    TARGET_REGRET,
    UNPRUNED_RUNGS,
)
from experiments.studies.shallow_nets.training import PruningComparison

Comparisons = Mapping[str, Mapping[str, Sequence[PruningComparison]]]
"""The comparisons of all seeds, by task, then by regime."""


class Means(NamedTuple):
    """Means over seeds, of one task and regime.

    Attributes:
      validation_regret, test_regret, unpruned_test_regret, compute: see `PruningComparison`.
    """

    validation_regret: float
    test_regret: float
    unpruned_test_regret: float
    compute: float


REGRETS = {
    "validation_regret": "validation",
    "test_regret": "test",
    "unpruned_test_regret": "test unpruned",
}
"""The table's columns for each regime."""


def mean_over_seeds(comparisons: Sequence[PruningComparison]) -> Means:
    """Returns the means of a task's comparisons under one regime."""
    return Means(
        *(
            float(np.mean([getattr(comparison, field) for comparison in comparisons]))
            for field in Means._fields
        )
    )


def make_results(comparisons: Comparisons, steps: int) -> runner.Results:
    """Returns the table and the notes."""
    means = {
        task: {regime: mean_over_seeds(found) for regime, found in regimes.items()}
        for task, regimes in comparisons.items()
    }
    rows = [(task, *_cells([each])) for task, each in means.items()]
    rows.append(("median", *_cells([*means.values()], np.median)))
    rows.append(("worst", *_cells([*means.values()], np.max)))
    columns = ("task", *(f"{regime}: {name}" for regime in REGIMES for name in REGRETS.values()))
    values = {
        task: {regime: each._asdict() for regime, each in regimes.items()}
        for task, regimes in means.items()
    }
    title = "Pruned training of shallow networks"
    notes = _notes(comparisons, means, steps)
    return runner.Results(title, columns, rows, notes, values, _verdict(means))


def _verdict(means: Mapping[str, Mapping[str, Means]]) -> str:
    """Returns on how many tasks pruning keeps the best agent, for each regime."""
    compute = max(each.compute for regimes in means.values() for each in regimes.values())
    counts = []
    for regime in REGIMES:
        regrets = [regimes[regime].validation_regret for regimes in means.values()]
        reached = sum(regret <= TARGET_REGRET for regret in regrets)
        counts.append(f'{reached} under "{regime}" (worst {max(regrets):.1%})')
    return (
        f"With at most {compute:.1%} of the compute of {AGENTS} full trainings, pruning keeps the "
        f"validation regret at or below {TARGET_REGRET:.0%} on, of {len(means)} tasks: "
        f"{', '.join(counts)}."
    )


def _cells(
    means: Sequence[Mapping[str, Means]], summarize: Callable[[Any], Any] = np.mean
) -> list[str]:
    return [
        f"{round(100 * summarize([getattr(each[regime], field) for each in means]), 1) + 0.0:.1f}%"
        for regime in REGIMES
        for field in REGRETS
    ]  # adding 0.0 turns -0.0 into 0.0


def _notes(
    comparisons: Comparisons, means: Mapping[str, Mapping[str, Means]], steps: int
) -> list[str]:
    flat = [
        each for regimes in comparisons.values() for found in regimes.values() for each in found
    ]
    seeds = len(next(iter(comparisons.values()))["starts"])
    starts, constant = REGIMES["starts"], REGIMES["constant"]
    return [
        *(regime_note(regime, means) for regime in REGIMES),
        "Regret is the loss of the selected agent minus the loss of the best of all "
        f"{AGENTS} fully trained agents, relative to the range from the best to the worst of them. "
        '"validation": the pruned run\'s best agent, on the validation examples by which agents '
        'are pruned and selected; without pruning this regret is 0. "test": the same agent on test '
        'examples, which do not influence training or selection. "test unpruned": the test '
        f"regret of the agent with the lowest validation loss of all {AGENTS}, without pruning. A "
        "rule that sees only validation losses cannot be expected to have a lower test regret.",
        f"Each run trains {AGENTS} agents for {steps} steps of Adam on batches of at most "
        f"{BATCH_SIZE} examples; a network has {HIDDEN_UNITS} hidden units. There is one pruning "
        f"rule for all tasks: after the first {UNPRUNED_RUNGS} of {len(flat[0].curves)} rungs, "
        f"each rung keeps 1 / {ETA:g} of the agents, rounded up. Cells are means over {seeds} "
        "seeds.",
        f'Regimes: in "starts" the learning rate decays from {starts.learning_rate:g} to 0 on a '
        'cosine schedule. In "rates" each agent\'s initial learning rate is drawn log-uniformly '
        "from 1e-4 to 1e-1. Both evaluate networks at a running average of their parameters. In "
        f'"constant" the learning rate is {constant.learning_rate:g} throughout, without '
        f"averaging. The test loss of the selected agent of all {AGENTS} is "
        f'{_relative_loss(comparisons, "starts"):.3f} times its value under "constant" for '
        f'"starts" and {_relative_loss(comparisons, "rates"):.3f} times for "rates" (geometric '
        "means over tasks).",
        f"Single runs with a validation regret of at most {TARGET_REGRET:.0%}: "
        f"{'; '.join(_single_runs(comparisons, regime) for regime in REGIMES)}. A run is decided "
        f"late if the best validation loss of all {AGENTS} agents comes after the first pruning. "
        "If it is before, as on small data sets that are quickly overfitted, pruning cannot cause "
        "regret. The pruning rule, the decaying learning rate and the decay of the average were "
        "chosen on other seeds (100 and above).",
        "Agents have the same losses to the bit in the pruned run and in the full training, until "
        f"they are pruned, in {sum(bool(x.bitwise_equal) for x in flat)} of {len(flat)} runs.",
    ]


def regime_note(regime: str, means: Mapping[str, Mapping[str, Means]]) -> str:
    """Summarizes the regrets and the compute of a regime over tasks."""

    def summary(field: str) -> str:
        values = {task: getattr(each[regime], field) for task, each in means.items()}
        worst = max(values, key=lambda task: values[task])
        reached = sum(value <= TARGET_REGRET for value in values.values())
        return (
            f"median {np.median([*values.values()]):.1%}, worst {values[worst]:.1%} ({worst}), "
            f"at most {TARGET_REGRET:.0%} on {reached} of {len(values)} tasks"
        )

    compute = max(each[regime].compute for each in means.values())
    return (
        f'Regime "{regime}" ({REGIMES[regime].title}), with {compute:.1%} of the compute (allowed: '
        f"{ALLOWED_COMPUTE:.0%}). Validation regret (target: {TARGET_REGRET:.0%}): "
        f"{summary('validation_regret')}. Test regret: {summary('test_regret')}. Test regret "
        f"without pruning: {summary('unpruned_test_regret')}."
    )


def _single_runs(comparisons: Comparisons, regime: str) -> str:
    found = [each for regimes in comparisons.values() for each in regimes[regime]]
    late = [each for each in found if not each.decided_early]

    def count(some: Sequence[PruningComparison]) -> int:
        return sum(each.validation_regret <= TARGET_REGRET for each in some)

    worst = max(each.validation_regret for each in found)
    return (
        f'"{regime}" {count(found)} of {len(found)}, {count(late)} of the {len(late)} decided '
        f"late, worst {worst:.1%}"
    )


def _relative_loss(comparisons: Comparisons, regime: str) -> float:
    """Returns the selected agent's test loss relative to the regime "constant"."""

    def mean_test_loss(found: Sequence[PruningComparison]) -> float:
        return float(np.mean([each.test[np.argmin(each.validation)] for each in found]))

    ratios = [
        mean_test_loss(regimes[regime]) / mean_test_loss(regimes["constant"])
        for regimes in comparisons.values()
    ]
    return float(np.exp(np.mean(np.log(ratios))))
