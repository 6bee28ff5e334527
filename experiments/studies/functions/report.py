"""The table and the notes of the study of test functions."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import runner
from experiments.studies.functions.comparison import (
    Chosen,
    Table,
    in_high_dimension,
    methods_of,
    multistart_agents,
    oracle,
)
from experiments.studies.functions.methods import (
    ETA,
    JUMP_PERIODS,
    JUMP_SCALES,
    RUNGS,
    Kind,
    Method,
    SearchResult,
)
from experiments.studies.functions.selection_risk import (
    CUTS,
    NUM_AGENTS,
    NUM_RUNGS,
    STEPS_PER_RUNG,
    SelectionRisk,
)
from experiments.studies.functions.settings import (
    ADAM_RATES,
    GD_RATES,
    MULTIMODAL,
    NUM_TUNING_SEEDS,
    SOLVED,
    Setup,
)
from experiments.success_rates import percent


class StudyResult(NamedTuple):
    """All results of the study.

    Attributes:
      setup: the amount of work.
      table: the results in two dimensions, by method and function.
      chosen: the methods that the report shows.
      high: the results in many dimensions.
      risks: the risk of pruning the best agent, by function.
    """

    setup: Setup
    table: Table
    chosen: Chosen
    high: Table
    risks: Mapping[str, SelectionRisk]

    def reported(self, method: Method) -> dict[str, SearchResult]:
        """Returns a method's results in two dimensions without the tuning seeds."""
        return {
            name: result.select(slice(self.setup.runs))
            for name, result in self.table[method].items()
        }

    def success(self, method: Method) -> float:
        """Returns a method's success rate on the hard functions in two dimensions, in percent."""
        results = self.reported(method)
        return 100 * float(
            np.mean([results[name].solved.mean() for name in self.setup.hard_functions])
        )


class Column(NamedTuple):
    """A column of the table.

    Attributes:
      heading: the column's heading.
      planar: the reported results in two dimensions, by function.
      high: the results in many dimensions; empty if the method did not run there.
    """

    heading: str
    planar: Mapping[str, SearchResult]
    high: Mapping[str, SearchResult]


def label(method: Method) -> str:
    """Returns a name that tells a method from all others."""
    agents = f", {method.agents} agents" if method.agents > 1 else ""
    rate = f", learning rate {method.learning_rate:g}" if method.learning_rate else ""
    return f"{method.kind}{agents}{rate}, {method.budget} gradients"


def columns(result: StudyResult) -> list[Column]:
    """Returns the columns of the table."""
    setup, chosen = result.setup, result.chosen

    def column(heading: str, method: Method, *, is_high: bool = False) -> Column:
        high = result.high.get(in_high_dimension(method, setup), {}) if is_high else {}
        return Column(heading, result.reported(method), high)

    def oracle_column(heading: str, kind: Kind) -> Column:
        methods = methods_of(result.table, kind, setup.budget)
        best = {
            name: result.reported(oracle(result.table, methods, name, setup.runs))[name]
            for name in setup.functions
        }
        return Column(heading, best, {})

    found = [
        column("MAGD", chosen.magd, is_high=True),
        column(f"{chosen.unpruned.agents} agents unpruned", chosen.unpruned, is_high=True),
    ]
    if chosen.unpruned_4x:
        heading = f"{chosen.unpruned_4x.agents} agents unpruned, 4 x gradients"
        found.append(column(heading, chosen.unpruned_4x))
    baselines = (
        (Kind.MULTISTART, chosen.multistart, True),
        (Kind.ADAM, chosen.adam, True),
        (Kind.GD, chosen.gd, False),
    )
    for kind, method, is_high in baselines:
        found.append(column(f"{kind} {method.learning_rate:g}", method, is_high=is_high))
        found.append(oracle_column(f"{kind}, oracle", kind))
    found.append(column(str(Kind.BACKTRACKING), chosen.backtracking))
    return found


def make_results(result: StudyResult) -> runner.Results:
    """Returns the table and the notes."""
    shown = columns(result)
    headings = ("function", *(column.heading for column in shown))
    values = {
        "2-D": _values(result.table),
        f"{result.setup.high_dimension}-D": _values(result.high),
        "selection risk": {name: risk._asdict() for name, risk in result.risks.items()},
    }
    title, rows = "Test functions", _rows(result, shown)
    return runner.Results(title, headings, rows, notes(result), values, verdict(result))


def _values(table: Table) -> dict[str, Any]:
    return {
        label(method): {
            name: {**result._asdict(), "solved": result.solved} for name, result in results.items()
        }
        for method, results in table.items()
    }


def _rows(result: StudyResult, shown: Sequence[Column]) -> list[list[str]]:
    setup, hard = result.setup, result.setup.hard_functions
    rows = [
        [f"{name}, 2-D", *(_cell(column.planar, [name]) for column in shown)]
        for name in setup.functions
    ]
    for heading, names in (("the hard eight, 2-D", hard), ("all, 2-D", setup.functions)):
        rows.append([heading, *(_cell(column.planar, names) for column in shown)])
    for count in ("gradients", "evaluations"):
        means = [[getattr(column.planar[n], count).mean() for n in hard] for column in shown]
        rows.append([f"mean {count}, the hard eight", *(f"{np.mean(x):,.0f}" for x in means)])
    if result.high:
        dimension = f"{setup.high_dimension}-D"
        rows += [[f"{name}, {dimension}", *(_cell(c.high, [name]) for c in shown)] for name in hard]
        rows.append([f"the hard eight, {dimension}", *(_cell(c.high, hard) for c in shown)])
    return rows


