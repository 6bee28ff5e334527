"""One model on one data set: the plain training run, with everything that the runner has.

Any data set of `experiments.data` (or a text file), any model that fits it, an optimizer or
a tower over it; several seeds side by side. After each chunk of steps the validation part is
judged; the test part is judged once, with the parameters of the best validation loss.
"""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdescent as jd
from experiments import data, runner, tasks
from experiments.data.batches import Batches
from experiments.models.counting import parameter_count
from experiments.models.sampling import sample
from experiments.runner.curves import curve, draw
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
    size: str = "0.1M"
    """Of a transformer: 0.1M, 0.8M, 3M, 11M, 25M or 124M."""
    width: int = 128
    """Of hidden layers."""
    depth: int | None = None
    """Hidden layers; for a resnet 6n + 2."""
    dropout: float = 0.0
    """Share of numbers dropped in training, in [0, 1)."""
    tokenizer: Literal["character", "byte", "byte_pair"] = "character"
    """Of a text."""
    context: int | None = None
    """Tokens that a model of text sees; by default its size's, or 64."""
    window: int = 20
    """Rows of a series that a forecast sees."""
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
    """Steps between evaluations; by default a fortieth of all, at least 10."""
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
        for name in ("width", "batch_size", "accumulate", "seeds", "window"):
            _at_least_one(name, getattr(self, name))
        for name in ("depth", "context", "steps", "evaluate_every", "patience"):
            if getattr(self, name) is not None:
                _at_least_one(name, getattr(self, name))
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


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"--{name.replace('_', '-')} must be in [1, inf), got {value}")


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains, judges and draws."""
    task = _task(settings)
    steps = settings.steps or STEPS[settings.scale]
    every = min(settings.evaluate_every or max(10, steps // 40), steps)
    chunks = -(-steps // every)
    train = runner.trainer(
        task.build,
        task.batch_of,
        task.scores,
        optimizer(settings, chunks * every),
        prepare=task.prepare if settings.stream else None,
        accumulate=settings.accumulate,
        side_by_side=_side_by_side(task),
    )
    keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
    state = train.start(keys)
    if settings.warm_start:
        state = _warm(state, settings.warm_start)
    batches = Batches(
        task.train.examples,
        settings.batch_size,
        seeds=_data_seeds(settings),
        replacement=task.replacement,
        gather=partial(task.pick, task.train.arrays) if settings.stream else None,
    )
    program = runner.Program(
        train.chunk,
        state,
        steps_per_chunk=every,
        feed=batches.chunk(0, every),
        constants=(None if settings.stream else task.train.arrays,),
        calls=every if _side_by_side(task) == "unrolled" else 1,
    )
    judge = _Judge(train, task)
    with runner.Progress(total=chunks * every) as progress:
        loop = runner.Loop(
            run,
            LINE,
            program,
            state,
            chunks=chunks,
            batches=batches,
            patience=settings.patience,
            progress=progress,
        )
        for chunk in loop:
            state = chunk.carry
            scores = judge(task.validation, state.params, state.model_state)
            validation = {f"validation_{name}": score for name, score in scores.items()}
            losses = chunk.metrics
            if not np.isfinite(losses).all():
                validation["not_finite_steps"] = np.sum(~np.isfinite(losses), 0)
            if settings.tower:
                validation["learning_rate"] = jd.hyperparameters(state.opt_state)[0][
                    "learning_rate"
                ]
            loop.log(loss=losses.mean(0), **validation)
            value = validation.get("validation_loss", losses.mean(0))
            kept = {"params": state.params, "model_state": state.model_state}
            loop.judge(float(np.mean(value)), keep=kept)
    return _results(settings, run, task, judge, loop)


def _task(settings: Settings) -> tasks.Task:
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
        jnp.bfloat16 if settings.precision == "bfloat16" else None,
    )
    return tasks.load(
        settings.data,
        shape,
        data_dir=settings.data_dir,
        tokenizer=settings.tokenizer,
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


def _side_by_side(task: tasks.Task) -> Literal["vmap", "map", "unrolled"]:
    """How several networks are trained: what XLA does well with.

    A batch of networks turns convolutions into grouped ones, twice as slow as one after
    another; and on a CPU a convolution in a loop is 5 to 30 times slower than outside.
    """
    if not task.convolutional:
        return "vmap"
    return "unrolled" if jax.default_backend() == "cpu" else "map"


def _data_seeds(settings: Settings) -> list[int]:
    """A seed of the data order for each network, that no other run's network shares."""
    sequence = np.random.SeedSequence([settings.seed, 0])
    return [int(seed) for seed in sequence.generate_state(settings.seeds, np.uint64)]


