"""One model on one data set: the plain training run, with everything that the runner has.

Any data set of `experiments.data` (or a text file), any model that fits it, an optimizer or
a tower over it; several seeds side by side. After each chunk of steps the validation part is
judged; the test part is judged once, with the parameters of the best validation loss.
"""

import dataclasses
import inspect
import json
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdescent as jd
from experiments import data, runner, tasks
from experiments.data.batches import Batches, data_seeds
from experiments.models.counting import parameter_count
from experiments.models.sampling import sample
from experiments.models.transformer import SIZES
from experiments.runner.curves import curve, draw
from experiments.runner.log import write_atomically
from experiments.runner.run import RunError

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "adamw": optax.adamw,
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
    "rmsprop": optax.rmsprop,
    "lion": optax.lion,
}
STEPS = {"smoke": 20, "small": 2_000, "full": 20_000}
LINE = "train"
HYPER_RATE = 0.05


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of a training run."""

    data: str = "digits"
    """A data set's name, or the path of a .txt or .txt.gz file."""
    data_dir: Path | None = None
    """The folder of data files; by default the environment's JAXDESCENT_DATA."""
    model: Literal["auto", "mlp", "cnn", "resnet", "transformer", "lstm", "gru", "tcn"] = "auto"
    """auto: mlp; transformer for a text, lstm for a series."""
    size: str | None = None
    """Of a transformer: 0.1M (the default), 0.8M, 3M, 11M, 25M or 124M."""
    positions: Literal["learned", "rotary"] | None = None
    """Of a transformer; by default learned."""
    bias: bool | None = None
    """Whether a transformer has biases, as GPT-2 does; by default not."""
    width: int | None = None
    """Of hidden layers, where the model takes it; 128."""
    depth: int | None = None
    """Hidden layers, where the model takes it; for a resnet 6n + 2."""
    dropout: float | None = None
    """Share of numbers dropped in training, in [0, 1), where the model takes it; 0."""
    tokenizer: Literal["character", "byte", "byte_pair"] | None = None
    """Of a text; by default character."""
    vocabulary_size: int | None = None
    """Of byte pairs; 1,024."""
    context: int | None = None
    """Tokens that a model of text sees; by default its size's, or 64."""
    window: int | None = None
    """Rows of a series that a forecast sees; 20."""
    optimizer: Literal["adam", "adamw", "sgd", "momentum", "nesterov", "rmsprop", "lion"] = "adam"
    """The optimizer."""
    learning_rate: float = 1e-3
    """Its learning rate, at the start or at the peak."""
    weight_decay: float | None = None
    """Of adamw and lion; by default optax's."""
    b2: float | None = None
    """Decay of the second moment, of adam, adamw and lion; by default optax's."""
    clip: float | None = None
    """Largest norm of the gradient; by default any."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine: warm up over 5% of the steps, then decay to a tenth."""
    tower: int = 0
    """Levels that learn the learning rate by hypergradients; 0 leaves it as it is."""
    steps: int | None = None
    """Optimizer steps; by default 20, 2,000 or 20,000, by scale."""
    batch_size: int = 64
    """Examples in a step."""
    accumulate: int = 1
    """Parts in which a batch is differentiated one after another, to save memory."""
    stream: bool = False
    """Keep the training data on the host and send batches, for data too large for the device."""
    evaluate_every: int | None = None
    """Steps between evaluations, a divisor of all; by default about a fortieth of them."""
    evaluate_on: int | None = None
    """Examples of a part that an evaluation takes at most; by default 500 at smoke, or all."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters and optimizer stay in float32."""
    seeds: int = 1
    """Networks trained side by side, each with its own start and data order."""
    sample: int = 200
    """Tokens that a model of text writes at the end, as far as its context reaches."""
    patience: int | None = None
    """Evaluations without a better validation loss after which to stop; by default never."""
    warm_start: Path | None = None
    """A run of this study to take the parameters from: its best, or its last."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be in [1, inf), got {value}")
        if self.size is not None and self.size not in SIZES:
            raise ValueError(f"--size must be one of {', '.join(SIZES)}, got {self.size!r}")
        if self.steps_in_all % (self.evaluate_every or 1):
            raise ValueError(
                f"--evaluate-every must divide the {self.steps_in_all} steps, "
                f"got {self.evaluate_every}"
            )
        if self.steps_in_all > 80 * self.steps_per_chunk and not self.evaluate_every:
            raise ValueError(
                f"--steps {self.steps_in_all} is no multiple of a good number of steps between "
                "evaluations; choose a rounder number, or --evaluate-every"
            )
        if self.data.endswith((".txt", ".txt.gz")):  # so that it is found from any folder
            object.__setattr__(self, "data", str(Path(self.data).expanduser().absolute()))
        if self.weight_decay is not None and not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"--weight-decay must be in [0, inf), got {self.weight_decay}")
        if self.b2 is not None and not 0 <= self.b2 < 1:
            raise ValueError(f"--b2 must be in [0, 1), got {self.b2}")
        for name in ("tower", "sample"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} must be in [0, inf), got {getattr(self, name)}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"--learning-rate must be in (0, inf), got {self.learning_rate}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"--clip must be in (0, inf), got {self.clip}")
        for name in ("weight_decay", "b2"):
            taken = inspect.signature(OPTIMIZERS[self.optimizer]).parameters
            if getattr(self, name) is not None and name not in taken:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be left out with {self.optimizer}")
        if self.tower and self.schedule != "constant":
            raise ValueError("--schedule must be constant with --tower, which learns the rate")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"--accumulate must divide --batch-size {self.batch_size}, got {self.accumulate}"
            )

    @property
    def steps_in_all(self) -> int:
        """How many steps are taken."""
        return self.steps or STEPS[self.scale]

    @property
    def steps_per_chunk(self) -> int:
        """Steps from one evaluation to the next."""
        steps = self.steps_in_all
        wanted = max(10, steps // 40)
        divisors = (every for every in range(min(wanted, steps), 0, -1) if steps % every == 0)
        return self.evaluate_every or next(divisors)


_COUNTS = [
    *("width", "depth", "context", "window", "vocabulary_size", "batch_size", "accumulate"),
    *("seeds", "steps", "evaluate_every", "evaluate_on", "patience"),
]


def check(settings: Settings) -> None:
    """Raises ValueError if the settings do not fit each other, or the data is missing."""
    task = task_of(settings)
    nnx.eval_shape(lambda: task.build(nnx.Rngs(0)))
    _batches(settings, task)
    if settings.warm_start:
        _warm_folder(settings.warm_start)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains, judges and draws."""
    task = task_of(settings)
    run.pin("data", task.digest())
    if task.tokenizer:  # the checkpoints are of no use without it
        write_atomically(run.folder / "tokenizer.json", json.dumps(task.tokenizer.to_dict()))
    every, steps = settings.steps_per_chunk, settings.steps_in_all
    train = runner.trainer(
        task.build,
        task.batch_of,
        task.scores,
        optimizer(settings, steps),
        prepare=task.prepare if settings.stream else None,
        accumulate=settings.accumulate,
        side_by_side=task.side_by_side,
    )
    keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
    state = train.start(keys)
    if settings.warm_start and not runner.Checkpoints(run.checkpoints_folder(LINE)).steps():
        state = _warm(state, settings.warm_start)
    batches = _batches(settings, task)
    program = runner.Program(
        train.chunk,
        state,
        steps_per_chunk=every,
        feed=batches.chunk(0, every),
        constants=(None if settings.stream else task.train.arrays,),
        calls=every if task.side_by_side == "unrolled" else 1,
    )
    judge = _Judge(train, task, settings)
    with runner.Progress(total=steps) as progress:
        loop = runner.Loop(
            run,
            LINE,
            program,
            state,
            chunks=steps // every,
            batches=batches,
            patience=settings.patience,
            progress=progress,
            save_final=True,
        )
        first = _first_network(loop.carry)
        path = runner.Trajectory(run.trajectory_folder(LINE), chunks=loop.chunks, example=first)
        if not loop.chunk:
            path.save(0, 0, first)
        for chunk in loop:
            state = chunk.carry
            if path.is_due(loop.chunk):
                path.save(loop.chunk, loop.step, _first_network(state))
            scores = judge(task.validation, state.params, state.model_state)
            validation = {f"validation_{name}": score for name, score in scores.items()}
            losses = chunk.metrics
            if not np.isfinite(losses).all():
                validation["not_finite_steps"] = np.sum(~np.isfinite(losses), 0)
            if settings.tower:
                validation["learning_rate"] = jd.get_hyperparams(state.opt_state)[0][
                    "learning_rate"
                ]
            loop.log(loss=losses.mean(0), **validation)
            value = validation.get("validation_loss", losses.mean(0))
            kept = {"params": state.params, "model_state": state.model_state}
            loop.update_best(float(np.mean(value)), keep=kept)
    return _results(settings, run, task, judge, loop)


