"""The report of a training run: scores of the last and the best state, and the losses."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import runner, tasks
from experiments.methods.evaluation import Evaluator
from experiments.methods.optimizers import OPTIMIZERS
from experiments.models.counting import parameter_count
from experiments.models.sampling import sample
from experiments.runner.curves import curve, draw
from experiments.runner.log import mean_of_finite
from experiments.runner.progress import speed
from experiments.studies.train import learned
from experiments.studies.train.saved_network import usage
from experiments.studies.train.settings import SERIES, Settings
from experiments.studies.train.training import Trained, averages_of, optimizer

LATE, RISE, PATIENCE = 0.75, 0.01, 5
"""The verdict advises this patience if the validation loss was lowest before this share of the
steps, and rose by more than this share."""


def results(settings: Settings, run: runner.Run, trained: Trained) -> runner.Results:
    """Evaluates the last and the best state; returns the table, the notes and the numbers."""
    task, loop, evaluator = trained
    last = evaluator.model_of(loop.carry, averages_of(settings))
    best = loop.best(last)
    tested, tested_step = (best, loop.best_step) if best else (last, loop.step)
    history = run.log.read(SERIES)
    values: dict[str, Any] = {"steps": loop.step, "best_step": loop.best_step if best else None}
    values["loss"] = history[-1]["loss"]
    rows = [score_row(task, "training, last", loop.step, {"loss": values["loss"]})]
    evaluations = [("validation, last", task.validation, last, loop.step)]
    if best:
        evaluations.append(("validation, best", task.validation, best, loop.best_step))
    test_title = f"test, at the {'best' if best else 'last'}"
    evaluations.append((test_title, task.test, tested, tested_step))
    for title, part, model, step in evaluations:
        scores = evaluator(part, **model)
        if scores:
            values[title] = scores
            rows.append(score_row(task, title, step, scores))
    if task.baseline:
        name, scores = task.baseline
        values[f"test, {name}"] = scores
        rows.append(score_row(task, f"test, {name}", "-", scores))
    _draw_losses(run, history)
    values["parameters"] = parameter_count(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))))
    notes = [
        f"{task.name}: {task.source}",
        f"{values['parameters']:,} parameters{_seeds_in_words(settings.seeds)}. "
        f"{speed(loop.mean_speed)} steps/s count the time in steps only; evaluations took "
        f"{evaluator.seconds:.3g} s more since the run was last started.",
        *_notes_on_evaluations(task, evaluator),
        *_notes_on_average(settings, last["model_state"]),
        *_notes_on_training(settings, loop, history),
        *unit_notes(task),
    ]
    notes += [*sample_notes(settings, task, tested), usage(run.folder, tested_step)]
    said = [_verdict(test_title, values, loop, task), *_rise_in_words(settings, values, loop)]
    verdict = " ".join([*said, *task.advice])
    tables = _learned(settings, run, history, values) if settings.learns_rate else []
    name = report_title(task.name, settings)
    return runner.Results(name, score_columns(task), rows, notes, values, verdict, tables)


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
    """Returns the scores on the test part, beside the baseline's if there is one."""
    scores = values.get(tested)
    if scores is None:
        return f"Training loss {_mean_and_spread(values['loss'])} after {loop.step:,} steps."
    step = values["best_step"] or loop.step
    when = "with the best validation loss" if values["best_step"] else "the last"
    shown = f"On the test part: {scores_in_words(task, scores)}, at step {step:,} ({when})."
    return f"{shown}{baseline_in_words(task)}"


def baseline_in_words(task: tasks.Task) -> str:
    """Returns a sentence on the scores of the baseline, after a space, or ""."""
    if not task.baseline:
        return ""
    name, scores = task.baseline
    return f" Baseline, the {name}: {scores_in_words(task, scores)}."