def _warm(state: runner.TrainState, folder: Path) -> runner.TrainState:
    """The state with the parameters of another run, and an optimizer that starts afresh."""
    description = runner.read_description(folder)
    if description["study"] != "train":
        raise RunError(f"--warm-start takes a run of train, got {folder} of {description['study']}")
    example = {"params": state.params, "model_state": state.model_state}
    checkpoints = runner.Checkpoints(folder / "checkpoints" / LINE)
    return state._replace(**jax.device_put(checkpoints.load(example)))


class _Judge:
    """The scores of a part of the data, as numpy arrays f32[seeds]."""

    def __init__(self, train: runner.Trainer, task: tasks.Task):
        self._evaluate = train.evaluate
        # Once: an evaluation would move the arrays to the device each time.
        self._arrays = {
            id(part): (jax.device_put(part.arrays), part.judged)
            for part in (task.validation, task.test)
        }

    def __call__(self, part: tasks.Part, params: Any, model_state: Any) -> dict[str, np.ndarray]:
        if not len(part.judged):
            return {}
        return jax.device_get(self._evaluate(params, model_state, *self._arrays[id(part)]))


def _results(
    settings: Settings, run: runner.Run, task: tasks.Task, judge: _Judge, loop: runner.Loop
) -> runner.Results:
    state: runner.TrainState = loop.carry
    kept = loop.best({"params": state.params, "model_state": state.model_state})
    best = kept or {"params": state.params, "model_state": state.model_state}
    history = run.log.read(LINE)
    rows = []
    values: dict[str, Any] = {"steps": loop.step, "best_step": loop.best_step}
    if history:
        values["loss"] = history[-1]["loss"]
        rows.append(("training, last", str(loop.step), _mean_and_spread(history[-1]["loss"]), "-"))
    for title, part, params, step in (
        ("validation, last", task.validation, state._asdict(), loop.step),
        ("validation, best", task.validation, best, loop.best_step),
        ("test, at the best", task.test, best, loop.best_step),
    ):
        scores = judge(part, params["params"], params["model_state"])
        if not scores:
            continue
        values[title] = scores
        accuracy = scores.get("accuracy")
        shown = "-" if accuracy is None else _mean_and_spread(accuracy)
        rows.append((title, str(step), _mean_and_spread(scores["loss"]), shown))
    _draw(run, history)
    model = nnx.eval_shape(lambda: task.build(nnx.Rngs(0)))
    parameters = parameter_count(model)
    values["parameters"] = parameters
    notes = [
        f"{settings.data}: {task.source}",
        f"{parameters:,} parameters; seeds: {settings.seeds}; a spread is the seeds' standard "
        f"deviation; {loop.step / max(loop.seconds, 1e-9):,.0f} steps a second.",
    ]
    if loop.stalled:
        notes.append(f"Stopped early: {settings.patience} evaluations brought nothing better.")
    if task.decode and settings.sample:
        notes.append(f"A sample: {_sample(settings, task, best)!r}")
    columns = ("part", "step", "loss", "accuracy %")
    return runner.Results(f"{settings.data} by {settings.optimizer}", columns, rows, notes, values)


def _sample(settings: Settings, task: tasks.Task, best: Any) -> str:
    """What the first network writes after the validation text's first token."""
    decode = task.decode or str
    model: Any = task.build(nnx.Rngs(0))
    for state in best["params"], best["model_state"]:
        nnx.update(model, jax.tree.map(lambda leaf: leaf[0], state))
    context = getattr(model, "context", None)
    length = settings.sample if context is None else min(settings.sample, context - 1)
    prompt = jnp.asarray(task.validation.arrays[None, :1], jnp.int32)
    written = sample(model, prompt, length=length, key=jax.random.key(settings.seed))
    return decode(np.asarray(written[0]))


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
