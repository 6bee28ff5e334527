"""The tables and the pictures of a study that trains by several methods."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import runner
from experiments.methods.contest import Contest
from experiments.methods.recipe import Recipe

AGENTS = ("agents", "agents_unpruned")
UNITS = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))


def score_names(recipe: Recipe) -> tuple[str, ...]:
    """Returns the names of the scores on the test part that are not the loss."""
    return ("accuracy",) if recipe.task.dataset and recipe.task.dataset.classes else ()


def results(title: str, contests: Sequence[Contest], notes: Sequence[str] = ()) -> runner.Results:
    """Returns the tables, the verdict and the notes of a study."""
    first, *more = [table(contest) for contest in contests]
    values = {each.recipe.title: values_of(each) for each in contests}
    return runner.Results(
        title,
        first.columns,
        first.rows,
        [f"First table: {contests[0].recipe.title}.", *notes, *notes_on(contests)],
        values,
        verdict(contests),
        more,
    )


def table(contest: Contest) -> runner.Table:
    """Returns the table of a recipe: losses, scores and costs by method."""
    scores = score_names(contest.recipe)
    most = max(each.flops for each in contest.trained.values())
    flop, unit = next((each for each in UNITS if most >= each[0]), UNITS[-1])
    columns = (
        "method",
        "learning rate",
        "test loss",
        *(f"test {name} %" for name in scores),
        "loss / best grid",
        "trainings",
        unit,
        "J",
    )
    rows = []
    for name, each in contest.trained.items():
        selected, ratio = each.selected, contest.ratio(name)
        count = contest.recipe.agents if name in AGENTS else len(each.outcomes)
        rows.append(
            (
                each.title,
                each.choice or "-",
                _with_spread(selected.losses, ".4f"),
                *(_with_spread(selected.scores[score], ".2f") for score in scores),
                f"{ratio:.3f}" if np.isfinite(ratio) else "-",
                str(count),
                f"{each.flops / flop:.3g}",
                _interval(each.joules),
            )
        )
    return runner.Table(columns, rows, contest.recipe.title)


def verdict(contests: Sequence[Contest]) -> str:
    """Returns sentences on self-tuning beside the best grid, and on pruning.

    Without these methods, a sentence names the best one.
    """
    sentences = []
    for contest in contests:
        trained, grid, said = contest.trained, contest.grid, []
        if grid and "self_tuning" in trained:
            own, ratio = trained["self_tuning"], contest.ratio("self_tuning")
            everything = sum(each.flops for each in contest.grids)
            said.append(
                f"self-tuning Adam has {ratio:.3f} times the test loss of the best grid "
                f"({grid.title}), at {own.flops / grid.flops:.3f} of its FLOPs and "
                f"{own.flops / everything:.3f} of all grids'"
            )
        if {*AGENTS} <= trained.keys():
            pruned, full = (trained[name] for name in AGENTS)
            said.append(
                f"pruned agents have {pruned.loss / full.loss:.3f} times the test loss of unpruned "
                f"ones, at {pruned.flops / full.flops:.3f} of their FLOPs"
            )
        if not said:
            best = min(trained.values(), key=lambda each: each.loss)
            said.append(f"{best.title} has the least test loss, {best.loss:.4g}")
        sentences.append(f"{contest.recipe.title}: {'; '.join(said)}.")
    return " ".join(sentences)


def notes_on(contests: Sequence[Contest]) -> list[str]:
    """Returns sentences on the steps, the selection and the costs."""
    recipes = [contest.recipe for contest in contests]
    seeds = ", ".join(f"{recipe.title} {recipe.seeds}" for recipe in recipes)
    steps = ", ".join(
        f"{recipe.title} {recipe.steps:,} of {recipe.batch_size} examples" for recipe in recipes
    )
    return [
        f"Steps: {steps}. Networks per method: {seeds}; ± is their standard deviation.",
        "The learning rate and the evaluation are selected by the least validation loss; the table "
        "has the test loss there. FLOPs and joules are of everything that a method trains, for one "
        "of the networks that it ends with; joules include evaluations, but no compilation, and "
        "have the interval of the estimate. Self-tuning, Schedule-Free and agents begin with their "
        "default settings, the same for every task. Prodigy and Schedule-Free are optax's, at "
        "their defaults. 'best grid' is the grid with the least test loss. Agents are evaluated at "
        "the best network up to then.",
        *_notes_on_ends(contests),
        f"{_rates_in_words(recipes[0])} 'cosine' has a linear warmup over a "
        "twentieth of the steps and ends at a tenth. Agents draw learning rates from the range of "
        "Adam's grid and weight decays from 1e-4 to 1, with the same schedule; pruning is "
        "successive halving after each evaluation.",
    ]


def _rates_in_words(recipe: Recipe) -> str:
    adam, sgd = (f"{len(each)} from {each[0]:g} to {each[-1]:g}" for each in recipe.rates)
    return f"Learning rates of the grids: {adam} for Adam, {sgd} for SGD."


def _notes_on_ends(contests: Sequence[Contest]) -> list[str]:
    """Returns a sentence that names the grids whose best learning rate is at an end, if any."""
    found = [
        f"{contest.recipe.title}, {grid.title} ({grid.choice})"
        for contest in contests
        for grid in contest.grids
        if [*grid.outcomes].index(grid.choice) in (0, len(grid.outcomes) - 1)
    ]
    named = "; ".join(found)
    return [f"The best learning rate is at an end of its grid: {named}."] if found else []


def values_of(contest: Contest) -> dict[str, Any]:
    """Returns the numbers behind the table of a recipe, by method."""
    return {
        name: {
            "learning_rate": each.choice,
            "loss": each.selected.losses,
            "scores": each.selected.scores,
            "flops": each.flops,
            "joules": each.joules,
            "losses_by_rate": {rate: o.losses.mean() for rate, o in each.outcomes.items()},
            "curve": dict(zip(("flops", "loss"), each.curve(), strict=True)),
        }
        for name, each in contest.trained.items()
    }


def _with_spread(values: np.ndarray, digits: str) -> str:
    if not np.isfinite(values).all():
        return "diverged"
    spread = f" ± {values.std():{digits}}" if len(values) > 1 else ""
    return f"{values.mean():{digits}}{spread}"


def _interval(values: np.ndarray) -> str:
    low, value, high = values
    return f"{value:.3g} ({low:.2g} to {high:.2g})"
