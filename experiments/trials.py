"""Trials: an optimizer's steps on a small task, judged by the loss of held-out examples.

What the studies of robustness share: the tasks, the optimizers that have a rate to find, the
grids of fixed rates, and the trial itself, of several networks side by side. An optimizer is
compiled once for a task; a rate is set in its state. It lives here, on top of `tasks` and
`runner`, and not among the studies, each of which is a command.

Every trial carries the average of its path beside its parameters,

    y <- y + (p + 1) / (n + p) (x - y)     n = 1, 2, ...

with the weights of `jd.self_tuning` (O. Shamir, T. Zhang 2013, arXiv:1212.1824), which
brings its own: both are judged in one run.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdescent as jd
from experiments import runner, tasks
from experiments.data import DataError
from experiments.data.batches import Batches, data_seeds
from experiments.tasks import Shape
from jaxdescent.towers.recipe import POWER

CHUNKS = 10  # of a trial; the last is the last tenth, whose training loss is reported
WINDOWS = 512  # of a held-out text; a loss of characters to about half a percent
STEPS = {"smoke": 10, "full": 5}  # in all; times the task's own


class Workload(NamedTuple):
    """A task with how it is trained.

    Attributes:
      title: what is printed.
      data: one of `data.NAMES`.
      shape: the model.
      batch_size: examples in a step.
      steps: of a trial at scale small, a multiple of `CHUNKS`.
      context: tokens that a model of text sees.
      chosen_on: whether `jd.self_tuning`'s constants were chosen on it.
    """

    title: str
    data: str
    shape: Shape
    batch_size: int
    steps: int
    context: int | None = None
    chosen_on: bool = False


_MLP = Shape("mlp", width=64)
WORKLOADS = {
    "digits": Workload("digits MLP", "digits", _MLP, 16, 600, chosen_on=True),
    "mnist": Workload("MNIST MLP", "mnist", _MLP, 64, 1_500, chosen_on=True),
    "diabetes": Workload("diabetes MLP", "diabetes", _MLP, 16, 300),
    "pneumonia": Workload("PneumoniaMNIST CNN", "pneumoniamnist", Shape("cnn"), 32, 300),
    "shakespeare": Workload(
        "tinyshakespeare transformer",
        "tinyshakespeare",
        Shape("transformer", size="0.1M"),
        16,
        800,
        context=32,
    ),
}
WorkloadName = Literal["digits", "mnist", "diabetes", "pneumonia", "shakespeare"]


def _momentum(learning_rate: Any) -> optax.GradientTransformation:
    return optax.sgd(learning_rate, momentum=0.9)


def _adam(learning_rate: Any) -> optax.GradientTransformation:
    return optax.adam(learning_rate)


def _adamw(learning_rate: Any) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, weight_decay=1e-2)


FACTORIES = {"sgd": _momentum, "adam": _adam, "adamw": _adamw}
OptimizerName = Literal["sgd", "adam", "adamw"]
# Half decades, wide enough that the best is inside; the studies say so where it is not.
_ADAM_GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
GRIDS = {
    "sgd": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0),
    "adam": _ADAM_GRID,
    "adamw": _ADAM_GRID,
}
SMOKE_GRID = (1e-3, 1e-2, 1e-1)


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of a study that is made of trials."""

    tasks: tuple[WorkloadName, ...] = ("digits", "mnist", "diabetes", "pneumonia", "shakespeare")
    """The tasks; one whose data is missing is left out, with a line that says so."""
    optimizers: tuple[OptimizerName, ...] = ("sgd", "adam", "adamw")
    """What is tuned: sgd has a momentum of 0.9, adamw a decay of 0.01."""
    data_dir: Path | None = None
    """The folder of data files; by default the environment's JAXDESCENT_DATA."""
    seeds: int = 3
    """Networks trained side by side, each with its own start and data order."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise ValueError(f"--seeds must be in [1, inf), got {self.seeds}")
        for name in ("tasks", "optimizers"):
            value = tuple(getattr(self, name))  # a list, when a run is resumed
            if not value:
                raise ValueError(f"--{name} must name at least one")
            object.__setattr__(self, name, tuple(dict.fromkeys(value)))

    def grid(self, optimizer: str) -> tuple[float, ...]:
        """The fixed rates that are tried."""
        return SMOKE_GRID if self.scale == "smoke" else GRIDS[optimizer]


class Contestant(NamedTuple):
    """An optimizer in a trial.

    Attributes:
      tx: the transformation.
      at: from `(state, rate)` to the state with that rate; None if it is built with one.
      rate: from a state to the rate that it has come to; None if there is no such number.
      last: from `(state, params)` to the parameters of the last step, as its authors judge them.
      own_average: whether the state holds an average, which is then what is judged.
    """

    tx: optax.GradientTransformation
    at: Callable[[Any, float], Any] | None = None
    rate: Callable[[Any], Any] | None = None
    last: Callable[[Any, Any], Any] = lambda _, params: params
    own_average: bool = False


def fixed(factory: Callable[..., optax.GradientTransformation]) -> Contestant:
    """An optimizer at a rate that is set in its state, and stays."""
    tx = optax.inject_hyperparams(factory)(learning_rate=1.0)
    return Contestant(tx, _at_fixed, _fixed_rate)


def self_tuning(factory: Callable[..., optax.GradientTransformation]) -> Contestant:
    """The recipe, from its default start or another that is set."""
    at = lambda state, rate: jd.set_hyperparameters(state, {"learning_rate": rate})
    return Contestant(jd.self_tuning(factory), at, learned_rate, own_average=True)


def learned_rate(state: Any) -> Any:
    """A tower's rate."""
    return jd.hyperparameters(state)[0]["learning_rate"]


