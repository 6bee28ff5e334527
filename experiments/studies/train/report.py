"""The report of a training run: scores of the last and the best state, and the losses."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import runner, tasks
from experiments.models.counting import parameter_count
from experiments.models.sampling import sample
from experiments.runner.curves import curve, draw
from experiments.runner.log import mean_of_finite
from experiments.runner.progress import speed
from experiments.studies.train import learned
from experiments.studies.train.optimizers import OPTIMIZERS
from experiments.studies.train.saved_network import usage
from experiments.studies.train.settings import SERIES, Settings
from experiments.studies.train.training import Evaluator, Trained, optimizer


def results(settings: Settings, run: runner.Run, trained: Trained) -> runner.Results:
    """Evaluates the last and the best state; returns the table, the notes and the numbers."""
    task, loop, evaluator = trained
    last = evaluator.model_of(loop.carry)
    best = loop.best(last)
    tested, tested_step = (best, loop.best_step) if best else (last, loop.step)
    history = run.log.read(SERIES)
    values: dict[str, Any] = {"steps": loop.step, "best_step": loop.best_step if best else None}
    values["loss"] = history[-1]["loss"]
    rows = [("training, last", str(loop.step), _mean_and_spread(values["loss"]), "-")]
    evaluations = [("validation, last", task.validation, last, loop.step)]
    if best:
        evaluations.append(("validation, best", task.validation, best, loop.best_step))
    test_title = f"test, at the {'best' if best else 'last'}"
    evaluations.append((test_title, task.test, tested, tested_step))
    for title, part, model, step in evaluations:
        scores = evaluator(part, **model)
        if scores:
            values[title] = scores
            rows.append(score_row(title, step, scores))
    if task.baseline:
        name, loss = task.baseline
        values[f"test, {name}"] = {"loss": loss}
        rows.append((f"test, {name}", "-", f"{loss:.4g}", "-"))
    _draw_losses(run, history)
    values["parameters"] = parameter_count(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))))
    notes = [
        f"{task.name}: {task.source}",
        f"{values['parameters']:,} parameters; seeds: {settings.seeds}; ± is the standard "
        f"deviation over seeds. {speed(loop.mean_speed)} steps/s count the time in steps only; "
        f"evaluations took {evaluator.seconds:.3g} s more since the run was last started.",
        *_notes_on_evaluations(task, evaluator),
        *_notes_on_training(settings, loop, history),
        *unit_notes(task, values.get(test_title)),
    ]
    notes += [*sample_notes(settings, task, tested), usage(run.folder)]
    columns = ("part", "step", "loss", "accuracy %")
    verdict = " ".join([_verdict(evaluations[-1][0], values, loop, task), *task.advice])
    tables = _learned(settings, run, history, values) if settings.learns_rate else []
    name = report_title(task.name, settings)
    return runner.Results(name, columns, rows, notes, values, verdict, tables)


def _learned(
    settings: Settings, run: runner.Run, history: list[dict[str, Any]], values: dict[str, Any]
) -> list[runner.Table]:
    """Draws the learned hyperparameters, adds them to the values and returns their table."""
    found = learned.learned_over_steps(optimizer(settings, settings.total_steps), history)
    run.save_figure("tuned", learned.draw(found))
    values["learned"] = {each.name: each.values[[0, -1]] for each in found}
    first = "start of the range test" if settings.self_tuning else "initial"
    return [learned.table(found, first)]


def report_title(task: str, settings: Settings) -> str:
    """Returns the name of the task and of its optimizer.

    Example:
      >>> report_title("digits", Settings(optimizer="adamw", self_tuning=True))
      'digits, self-tuning AdamW'
    """
    name = OPTIMIZERS[settings.optimizer].title
    if settings.self_tuning:
        return f"{task}, self-tuning {name}"
    if settings.agents:
        return f"{task}, {settings.agents} agents of {name}"
    if settings.tower:
        return f"{task}, {name} with a tower of height {settings.tower}"
    return f"{task}, {name}"


def _verdict(tested: str, values: Mapping[str, Any], loop: runner.Loop, task: tasks.Task) -> str:
    """Returns the scores on the test part, beside the baseline's loss if there is one."""
    scores = values.get(tested)
    if scores is None:
        return f"Training loss {_mean_and_spread(values['loss'])} after {loop.step:,} steps."
    step = values["best_step"] or loop.step
    when = "with the best validation loss" if values["best_step"] else "the last"
    baseline = ""
    if task.baseline:
        name, loss = task.baseline
        baseline = f" The loss of the {name} is {loss:.4g}."
    return f"On the test part: {scores_in_words(scores)}, at step {step:,} ({when}).{baseline}"


