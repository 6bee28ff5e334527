"""Trials: an optimizer's steps on a workload, judged by the loss of held-out examples.

Several networks are trained side by side. An optimizer is compiled once for a workload; a rate
is set in its state. Every trial carries the average of its path beside its parameters,

    y <- y + (p + 1) / (n + p) (x - y)     n = 1, 2, ...

with the weights of `jd.self_tuning` (O. Shamir, T. Zhang 2013, arXiv:1212.1824), which
brings its own: both are judged in one run.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments import runner
from experiments.workloads import CHUNKS, FACTORIES, Arena
from jaxdescent.towers.averaging import average_weight


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
    at = lambda state, rate: jd.set_hyperparams(state, {"learning_rate": rate})
    return Contestant(jd.self_tuning(factory), at, learned_rate, own_average=True)


def learned_rate(state: Any) -> Any:
    """A tower's rate."""
    return jd.get_hyperparams(state)[0]["learning_rate"]


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
        weight = average_weight(count)
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