def _rise_in_words(
    settings: Settings, values: Mapping[str, Any], loop: runner.Loop
) -> Iterator[str]:
    """Yields advice if the validation loss rose long before the end."""
    last, best_step = values.get("validation, last"), values["best_step"]
    if not last or not best_step or settings.patience or best_step > LATE * loop.step:
        return
    evaluations = (loop.step - best_step) // settings.steps_per_chunk
    loss = mean_of_finite(last["loss"])
    if evaluations > PATIENCE and loss > (1 + RISE) * loop.best_value:
        yield (
            f"The validation loss rose later, from {loop.best_value:.4g} to {loss:.4g}: "
            f"--patience {PATIENCE} or fewer --steps would do."
        )


def _error(task: tasks.Task, scores: Mapping[str, Any]) -> np.ndarray | None:
    """Returns the root mean square error in the units of the target, if there is one target."""
    dataset = task.dataset
    if dataset is None or dataset.classes or len(dataset.target_std) > 1 or "loss" not in scores:
        return None
    losses = [np.nan if loss is None else loss for loss in np.ravel(scores["loss"])]
    return np.sqrt(np.array(losses, float)) * dataset.target_std[0]


def scores_in_words(task: tasks.Task, scores: Mapping[str, Any]) -> str:
    """Returns the accuracy or the error in the units of the target, if any, and the loss."""
    words = []
    if "accuracy" in scores:
        words.append(f"accuracy {_mean_and_spread(scores['accuracy'])}%")
    if (error := _error(task, scores)) is not None:
        words.append(f"root mean square error {_mean_and_spread(error)}")
    if "loss" in scores:
        words.append(f"loss {_mean_and_spread(scores['loss'])}")
    return ", ".join(words)


def score_columns(task: tasks.Task) -> tuple[str, ...]:
    """Returns the titles of the columns of `score_row`."""
    columns = ("part", "step", "loss")
    if task.dataset and task.dataset.classes:
        return (*columns, "accuracy %")
    if _error(task, {"loss": 0.0}) is not None:
        return (*columns, "root mean square error")
    return columns


def score_row(
    task: tasks.Task, title: str, step: int | str, scores: Mapping[str, Any]
) -> tuple[str, ...]:
    """Returns the row of a part in the table."""
    by_column = {
        "loss": scores.get("loss"),
        "accuracy %": scores.get("accuracy"),
        "root mean square error": _error(task, scores),
    }
    shown = [by_column[column] for column in score_columns(task)[2:]]
    return title, str(step), *("-" if each is None else _mean_and_spread(each) for each in shown)


def sample_notes(settings: Settings, task: tasks.Task, networks: Any) -> list[str]:
    """Returns a note with a text by the first network, if it is a language model."""
    if not task.tokenizer or not settings.sample or settings.context == 1:
        return []
    return [f"A sample: {task.tokenizer.decode(_generate(settings, task, networks))!r}"]


def unit_notes(task: tasks.Task) -> list[str]:
    """Returns a note on the units of losses and errors, if there is one target."""
    if _error(task, {"loss": 0.0}) is None:
        return []
    return [
        "Losses are squared errors of the standardized target; root mean square errors are in the "
        "units of the target."
    ]


def _seeds_in_words(seeds: int) -> str:
    return f"; {seeds} seeds, ± is the standard deviation over them" if seeds > 1 else ""


def _notes_on_evaluations(task: tasks.Task, evaluator: Evaluator) -> list[str]:
    parts = task.validation, task.test
    count = max(map(evaluator.count, parts))
    if count == max(len(part.evaluation_indices) for part in parts):
        return []
    return [f"Each part is evaluated on at most {count} examples."]


def _notes_on_average(settings: Settings, model_state: Any) -> list[str]:
    """Returns a note if the average is evaluated, and one on the range test that precedes it."""
    notes = []
    if settings.self_tuning or OPTIMIZERS[settings.optimizer].averages:
        has_statistics = jax.tree.leaves(nnx.filter_state(model_state, nnx.BatchStat))
        also = ", where statistics of batch normalization are re-estimated"
        notes.append(f"Evaluated at the average of the parameters{also if has_statistics else ''}.")
    if settings.self_tuning:
        notes.append(
            "The learning rate was found by the range test, which makes the peak of the loss in "
            "the first steps."
        )
    return notes


def _notes_on_training(
    settings: Settings, loop: runner.Loop, history: list[dict[str, Any]]
) -> list[str]:
    notes = []
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
