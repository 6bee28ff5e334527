"""The training of a run: its task, its optimizer, warm starts, the loop and its evaluations."""

import json
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdescent as jd
from experiments import data, runner, tasks
from experiments.data.batches import Batches, data_seeds
from experiments.data.description import describe
from experiments.methods.evaluation import Evaluator, model_of
from experiments.methods.optimizers import OPTIMIZERS, warmup_cosine
from experiments.runner import processes
from experiments.runner.log import mean_of_finite, write_atomically
from experiments.runner.run_folder import RunError
from experiments.studies.train.learned import learned_values
from experiments.studies.train.rules import make_rule
from experiments.studies.train.settings import BATCH_SIZE, SERIES, Settings

HYPER_RATE = 0.05
TOKENIZER, DATA_SET = "tokenizer.json", "data_set.json"
"""Files of a run's folder that `save_description` writes."""


class Trained(NamedTuple):
    """A run after its last step.

    Attributes:
      task: the task.
      loop: the loop, with the last and the best state.
      evaluator: evaluates the validation and the test part.
    """

    task: tasks.Task
    loop: runner.Loop
    evaluator: Evaluator


def check(settings: Settings) -> None:
    """Raises ValueError if settings contradict each other or the data is missing.

    Prints advice about a user's table.
    """
    task = load_task(settings)
    mesh_of(settings)
    nnx.eval_shape(lambda: task.build(nnx.Rngs(0)))
    _batches(settings, task)
    make_rule(settings.rule, settings.total_steps // settings.steps_per_chunk)
    if settings.warm_start:
        _check_warm_start(settings.warm_start)
    for line in task.advice:
        print(line, file=sys.stderr)


def check_devices(settings: Settings) -> None:
    """Raises ValueError if the mesh does not have as many devices as there are."""
    mesh_of(settings)


def train(settings: Settings, run: runner.Run) -> Trained:
    """Trains and evaluates after each chunk."""
    task = load_task(settings)
    run.pin("data", task.digest())
    save_description(task, run.folder)
    every, steps = settings.steps_per_chunk, settings.total_steps
    mesh = mesh_of(settings)
    trainer = runner.trainer(
        task.build,
        task.batch_of,
        task.scores,
        optimizer(settings, steps),
        prepare=task.prepare if settings.stream else None,
        accumulate=settings.accumulate,
        side_by_side=task.side_by_side,
        mesh=mesh,
    )
    keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
    state = trainer.start(keys)
    if settings.warm_start and not runner.Checkpoints(run.checkpoints_folder(SERIES)).steps():
        state = _warm_start(state, settings.warm_start, run)
    batches = _batches(settings, task, steps_before=_steps_before(run.description))
    program = runner.Program(
        trainer.chunk,
        state,
        steps_per_chunk=every,
        feed=batches.chunk(0, every),
        constants=(None if settings.stream else task.train.arrays,),
        mesh=mesh,
    )
    evaluator = make_evaluator(trainer, task, settings, mesh)
    with runner.Progress(total=steps) as progress:
        loop = runner.Loop(
            run,
            SERIES,
            program,
            state,
            chunks=steps // every,
            batches=batches,
            patience=settings.patience,
            progress=progress,
            save_final=True,
        )
        _run_loop(settings, run, task, loop, evaluator)
    return Trained(task, loop, evaluator)


def save_description(task: tasks.Task, folder: Path) -> None:
    """Saves the tokenizer or the normalization, without which the checkpoints are useless."""
    if task.tokenizer:
        write_atomically(folder / TOKENIZER, json.dumps(task.tokenizer.to_dict()))
    if task.dataset:
        write_atomically(folder / DATA_SET, json.dumps(describe(task.dataset)))


def _run_loop(
    settings: Settings,
    run: runner.Run,
    task: tasks.Task,
    loop: runner.Loop,
    evaluator: Evaluator,
) -> None:
    """Runs the chunks: saves the trajectory, evaluates, logs and keeps the best state."""
    first, averages = _first_network(loop.carry), averages_of(settings)
    trajectory = runner.Trajectory(
        run.trajectory_folder(SERIES),
        chunks=loop.chunks,
        example=first,
        steps_per_chunk=settings.steps_per_chunk,
    )
    if not loop.chunk:
        trajectory.save(0, 0, first)
    for chunk in loop:
        state = chunk.carry
        if trajectory.is_due(loop.chunk):
            trajectory.save(loop.chunk, loop.step, _first_network(state))
        model = evaluator.model_of(state, averages)
        scores = evaluator(task.validation, **model)
        metrics = {f"validation_{name}": score for name, score in scores.items()}
        losses = chunk.metrics
        if not np.isfinite(losses).all():
            metrics["not_finite_steps"] = np.sum(~np.isfinite(losses), 0)
        if settings.learns_rate:
            metrics |= processes.on_host(learned_values(state.opt_state))
        loss = mean_of_finite(losses, axis=0)
        loop.log(loss=loss, **metrics)
        value = metrics.get("validation_loss", loss)
        loop.update_best(float(mean_of_finite(value)), keep=model)


@lru_cache(1)  # called by the check and by the run
def load_task(settings: Settings) -> tasks.Task:
    """Loads the data and returns the task of the settings."""
    return tasks.load(
        settings.data,
        model_config(settings),
        data_dir=settings.data_dir,
        tokenizer=settings.tokenizer,
        vocabulary_size=settings.vocabulary_size,
        context=settings.context,
        window=settings.window,
        target=settings.target,
        kind=settings.task,
        ignore=settings.ignore,
    )


def model_config(settings: Settings) -> tasks.ModelConfig:
    """Returns the model of the settings."""
    name = settings.model
    if name == "auto":
        kind = tasks.file_kind(settings.data) or data.entry(settings.data).kind
        name = {"text": "transformer", "series": "lstm"}.get(kind, "mlp")
    return tasks.ModelConfig(
        name,
        settings.size,
        settings.width,
        settings.depth,
        settings.dropout,
        settings.positions,
        settings.bias,
        jnp.bfloat16 if settings.precision == "bfloat16" else None,
    )


def optimizer(settings: Settings, steps: int) -> optax.GradientTransformation:
    """Returns the optimizer of the settings.

    Args:
      settings: the settings.
      steps: the length of the schedule.
    """
    rate, factory = settings.rate, optimizer_factory(settings)
    if settings.self_tuning:
        return jd.self_tuning(factory, learning_rate=rate)
    if settings.tower:
        tower: optax.GradientTransformation = optax.adam(HYPER_RATE)
        for _ in range(settings.tower - 1):
            tower = jd.hypergradient(optax.adam, tower, tune={"learning_rate": HYPER_RATE})
        return jd.hypergradient(factory, tower, tune={"learning_rate": rate})
    return factory(scheduled(settings, rate, steps))


def optimizer_factory(settings: Settings) -> Callable[..., optax.GradientTransformation]:
    """Returns a function that makes the optimizer, called with `learning_rate`.

    It takes other keywords, such as `weight_decay`, in place of the settings.
    """
    options = {"weight_decay": settings.weight_decay, "b2": settings.b2}
    given = {name: value for name, value in options.items() if value is not None}

    def factory(learning_rate: Any, **others: Any) -> optax.GradientTransformation:
        make = OPTIMIZERS[settings.optimizer].make
        optimizer = make(learning_rate=learning_rate, **{**given, **others})
        if settings.clip is None:
            return optimizer
        return optax.chain(optax.clip_by_global_norm(settings.clip), optimizer)

    return factory


def scheduled(settings: Settings, peak: Any, steps: int) -> Any:
    """Returns the schedule of the learning rate, or the peak if it is constant."""
    if settings.schedule == "constant":
        return peak
    return warmup_cosine(peak, steps)


def batch_size(settings: Settings, task: tasks.Task) -> int:
    """Returns the number of examples of an optimizer step.

    Raises:
      ValueError: there are not as many, or not enough for `--accumulate`; or `--mesh` does not
        divide them.
    """
    examples, parts = task.train.examples, settings.accumulate
    if (settings.batch_size or parts) > examples:
        name = "--batch-size" if settings.batch_size else "--accumulate"
        raise ValueError(
            f"{name} must be in [1, {examples}], the training examples of {task.name}, "
            f"got {settings.batch_size or parts}"
        )
    size = settings.batch_size or min(BATCH_SIZE, examples // parts * parts)
    settings.check_divided(size)
    return size


def _batches(settings: Settings, task: tasks.Task, steps_before: int = 0) -> Batches:
    return Batches(
        task.train.examples,
        batch_size(settings, task),
        seeds=data_seeds(settings.seed, settings.seeds, steps_before),
        replacement=task.replacement,
        gather=partial(task.pick, task.train.arrays) if settings.stream else None,
    )


def _first_network(state: runner.TrainState) -> dict[str, Any]:
    """Returns what the trajectory stores: the model of the first network."""
    return processes.on_host(jax.tree.map(lambda leaf: leaf[0], model_of(state)))


def _check_warm_start(folder: Path) -> dict[str, Any]:
    """Returns the description of the run to start from."""
    description = runner.read_description(folder)
    study = description["study"]
    if study != "train":
        raise RunError(f"--warm-start must be a run of train, got {folder}, a run of {study}")
    return description


def _warm_start(state: runner.TrainState, folder: Path, run: runner.Run) -> runner.TrainState:
    """Returns the state with the parameters of another run, and all else new.

    The random keys are new, too, because the earlier run may have the same seed.
    """
    description = _check_warm_start(folder)
    checkpoints = runner.Checkpoints(folder / "checkpoints" / SERIES)
    saved = checkpoints.load_best(model_of(state))
    model = jax.tree.map(lambda old, new: jax.device_put(new, old.sharding), model_of(state), saved)
    before = _steps_before(description) + checkpoints.steps()[-1]
    run.pin("warm start", description["identity"])
    run.pin(_STEPS_BEFORE, str(before))
    key = jax.vmap(jax.random.fold_in, in_axes=(0, None))(state.key, before)
    return state._replace(**model, key=key)


_STEPS_BEFORE = "steps before the warm start"


def _steps_before(description: Mapping[str, Any]) -> int:
    """Returns the number of steps of all runs that precede the warm start; 0 without one."""
    return int(description["pins"].get(_STEPS_BEFORE, 0))


def make_evaluator(
    trainer: runner.Trainer,
    task: tasks.Task,
    settings: Settings,
    mesh: runner.Mesh | None = None,
) -> Evaluator:
    """Returns the evaluator of the settings' number of examples."""
    return Evaluator(trainer, task, evaluated_count(settings), mesh)


@lru_cache(1)
def _mesh(axes: tuple[tuple[str, int], ...]) -> runner.Mesh:
    return runner.make_mesh(dict(axes))


def mesh_of(settings: Settings) -> runner.Mesh | None:
    """Returns the mesh of the settings, if they have one.

    Raises:
      ValueError: it does not have as many devices as there are.
    """
    return _mesh(tuple(settings.axes.items())) if settings.axes else None


def evaluated_count(settings: Settings) -> int | None:
    """Returns the most examples of a part to evaluate on; `None` for all."""
    return settings.evaluate_on or (500 if settings.scale == "smoke" else None)


def averages_of(settings: Settings) -> Callable[[Any, Any], Any] | None:
    """Returns the function of `Evaluator.model_of` for the settings' optimizer."""
    if settings.self_tuning:
        return jd.averaged_params
    averages = OPTIMIZERS[settings.optimizer].averages
    return averages and jax.jit(jax.vmap(averages))