def _fixed_rate(state: Any) -> Any:
    return state.inner.hyperparams["learning_rate"]


def _at_fixed(state: Any, rate: float) -> Any:
    full = jnp.full_like(_fixed_rate(state), rate)
    hyperparams = {**state.inner.hyperparams, "learning_rate": full}
    return state._replace(inner=state.inner._replace(hyperparams=hyperparams))


class AveragedState(NamedTuple):
    """What `with_average` carries.

    Attributes:
      inner: the optimizer's state.
      average: of the parameters from which steps were taken.
      count: i32[], how many those were.
    """

    inner: Any
    average: Any
    count: jax.Array


def with_average(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The same updates, with the average of the path in the state."""
    tx = optax.with_extra_args_support(tx)

    def init(params: Any) -> AveragedState:
        return AveragedState(tx.init(params), params, jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        updates, inner = tx.update(updates, state.inner, params, **extra)
        count = jnp.asarray(optax.safe_increment(state.count))
        weight = (POWER + 1) / (count + POWER)
        average = jax.tree.map(lambda y, x: y + weight * (x - y), state.average, params)
        return updates, AveragedState(inner, average, count)

    return optax.GradientTransformationExtraArgs(init, update)


def buffers(tx: optax.GradientTransformation, params: Any) -> float:
    """The size of the state in multiples of the parameters'."""
    size = lambda tree: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    return size(jax.eval_shape(tx.init, params)) / size(params)


class Outcome(NamedTuple):
    """What a trial came to, of each network: f32[seeds].

    Attributes:
      last: the held-out loss of the last parameters.
      average: that of the average of the path.
      training: the mean loss of the last tenth of the steps.
      rate: the learning rate at the end; nan where there is none.
      own_average: whether the average is what is judged.
    """

    last: np.ndarray
    average: np.ndarray
    training: np.ndarray
    rate: np.ndarray
    own_average: np.ndarray

    @property
    def judged(self) -> np.ndarray:
        """The held-out losses that count."""
        return self.average if self.own_average else self.last

    @property
    def loss(self) -> float:
        """Their mean; inf if a network diverged."""
        return mean(self.judged)


def mean(values: np.ndarray) -> float:
    """The mean; inf if a value is not finite, so that what diverged is worse than all else."""
    return float(np.mean(values)) if np.isfinite(values).all() else float("inf")


class Arena:
    """A workload that is ready: its data is loaded, its evaluation compiled once.

    Args:
      workload: which.
      settings: of the study.
      build: makes another model than the workload's.

    Raises:
      DataError: the data is missing or is not what it should be.
    """

    def __init__(
        self,
        workload: Workload,
        settings: Settings,
        build: Callable[[nnx.Rngs], nnx.Module] | None = None,
    ):
        self.workload, self.settings = workload, settings
        task = tasks.load(
            workload.data, workload.shape, data_dir=settings.data_dir, context=workload.context
        )
        self.task = task._replace(build=build) if build else task
        factor = STEPS["full"] if settings.scale == "full" else 1
        self.steps = STEPS["smoke"] if settings.scale == "smoke" else factor * workload.steps
        self.keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
        self.batches = Batches(
            self.task.train.examples,
            workload.batch_size,
            seeds=data_seeds(settings.seed, settings.seeds),
            replacement=self.task.replacement,
        )
        self._judge = self.trainer(optax.identity())

    def trainer(self, tx: optax.GradientTransformation) -> runner.Trainer:
        """What trains the task's model by an optimizer."""
        task = self.task
        return runner.trainer(
            task.build, task.batch_of, task.scores, tx, side_by_side=task.side_by_side
        )

    @cached_property
    def params(self) -> Any:
        """The shapes of a network's parameters."""
        alone = jax.eval_shape(self._judge.start, self.keys[:1]).params
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), alone)

    @cached_property
    def held_out(self) -> list[tuple[Any, np.ndarray]]:
        """The arrays of the validation and the test part, and which of their examples count."""
        most = WINDOWS // 2 if self.task.tokenizer else None
        parts = [part for part in (self.task.validation, self.task.test) if len(part.judged)]
        return [(jax.device_put(part.arrays), tasks.spread(part.judged, most)) for part in parts]

    def loss(self, params: Any, model_state: Any) -> np.ndarray:
        """The mean loss over all held-out examples: f32[seeds]."""
        sums = [
            len(chosen) * self._judge.evaluate(params, model_state, arrays, chosen)["loss"]
            for arrays, chosen in self.held_out
        ]
        return np.asarray(sum(sums)) / sum(len(chosen) for _, chosen in self.held_out)