def scores_in_words(scores: Mapping[str, Any]) -> str:
    """Returns the accuracy, if there is one, and the loss."""
    loss = f"loss {_mean_and_spread(scores['loss'])}"
    accuracy = scores.get("accuracy")
    return loss if accuracy is None else f"accuracy {_mean_and_spread(accuracy)}%, {loss}"


def score_row(title: str, step: int, scores: dict[str, Any]) -> tuple[str, str, str, str]:
    """Returns the row of a part in the table."""
    accuracy = scores.get("accuracy")
    shown = "-" if accuracy is None else _mean_and_spread(accuracy)
    return title, str(step), _mean_and_spread(scores["loss"]), shown


def sample_notes(settings: Settings, task: tasks.Task, networks: Any) -> list[str]:
    """Returns a note with a text by the first network, if it is a language model."""
    if not task.tokenizer or not settings.sample or settings.context == 1:
        return []
    return [f"A sample: {task.tokenizer.decode(_generate(settings, task, networks))!r}"]


def unit_notes(task: tasks.Task, scores: dict[str, Any] | None) -> list[str]:
    """Returns a note with the test error in the units of a target, if there is one target."""
    dataset = task.dataset
    if not scores or dataset is None or dataset.classes or len(dataset.target_std) > 1:
        return []
    error = np.sqrt(scores["loss"]) * dataset.target_std[0]
    return [
        "Losses are squared errors of the standardized target. In its own units, the root mean "
        f"square error on the test part is {_mean_and_spread(error)}."
    ]


def _notes_on_evaluations(task: tasks.Task, evaluator: Evaluator) -> list[str]:
    parts = task.validation, task.test
    count = max(map(evaluator.count, parts))
    if count == max(len(part.evaluation_indices) for part in parts):
        return []
    return [f"Each part is evaluated on at most {count} examples."]


def _notes_on_training(
    settings: Settings, loop: runner.Loop, history: list[dict[str, Any]]
) -> list[str]:
    notes = []
    if settings.self_tuning or OPTIMIZERS[settings.optimizer].averages:
        notes.append(
            "Evaluated at the average of the parameters; statistics of a batch normalization are "
            "re-estimated there."
        )
    if not np.isfinite(loop.best_value):
        notes.append("The validation loss was never finite; all results are of the last step.")
    failed = sum(bool(record.get("not_finite_steps")) for record in history)
    if failed:
        notes.append(f"In {failed} of {len(history)} chunks some losses were not finite.")
    if loop.stalled:
        notes.append(f"Stopped early: {settings.patience} evaluations without improvement.")
    return notes


def _generate(settings: Settings, task: tasks.Task, networks: Any) -> np.ndarray:
    """Returns the first network's continuation of the first token of the validation text."""
    model: Any = task.build(nnx.Rngs(0))
    for state in networks["params"], networks["model_state"]:
        nnx.update(model, jax.tree.map(lambda leaf: leaf[0], state))
    context = getattr(model, "context", None)
    length = settings.sample if context is None else min(settings.sample, context - 1)
    prompt = jnp.asarray(task.validation.arrays[None, :1], jnp.int32)
    generated = sample(model, prompt, length=length, key=jax.random.key(settings.seed))
    return np.asarray(generated[0])


def _mean_and_spread(values: Any) -> str:
    """Returns the mean and the standard deviation over the seeds whose value is finite."""
    numbers = np.array([np.nan if value is None else value for value in np.ravel(values)], float)
    finite = numbers[np.isfinite(numbers)]
    mean = f"{mean_of_finite(numbers):.4g}"
    if len(numbers) == 1 or not len(finite):
        return mean
    spread = f"{mean} ± {finite.std():.2g}"
    few = len(finite) < len(numbers)
    return f"{spread} ({len(finite)} of {len(numbers)} seeds)" if few else spread


def _draw_losses(run: runner.Run, history: list[dict[str, Any]]) -> None:
    """Draws the training and the validation loss over steps and over seconds."""
    curves = {}
    for label, metric in (("training", "loss"), ("validation", "validation_loss")):
        found = curve(history, metric)
        if found:
            curves[label] = [(found.steps, found.values), (found.seconds, found.values)]
    if curves:
        run.save_figure("losses", draw(curves, ("steps", "seconds"), "loss"))