def _cell(results: Mapping[str, SearchResult], functions: Sequence[str]) -> str:
    if not all(name in results for name in functions):
        return "-"
    solved = [results[name].solved for name in functions]
    return percent(sum(int(x.sum()) for x in solved), sum(map(len, solved)))


def verdict(result: StudyResult) -> str:
    """Returns the success rate of MAGD on the hard functions."""
    return (
        f"On the hard eight functions in 2-D ({', '.join(result.setup.hard_functions)}) MAGD "
        f"succeeds in {result.success(result.chosen.magd):.1f}% of the runs (target: 95%)."
    )


def notes(result: StudyResult) -> list[str]:
    """Returns the notes below the table."""
    setup, chosen = result.setup, result.chosen
    magd = result.success(chosen.magd)
    found = [
        f"Cells show success rates in percent, with 95% Wilson intervals, of {setup.runs} runs per "
        f"function. A run succeeds if it finds a value within {SOLVED:g} of the minimum with "
        f"{setup.budget:,} gradients. Rows for several functions pool all their runs. Every run "
        "draws the shift and rotation of the function and the initial points.",
        f"MAGD (multi-agent gradient descent) starts {setup.agents} agents. There are {RUNGS} "
        f"rungs with equal numbers of gradients, and after each one the best 1 / {ETA:g} of the "
        "agents survive, by the best value that an agent has found. The agents' jump scales are "
        f"spread evenly on a logarithmic scale over {JUMP_SCALES} of the box width, their jump "
        f"periods over {JUMP_PERIODS} steps. There is one setting for all functions, chosen by "
        f"hand on {NUM_TUNING_SEEDS} other seeds. It is a baseline for pruning; to find a minimum, "
        "call jd.hybrid, which has nothing to tune.",
        "Columns with a learning rate or a number of agents show the setting with the most "
        f"successes on {setup.tuning_runs} tuning seeds of the hard eight. Oracle columns show, "
        "for each function, the setting from the same grid that is best on the reported runs. "
        f"Grids: learning rates {ADAM_RATES} of the box width for Adam and multistart (Adam from "
        f"{multistart_agents(setup)} starts), with cosine decay to 0; {GD_RATES} for gradient "
        f"descent (GD); {setup.unpruned_agents} unpruned agents of the same kind as MAGD's.",
    ]
    adaptive = methods_of(result.table, Kind.MAGD_ADAPTIVE, setup.budget)
    found += [
        "With the default rule `jd.pruning.adaptive` instead of successive halving, the same "
        f"agents and rungs succeed in {result.success(method):.1f}% of the runs on the hard eight "
        "in 2-D."
        for method in adaptive
    ]
    found += [_budget_note(result, factor, magd) for factor in setup.budget_factors if factor > 1]
    if result.high:
        found.append(_high_dimension_note(result))
    found += [_risk_note(name, risk) for name, risk in result.risks.items()]
    found.append(
        f"The pruning risk is measured on {NUM_AGENTS} agents of Adam that all run for "
        f"{STEPS_PER_RUNG * NUM_RUNGS} steps. r is the correlation of the normal scores of the "
        "ranks at the cut and at the end, and the prediction assumes a Gaussian copula with this "
        'correlation. "Harmful" means that the best kept agent ended more than '
        f"{SOLVED:g} above the best of all. Where several agents end in the same minimum, "
        "rounding decides which of them is best; ranks cannot predict this, and pruning that "
        "agent does no harm.",
    )
    return found


def _budget_note(result: StudyResult, factor: float, magd: float) -> str:
    """Compares MAGD with unpruned methods that have a larger budget."""
    budget = int(factor * result.setup.budget)
    unpruned = methods_of(result.table, Kind.UNPRUNED, budget)
    multistart = methods_of(result.table, Kind.MULTISTART, budget)
    rates = {
        **{f"{method.agents} unpruned agents": result.success(method) for method in unpruned},
        **{f"multistart {m.learning_rate:g}": result.success(m) for m in multistart},
    }
    shown = ", ".join(f"{name} {rate:.1f}%" for name, rate in rates.items())
    conclusion = (
        f"All of them need more than {factor:g} times MAGD's gradients for its success rate."
        if max(rates.values()) < magd
        else f"Not all of them need more than {factor:g} times MAGD's gradients for its success "
        "rate."
    )
    return (
        f"Success rates without pruning on the hard eight, with {budget:,} gradients "
        f"({factor:g} times MAGD's): {shown}. {conclusion}"
    )


def _high_dimension_note(result: StudyResult) -> str:
    setup = result.setup
    rates = []
    for column in columns(result):
        if column.high:
            solved = [100 * column.high[name].solved.mean() for name in MULTIMODAL]
            rates.append(f"{column.heading} {np.mean(solved):.0f}% (at most {max(solved):.0f}%)")
    return (
        f"Success rates in {setup.high_dimension}-D with {setup.high_budget:,} gradients and "
        f"{setup.high_runs} runs per function, averaged over {', '.join(MULTIMODAL)}: "
        f"{'; '.join(rates)}. In none of these methods do agents exchange information."
    )


def _risk_note(name: str, risk: SelectionRisk) -> str:
    cuts = []
    for cut, (rung, count) in enumerate(CUTS.items()):
        pruned, runs = int(risk.pruned[:, cut].sum()), len(risk.pruned)
        cuts.append(
            f"{count} agents kept after {(rung + 1) * STEPS_PER_RUNG} steps: r = "
            f"{risk.correlation[:, cut].mean():.2f}, predicted "
            f"{100 * risk.predicted[:, cut].mean():.1f}%, measured {percent(pruned, runs)}%, "
            f"harmful {100 * risk.harmful[:, cut].mean():.0f}%"
        )
    return f"Risk of pruning the best agent, {name}: {'; '.join(cuts)}."