class Trials:
    """The trials of a contestant in an arena, by one compiled program."""

    def __init__(
        self,
        run: runner.Run,
        arena: Arena,
        name: str,
        contestant: Contestant,
        progress: runner.Progress | None = None,
    ):
        self._run, self._arena, self._contestant = run, arena, contestant
        self._name = f"{arena.workload.title}, {name}"
        self._progress, self._computed = progress, 0

    def __call__(self, rate: float | None = None) -> Outcome:
        """The trial from a rate, or from that with which the contestant was built."""
        name = self._name if rate is None else f"{self._name} from {rate:.3g}"
        before = self._computed
        outcome = Outcome(**self._run.once(name, partial(self._compute, name, rate)))
        if self._progress and self._computed == before:  # in an earlier process
            self._progress.skip(self._arena.steps)
        return outcome

    @cached_property
    def _trainer(self) -> runner.Trainer:
        tx = self._contestant.tx
        return self._arena.trainer(tx if self._contestant.own_average else with_average(tx))

    @cached_property
    def _program(self) -> runner.Program:
        arena, steps = self._arena, self._arena.steps // CHUNKS
        return runner.Program(
            self._trainer.chunk,
            jax.eval_shape(self._trainer.start, arena.keys),
            steps_per_chunk=steps,
            feed=arena.batches.chunk(0, steps),
            constants=(arena.task.train.arrays,),
            calls=steps if arena.task.side_by_side == "unrolled" else 1,
        )

    def _compute(self, name: str, rate: float | None) -> dict[str, Any]:
        self._computed += 1
        arena, contestant = self._arena, self._contestant
        state = self._trainer.start(arena.keys)
        if rate is not None and contestant.at:
            state = state._replace(opt_state=contestant.at(state.opt_state, rate))
        loop = runner.Loop(
            self._run,
            name,
            self._program,
            state,
            chunks=CHUNKS,
            batches=arena.batches,
            progress=self._progress,
        )
        for chunk in loop:
            loop.log(loss=chunk.metrics.mean(0))
        state = loop.carry
        params, opt_state = state.params, state.opt_state
        if contestant.own_average:
            average, inner = jd.averaged_params(opt_state, params), opt_state
        else:
            average, inner = opt_state.average, opt_state.inner
        last = jax.vmap(contestant.last)(inner, params)
        training = self._run.log.read(name)[-1]["loss"]
        return {
            "last": arena.loss(last, state.model_state),
            "average": arena.loss(average, state.model_state),
            "training": np.array(training, np.float32),  # None, where it was not finite, to nan
            "rate": contestant.rate(opt_state) if contestant.rate else [np.nan] * len(arena.keys),
            "own_average": contestant.own_average,
        }


