"""The report of a run with agents: the winner's scores, the agents, and the cost."""

from typing import Any

import matplotlib
import matplotlib.cm
import matplotlib.colors
import numpy as np
from flax import nnx
from matplotlib.figure import Figure

from experiments import runner
from experiments.models.counting import parameter_count
from experiments.runner.processes import on_host
from experiments.studies.train.agents import TrainedAgents
from experiments.studies.train.report import (
    baseline_in_words,
    report_title,
    sample_notes,
    score_columns,
    score_row,
    scores_in_words,
    unit_notes,
)
from experiments.studies.train.rules import DEFAULT
from experiments.studies.train.saved_network import usage
from experiments.studies.train.settings import SERIES, Settings


def agents_results(settings: Settings, run: runner.Run, trained: TrainedAgents) -> runner.Results:
    """Evaluates the winner; returns the table, the notes and the numbers."""
    task, loop, evaluator, networks = trained
    state = loop.carry
    population = on_host(
        state.population._replace(params=(), opt_state=(), best_params=(), grads=(), model_state=())
    )
    best = loop.best(networks.winner(state))
    gradients, full = int(np.sum(population.gradients)), len(population.ids) * loop.step
    rule = settings.rule or DEFAULT
    drawn = {name: np.asarray(each) for name, each in population.hyperparams.items()}
    values: dict[str, Any] = {
        "steps": loop.step,
        "best_step": loop.best_step if best else None,
        "parameters": parameter_count(nnx.eval_shape(lambda: task.build(nnx.Rngs(0)))),
        "gradient_steps": gradients,
        "gradient_steps_without_pruning": full,
        "agents": {**drawn, "best validation loss": np.asarray(population.best_values)},
    }
    notes = [f"{task.name}: {task.source}"]
    rows: list[tuple[str, ...]] = []
    verdict = "No agent had a finite validation loss; lower --learning-rate."
    if best:
        values["winner"] = {name: float(each[state.best_id]) for name, each in drawn.items()}
        parts = {"validation, best": task.validation, "test, at the best": task.test}
        scores = {title: evaluator(part, **best) for title, part in parts.items()}
        values |= scores
        rows = [score_row(task, title, loop.best_step, each) for title, each in scores.items()]
        notes.append(_winner_note(settings, values["winner"], drawn))
        notes += [*unit_notes(task), *sample_notes(settings, task, best)]
        verdict = (
            f"On the test part: {scores_in_words(task, scores['test, at the best'])}, at step "
            f"{loop.best_step:,} by the agent with the least validation loss, for "
            f"{gradients / full:.1%} of the gradient steps without pruning."
            f"{baseline_in_words(task)}"
        )
    if task.baseline:
        name, baseline = task.baseline
        values[f"test, {name}"] = baseline
        rows.append(score_row(task, f"test, {name}", "-", baseline))
    notes.append(
        f"{values['parameters']:,} parameters in each of the {len(population.ids)} agents, which "
        f"took {gradients:,} gradient steps together: {gradients / full:.1%} of the {full:,} that "
        f"all of them take without pruning (--rule no_pruning); the rule is {rule}."
    )
    if best:
        notes.append(usage(run.folder, loop.best_step))
    run.save_figure("agents", _draw(run.log.read(SERIES), drawn["learning_rate"]))
    title, columns = report_title(task.name, settings), score_columns(task)
    tables = [_table(population, drawn)]
    verdict = " ".join([verdict, *task.advice])
    return runner.Results(title, columns, rows, notes, values, verdict, tables)


def _winner_note(settings: Settings, found: dict[str, float], drawn: dict[str, np.ndarray]) -> str:
    """Returns the winner's hyperparameters, with a remark if its learning rate is at an end."""
    named = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in found.items())
    note = f"The winner has {named}."
    rates = np.sort(drawn["learning_rate"])
    for end, rate in (("lowest", rates[0]), ("highest", rates[-1])):
        if np.float32(found["learning_rate"]) == rate:
            note += (
                f" That is the {end} learning rate of all agents: a --learning-rate "
                f"{'below' if end == 'lowest' else 'above'} {settings.rate:g} may do better."
            )
    return note


def _table(population: Any, drawn: dict[str, np.ndarray]) -> runner.Table:
    """Returns a table of the agents, the best first."""
    names = [name.replace("_", " ") for name in drawn]
    rows = [
        (
            str(agent),
            *(f"{each[agent]:.3g}" for each in drawn.values()),
            f"{int(population.gradients[agent]):,}",
            f"{float(population.best_values[agent]):.4g}",
        )
        for agent in np.argsort(np.asarray(population.best_values))  # inf if never finite
    ]
    return runner.Table(("agent", *names, "steps", "best validation loss"), rows, "Agents")


def _draw(history: list[dict[str, Any]], rates: np.ndarray) -> Figure:
    """Draws the validation losses of the agents, which end where the rule removes them."""
    steps = [record["step"] for record in history]
    losses = np.array([record["agents_value"] for record in history], float)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    logs = np.log10(rates)
    span = max(float(np.ptp(logs)), 1e-9)
    colors = matplotlib.colormaps["viridis"]
    for agent, curve in enumerate(losses.T):
        color = colors((logs[agent] - logs.min()) / span)
        axis.plot(steps, curve, color=color, marker=".", linewidth=1)
    scale = matplotlib.colors.LogNorm(rates.min(), rates.max())
    figure.colorbar(matplotlib.cm.ScalarMappable(scale, colors), ax=axis, label="learning rate")
    axis.set(xlabel="steps", ylabel="validation loss", yscale="log")
    axis.grid(alpha=0.25)
    return figure