@lru_cache(1)  # asked for by the check and by the run
def task_of(settings: Settings) -> tasks.Task:
    """The task that the settings ask for."""
    name = settings.model
    if name == "auto":
        known = settings.data in data.NAMES
        kind = data.entry(settings.data).kind if known else "text"
        name = {"text": "transformer", "series": "lstm"}.get(kind, "mlp")
    shape = tasks.Shape(
        name,
        settings.size,
        settings.width,
        settings.depth,
        settings.dropout,
        settings.positions,
        settings.bias,
        jnp.bfloat16 if settings.precision == "bfloat16" else None,
    )
    return tasks.load(
        settings.data,
        shape,
        data_dir=settings.data_dir,
        tokenizer=settings.tokenizer,
        vocabulary_size=settings.vocabulary_size,
        context=settings.context,
        window=settings.window,
    )


def optimizer(settings: Settings, steps: int) -> optax.GradientTransformation:
    """The optimizer of the settings for so many steps."""
    options = {"weight_decay": settings.weight_decay, "b2": settings.b2}
    given = {name: value for name, value in options.items() if value is not None}
    rate = settings.learning_rate

    def factory(learning_rate: Any) -> optax.GradientTransformation:
        optimizer = OPTIMIZERS[settings.optimizer](learning_rate=learning_rate, **given)
        if settings.clip is None:
            return optimizer
        return optax.chain(optax.clip_by_global_norm(settings.clip), optimizer)

    if settings.tower:
        tower: optax.GradientTransformation = optax.adam(HYPER_RATE)
        for _ in range(settings.tower - 1):
            tower = jd.hypergradient(optax.adam, tower, tune={"learning_rate": HYPER_RATE})
        return jd.hypergradient(factory, tower, tune={"learning_rate": rate})
    if settings.schedule == "constant":
        return factory(rate)
    warmup = max(1, steps // 20)
    return factory(
        optax.warmup_cosine_decay_schedule(0.0, rate, warmup, max(steps, warmup + 1), rate / 10)
    )


def _batches(settings: Settings, task: tasks.Task) -> Batches:
    if not settings.batch_size <= task.train.examples:
        raise ValueError(
            f"--batch-size must be in [1, {task.train.examples}], the training examples of "
            f"{task.name}, got {settings.batch_size}"
        )
    return Batches(
        task.train.examples,
        settings.batch_size,
        seeds=data_seeds(settings.seed, settings.seeds),
        replacement=task.replacement,
        gather=partial(task.pick, task.train.arrays) if settings.stream else None,
    )


def _first_network(state: runner.TrainState) -> dict[str, Any]:
    """What the path keeps: parameters and statistics of one network."""
    kept = {"params": state.params, "model_state": state.model_state}
    return jax.tree.map(lambda leaf: leaf[0], kept)


def _warm_folder(folder: Path) -> None:
    study = runner.read_description(folder)["study"]
    if study != "train":
        raise RunError(f"--warm-start takes a run of train, got {folder} of {study}")


def _warm(state: runner.TrainState, folder: Path) -> runner.TrainState:
    """The state with the parameters of another run, and an optimizer that starts afresh."""
    _warm_folder(folder)
    example = {"params": state.params, "model_state": state.model_state}
    checkpoints = runner.Checkpoints(folder / "checkpoints" / LINE)
    return state._replace(**jax.device_put(checkpoints.load_best(example)))


class _Judge:
    """The scores of a part of the data, as numpy arrays f32[seeds].

    Attributes:
      seconds: what evaluations took in this process.
    """

    def __init__(self, train: runner.Trainer, task: tasks.Task, settings: Settings):
        self._evaluate, self.seconds = train.evaluate, 0.0
        most = settings.evaluate_on or (500 if settings.scale == "smoke" else None)
        # Once: an evaluation would move the arrays to the device each time.
        self._parts = {
            id(part): (jax.device_put(part.arrays), tasks.spread(part.judged, most))
            for part in (task.validation, task.test)
        }

    def __call__(self, part: tasks.Part, params: Any, model_state: Any) -> dict[str, np.ndarray]:
        if not len(part.judged):
            return {}
        began = time.perf_counter()
        scores = jax.device_get(self._evaluate(params, model_state, *self._parts[id(part)]))
        self.seconds += time.perf_counter() - began
        return scores

    def judged(self, part: tasks.Part) -> int:
        """How many examples an evaluation takes."""
        return len(self._parts[id(part)][1])


def _results(
    settings: Settings, run: runner.Run, task: tasks.Task, judge: _Judge, loop: runner.Loop
) -> runner.Results:
    state: runner.TrainState = loop.carry
    last = {"params": state.params, "model_state": state.model_state}
    kept = loop.best(last)
    best, best_step = (kept, loop.best_step) if kept else (last, loop.step)
    history = run.log.read(LINE)
    values: dict[str, Any] = {"steps": loop.step, "best_step": loop.best_step if kept else None}
    values["loss"] = history[-1]["loss"]
    rows = [("training, last", str(loop.step), _mean_and_spread(values["loss"]), "-")]
    judged = [("validation, last", task.validation, last, loop.step)]
    if kept:
        judged += [("validation, best", task.validation, best, best_step)]
    judged += [(f"test, at the {'best' if kept else 'last'}", task.test, best, best_step)]
    for title, part, model, step in judged:
        scores = judge(part, **model)
        if not scores:
            continue
        values[title] = scores
        accuracy = scores.get("accuracy")
        shown = "-" if accuracy is None else _mean_and_spread(accuracy)
        rows.append((title, str(step), _mean_and_spread(scores["loss"]), shown))
    if task.baseline:
        name, loss = task.baseline
        values[f"test, {name}"] = {"loss": loss}
        rows.append((f"test, {name}", "-", f"{loss:.4g}", "-"))
    _draw(run, history)
    model = nnx.eval_shape(lambda: task.build(nnx.Rngs(0)))
    parameters = parameter_count(model)
    values["parameters"] = parameters
    notes = [
        f"{task.name}: {task.source}",
        f"{parameters:,} parameters; seeds: {settings.seeds}; a spread is the seeds' standard "
        f"deviation; {loop.step / max(loop.seconds, 1e-9):,.0f} steps a second, evaluations not "
        f"counted, which took {judge.seconds:.3g} s since the run was last started.",
    ]
    judged_on = {judge.judged(part) for part in (task.validation, task.test)}
    if max(judged_on) < max(len(task.validation.judged), len(task.test.judged)):
        notes.append(f"Judged on at most {max(judged_on)} examples of a part.")
    if not kept:
        notes.append("No validation loss was finite: all figures are of the last parameters.")
    broken = sum(bool(record.get("not_finite_steps")) for record in history)
    if broken:
        notes.append(f"In {broken} of {len(history)} chunks the loss was not finite in some step.")
    if loop.stalled:
        notes.append(f"Stopped early: {settings.patience} evaluations brought nothing better.")
    if task.tokenizer and settings.sample and settings.context != 1:
        written = _sample(settings, task, best)
        notes.append(f"A sample: {task.tokenizer.decode(written)!r}")
    columns = ("part", "step", "loss", "accuracy %")
    return runner.Results(f"{task.name} by {settings.optimizer}", columns, rows, notes, values)


def _sample(settings: Settings, task: tasks.Task, best: Any) -> np.ndarray:
    """What the first network writes after the validation text's first token."""
    model: Any = task.build(nnx.Rngs(0))
    for state in best["params"], best["model_state"]:
        nnx.update(model, jax.tree.map(lambda leaf: leaf[0], state))
    context = getattr(model, "context", None)
    length = settings.sample if context is None else min(settings.sample, context - 1)
    prompt = jnp.asarray(task.validation.arrays[None, :1], jnp.int32)
    written = sample(model, prompt, length=length, key=jax.random.key(settings.seed))
    return np.asarray(written[0])


def _mean_and_spread(values: Any) -> str:
    numbers = np.array([np.nan if value is None else value for value in np.ravel(values)], float)
    shown = f"{numbers.mean():.4g}"
    return shown if len(numbers) == 1 else f"{shown} ± {numbers.std():.2g}"


def _draw(run: runner.Run, history: list[dict[str, Any]]) -> None:
    """The training and the validation loss over the steps."""
    series = {}
    for label, metric in (("training", "loss"), ("validation", "validation_loss")):
        drawn = curve(history, metric)
        if drawn:
            series[label] = [(drawn.steps, drawn.values), (drawn.seconds, drawn.values)]
    if series:
        run.save_figure("losses", draw(series, ("steps", "seconds"), "loss"))