def arenas(settings: Settings, run: runner.Run) -> tuple[list[Arena], list[str]]:
    """The workloads whose data is there, and a sentence for each that is left out."""
    ready, left_out = [], []
    for name in settings.tasks:
        workload = WORKLOADS[name]
        try:
            arena = Arena(workload, settings)
        except DataError as error:
            left_out.append(f"{workload.title} is left out: {error}")
            continue
        run.pin(f"data of {name}", arena.task.digest())
        ready.append(arena)
    return ready, left_out


class Grid(NamedTuple):
    """What a half-decade grid of fixed rates came to.

    Attributes:
      rates: in ascending order.
      outcomes: of each.
    """

    rates: Sequence[float]
    outcomes: Sequence[Outcome]

    @property
    def losses(self) -> np.ndarray:
        """The held-out losses of the last parameters: f64[rates]; inf where one diverged."""
        return np.array([outcome.loss for outcome in self.outcomes])

    @property
    def averaged(self) -> np.ndarray:
        """The held-out losses of the averages: f64[rates]; inf where one diverged."""
        return np.array([mean(outcome.average) for outcome in self.outcomes])

    @property
    def best(self) -> int:
        """The place of the rate with the least held-out loss."""
        return int(np.argmin(self.losses))

    @property
    def at_edge(self) -> bool:
        """Whether a better rate may lie beyond the grid."""
        return self.best in (0, len(self.rates) - 1)


def grid_of(
    run: runner.Run, arena: Arena, optimizer: str, progress: runner.Progress | None = None
) -> Grid:
    """The trials of an optimizer's fixed rates."""
    rates = arena.settings.grid(optimizer)
    trial = Trials(run, arena, f"{optimizer} fixed", fixed(FACTORIES[optimizer]), progress)
    return Grid(rates, [trial(rate) for rate in rates])


def ratio(loss: float, reference: float) -> float:
    """How much worse a loss is; inf if it diverged."""
    return loss / reference if np.isfinite(loss) else float("inf")


def shown(value: float, digits: str = ".2f") -> str:
    """A loss or a ratio as it is printed."""
    return f"{value:{digits}}" if np.isfinite(value) else "diverged"


def edges(grids: Sequence[tuple[str, Grid]]) -> list[str]:
    """A sentence on the grids whose best rate is at an edge, if there are any."""
    found = [f"{name} ({grid.rates[grid.best]:.0e})" for name, grid in grids if grid.at_edge]
    return [f"The best fixed rate is at an edge of its grid: {', '.join(found)}."] if found else []
