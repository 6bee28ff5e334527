"""The tables of the study of `jd.hybrid`, with their notes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments import runner
from experiments.runner.page import Table
from experiments.studies.hybrid import ablation
from experiments.studies.hybrid.cells import Cell
from experiments.studies.hybrid.evaluations import GRADIENT_COST
from experiments.studies.hybrid.methods import (
    ADAM_RATE,
    CMA_SIGMA,
    DE_AGENTS,
    DE_LAST_RATE,
    DE_RATE,
    DE_SHARE,
    DE_STEPS,
    HALVING_AGENTS,
    HALVING_RATE,
    HOP,
    METHODS,
)
from experiments.studies.hybrid.settings import FIRST_INSTANCES, SUITES, Group
from experiments.studies.hybrid.suites import LARGEST_CUT
from experiments.success_rates import percent

COLUMNS = (
    "functions",
    "method",
    "success, %",
    f"gradient = {GRADIENT_COST}   ",
    "worst function",
    "evaluations to success",
    f"gradient = {GRADIENT_COST}",
    "evaluations per success",
    f"gradient = {GRADIENT_COST} ",
    "relative to jd.hybrid",
    f"gradient = {GRADIENT_COST}  ",
    "seconds",
)


class GroupResult(NamedTuple):
    """Results of a group of functions.

    Attributes:
      group: the group.
      cells: results by the method's name, then by the function's.
    """

    group: Group
    cells: Mapping[str, Mapping[str, Cell]]

    def rate(self, method: str) -> float:
        """Returns the success rate of a method in percent, averaged over functions."""
        return 100 * float(np.mean([cell.solved.mean() for cell in self.cells[method].values()]))


def make_results(found: Sequence[GroupResult], skipped: Sequence[str]) -> runner.Results:
    """Returns the tables and the notes.

    Args:
      found: results of the groups, in the order of the tables.
      skipped: a sentence for each method that was left out.
    """
    suites = list(dict.fromkeys(result.group.suite for result in found))
    tables = []
    for suite in suites:
        of_suite = [result for result in found if result.group.suite == suite]
        rows = [row for result in of_suite for row in _rows(result)]
        tables.append(Table(COLUMNS, rows, SUITES[suite]))
    first, *more = tables
    more += [_function_table(result) for result in found]
    more += [_running_times(result) for result in found if result.group.suite in FIRST_INSTANCES]
    values = {
        f"{result.group.suite}, {result.group.title}": {
            name: {
                function: {**cell._asdict(), "solved": cell.solved}
                for function, cell in cells.items()
            }
            for name, cells in result.cells.items()
        }
        for result in found
    }
    title = f"jd.hybrid: {', '.join(SUITES[suite] for suite in suites)}"
    return runner.Results(
        title, first.columns, first.rows, _notes(found, skipped), values, _verdict(found), more
    )


def _rows(result: GroupResult) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for name, cells in result.cells.items():
        solved = np.concatenate([cell.solved for cell in cells.values()])
        counts = (
            *_counts(cells, "to_target", "evaluations"),
            *_counts(cells, "cost_to_target", "cost"),
        )
        relative = [_relative(result, name, field) for field in ("to_target", "cost_to_target")]
        rows.append(
            (
                f"{result.group.title}, {result.group.budget:,} evaluations",
                METHODS[name].title,
                percent(int(solved.sum()), len(solved)),
                percent(_successes_by_cost(result, name), len(solved)),
                _worst(cells),
                counts[0],
                counts[2],
                counts[1],
                counts[3],
                *relative,
                _seconds(cells),
            )
        )
    return rows


def _successes_by_cost(result: GroupResult, method: str) -> int:
    """Returns the number of runs whose cost until success is within the budget."""
    costs = np.concatenate([cell.cost_to_target for cell in result.cells[method].values()])
    return int(np.sum((costs > 0) & (costs <= result.group.budget)))


def _counts(cells: Mapping[str, Cell], until: str, total: str) -> tuple[str, str]:
    """Returns the median until success, and all evaluations divided by the successes."""
    reached = np.concatenate([getattr(cell, until) for cell in cells.values()])
    reached = reached[reached > 0]
    if not reached.size:
        return "-", "-"
    spent = sum(int(getattr(cell, total).sum()) for cell in cells.values())
    return f"{np.median(reached):,.0f}", f"{spent / reached.size:,.0f}"


def _relative(result: GroupResult, method: str, field: str) -> str:
    """Returns the geometric mean over functions of the ratio to `jd.hybrid`'s median count.

    Functions count that both methods solve in at least half of their runs.
    """
    reference = result.cells.get("hybrid", {})
    ratios = []
    for function, cell in result.cells[method].items():
        other = reference.get(function)
        if other is None or min(cell.solved.mean(), other.solved.mean()) < 0.5:
            continue
        medians = [np.median(each[each > 0]) for each in (getattr(c, field) for c in (cell, other))]
        ratios.append(medians[0] / medians[1])
    return f"{np.exp(np.mean(np.log(ratios))):.2g} ({len(ratios)})" if ratios else "-"


def _worst(cells: Mapping[str, Cell]) -> str:
    rates = {function: 100 * cell.solved.mean() for function, cell in cells.items()}
    worst = min(rates, key=lambda function: rates[function])
    if rates[worst] == 100:
        return "all 100"
    ties = sum(rate == rates[worst] for rate in rates.values()) - 1
    return f"{worst} {rates[worst]:.0f}" + (f" and {ties} more" if ties else "")


def _seconds(cells: Mapping[str, Cell]) -> str:
    seconds = [
        cell.seconds[1:] if len(cell.seconds) > 1 else cell.seconds for cell in cells.values()
    ]
    return f"{np.median(np.concatenate(seconds)):.2g}"


def _function_table(result: GroupResult) -> Table:
    group = result.group
    columns = ("function", *(METHODS[name].title for name in result.cells))
    rows = [
        (
            function,
            *(f"{100 * cells[function].solved.mean():.0f}" for cells in result.cells.values()),
        )
        for function in group.functions
    ]
    title = f"{SUITES[group.suite]}, {group.title}: success by function, %"
    return Table(columns, rows, title)


def _running_times(result: GroupResult) -> Table:
    """Tables all evaluations divided by the number of successes, by function."""
    group = result.group
    columns = [
        f"{METHODS[name].title}{suffix}"
        for name in result.cells
        for suffix in ("", f", gradient = {GRADIENT_COST}")
    ]
    rows = []
    for function in group.functions:
        row = [function]
        for cells in result.cells.values():
            cell = cells[function]
            row += [
                f"{total.sum() / reached:,.0f}" if (reached := np.sum(until > 0)) else "-"
                for total, until in (
                    (cell.evaluations, cell.to_target),
                    (cell.cost, cell.cost_to_target),
                )
            ]
        rows.append(row)
    title = f"{SUITES[group.suite]}, {group.title}: expected running time, evaluations per success"
    return Table(("function", *columns), rows, title)


def _coco_note(found: Sequence[GroupResult]) -> list[str]:
    errors = [
        cell.coco_error[np.isfinite(cell.coco_error)]
        for result in found
        for cells in result.cells.values()
        for cell in cells.values()
    ]
    known = np.concatenate([*errors, []])
    if not known.size:
        return []
    return [
        f"COCO's own functions agree with the best values of {known.size:,} runs on BBOB within "
        f"{known.max():.0e}, relative to the larger of 1 and |f|."
    ]


def _verdict(found: Sequence[GroupResult]) -> str:
    """Compares the success rate of `jd.hybrid` with the best of the others, group by group."""
    parts = []
    for result in found:
        rates = {name: result.rate(name) for name in result.cells}
        variants = {name: rates[name] for name in rates if name in ablation.VARIANTS}
        others = {name: rates[name] for name in rates if name not in ("hybrid", *variants)}
        place = f"{SUITES[result.group.suite]}, {result.group.title}"
        shown = []
        if "hybrid" in rates:
            shown.append(f"jd.hybrid succeeds in {rates['hybrid']:.1f}% of the runs")
        if others:
            best = max(others, key=lambda name: others[name])
            shown.append(f"the best other method, {METHODS[best].title}, in {others[best]:.1f}%")
        if variants:
            worst = min(variants, key=lambda name: variants[name])
            shown.append(f"{METHODS[worst].title}, the worst variant, in {variants[worst]:.1f}%")
        parts.append(f"{place}: {', '.join(shown)}")
    return f"{'; '.join(parts)}."


def _runs_note(result: GroupResult) -> str:
    group = result.group
    shown = {
        "jd.hybrid" if name in ("hybrid", *ablation.VARIANTS) else "the others": group.runs_of(name)
        for name in result.cells
    }
    counts = " and ".join(f"{count} for {name}" for name, count in shown.items())
    return f"{group.suite} {group.title}: {counts}"


def _notes(found: Sequence[GroupResult], skipped: Sequence[str]) -> list[str]:
    runs = [_runs_note(result) for result in found]
    precisions = {f"{result.group.precision:g}": None for result in found}
    is_ablation = any(name in ablation.VARIANTS for result in found for name in result.cells)
    return [
        *skipped,
        "A run succeeds if the value at its best point, in float64, is less than "
        f"{' or, on BBOB, '.join(precisions)} above the minimum. Success rates pool the runs of "
        "all functions and have 95% Wilson intervals. "
        f"Runs per function: {'; '.join(runs)}.",
        *_coco_note(found),
        *([ablation.NOTE] if is_ablation else []),
        "Every method knows the minimum and ends at the first value that is close enough, or when "
        "its budget is spent. 'evaluations to success' is the median over the successful runs, "
        "'evaluations per success' all evaluations divided by the number of successes. "
        "'relative to jd.hybrid' is the geometric mean, over the functions that both methods solve "
        "in half of their runs or more (their number is in parentheses), of the ratio of their "
        "median evaluations to success; below 1 the method needs fewer than jd.hybrid.",
        "A value with its gradient is one evaluation, also in the budget. The columns 'gradient = "
        f"{GRADIENT_COST}' count it as {GRADIENT_COST}, and a value alone as one; a success there "
        "is a success within the budget in this counting.",
        "'seconds' is the median time of a run, without the first of several runs of a function, "
        "in which programs are compiled.",
        "The hard eight are shifted and rotated. The boxes of the other functions are cut at each "
        f"side by up to {LARGEST_CUT:.0%} of their width, at random, because many of their minima "
        "are at the center. All methods keep to the box and compute in float64.",
        f"jd.hybrid has its defaults. Adam's learning rate is {ADAM_RATE:g} of the box's width and "
        f"decays to 0; halving is jd.minimize with {HALVING_AGENTS} starts of Adam at "
        f"{HALVING_RATE:g}, and reports values after each of ten rungs. DE + "
        f"Adam is jd.minimize with jd.evolution.differential_evolution, {DE_AGENTS} agents and "
        f"{DE_STEPS} steps of Adam from {DE_RATE:g} to 0 in each generation, for {DE_SHARE:.0%} of "
        f"the budget, and then one descent from the best point, from {DE_LAST_RATE:g} to 0. L-BFGS "
        "multistart, basin hopping, dual annealing and differential evolution are SciPy's with "
        f"their defaults, except that basin hopping's first step is {HOP:g} of the width and "
        "differential evolution evaluates a generation at a time, does not descend at the end, "
        "and restarts when its values agree to 8 digits. Dual annealing has gradients for its "
        "local search. BIPOP-CMA-ES is pycma's, in units of the box, with sigma "
        f"{CMA_SIGMA:g} and nine restarts.",
    ]
