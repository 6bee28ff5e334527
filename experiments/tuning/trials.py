"""Trials: one optimizer on one workload, evaluated on held-out examples.

Several networks are trained in parallel. An optimizer is compiled once per workload; the learning
rate is set in its state. Losses are the workload's: on held-out examples after the last step, or,
where the task changes, a mean over the second half of the steps. Every trial also keeps the
average of its parameters, by `jd.with_average`, or by `jd.self_tuning`, which averages its
parameters in the same way. The last and the averaged parameters are both evaluated.
"""

import gc
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments import runner
from experiments.tuning.protocol import CHUNKS, PreparedWorkload, Training
from experiments.tuning.workloads import FACTORIES
from jaxdescent.towers.self_tuning import first_rate

_MAPPINGS = Path("/proc/self/maps")
_FEW_MAPPINGS = 30_000


def _last_params(state: Any, params: Any) -> Any:
    del state
    return params


class Candidate(NamedTuple):
    """An optimizer to try.

    Attributes:
      tx: the transformation.
      set_rate: Called as `set_rate(state, learning_rate)`; returns the state with that learning
        rate. `None` if the learning rate is fixed when `tx` is built.
      get_rate: Called as `get_rate(state)`; returns the current learning rate. `None` if the
        optimizer has no such number.
      last_params: Called as `last_params(state, params)`; returns the parameters that the
        optimizer's authors evaluate after the last step.
      own_average: True if the state holds an average, which is then evaluated.
      needs_value_fn: True if the update also takes the gradient as `grad=` and the loss function
        as `value_fn=`, which only deterministic tasks have.
    """

    tx: optax.GradientTransformation
    set_rate: Callable[[Any, float], Any] | None = None
    get_rate: Callable[[Any], Any] | None = None
    last_params: Callable[[Any, Any], Any] = _last_params
    own_average: bool = False
    needs_value_fn: bool = False

    @property
    def averaging(self) -> optax.GradientTransformation:
        """The transformation with an average: its own or `jd.with_average`'s."""
        return self.tx if self.own_average else jd.with_average(self.tx)

    def evaluated(self, opt_state: Any, params: Any) -> tuple[Any, Any]:
        """Returns the last and the averaged parameters of one network.

        Args:
          opt_state: the state of `averaging`.
          params: the parameters after the last step.
        """
        own_state = opt_state if self.own_average else opt_state.inner_state
        return self.last_params(own_state, params), jd.averaged_params(opt_state, params)


def fixed(factory: Callable[..., optax.GradientTransformation]) -> Candidate:
    """Returns an optimizer with a fixed learning rate, which is set in its state."""
    tx = optax.inject_hyperparams(factory)(learning_rate=1.0)
    return Candidate(tx, _set_fixed_rate, _get_fixed_rate)


def self_tuning(factory: Callable[..., optax.GradientTransformation]) -> Candidate:
    """Returns `jd.self_tuning(factory)`; the guess of the learning rate is its default or set."""

    def set_rate(state: Any, learning_rate: float) -> Any:
        log = state.hyperparams["learning_rate"].log
        start = jd.Positive(jnp.full_like(log, jnp.log(first_rate(learning_rate))))
        return state._replace(hyperparams={"learning_rate": start})

    return Candidate(jd.self_tuning(factory), set_rate, learned_rate, own_average=True)


def learned_rate(state: Any) -> Any:
    """Returns the learning rate that a tower or self-tuning has learned."""
    return jd.get_hyperparams(state)[0]["learning_rate"]


def _get_fixed_rate(state: Any) -> Any:
    return state.inner_state.hyperparams["learning_rate"]


def _set_fixed_rate(state: Any, learning_rate: float) -> Any:
    full = jnp.full_like(_get_fixed_rate(state), learning_rate)
    hyperparams = {**state.inner_state.hyperparams, "learning_rate": full}
    return state._replace(inner_state=state.inner_state._replace(hyperparams=hyperparams))


def state_size(tx: optax.GradientTransformation, params: Any) -> float:
    """Returns the size of the optimizer's state in multiples of the parameters' size."""
    return _bytes(jax.eval_shape(tx.init, params)) / _bytes(params)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


class TrialResult(NamedTuple):
    """Losses and learning rates of a trial, `f32[seeds]` each.

    Attributes:
      last: the workload's loss at the last parameters.
      average: the workload's loss at the averaged parameters.
      training: mean training loss of the last tenth of the steps.
      rate: the final learning rate; nan if the optimizer has no such number.
      own_average: `bool[]`, True if the average counts rather than the last parameters.
    """

    last: np.ndarray
    average: np.ndarray
    training: np.ndarray
    rate: np.ndarray
    own_average: np.ndarray

    @property
    def losses(self) -> np.ndarray:
        """`f32[seeds]`, the losses that count."""
        return self.average if self.own_average else self.last

    @property
    def loss(self) -> float:
        """The mean of `losses`; inf if a network diverged."""
        return mean(self.losses)


def mean(values: np.ndarray) -> float:
    """Returns the mean, or inf if a value is not finite: a diverged trial ranks last."""
    return float(np.mean(values)) if np.isfinite(values).all() else float("inf")


class Trials:
    """Runs the trials of a candidate on a workload with one compiled program.

    Args:
      run: the run of the study.
      workload: the workload.
      name: of the candidate, unique for the workload.
      candidate: the optimizer.
      progress: counts the steps.
    """

    def __init__(
        self,
        run: runner.Run,
        workload: PreparedWorkload,
        name: str,
        candidate: Candidate,
        progress: runner.Progress | None = None,
    ):
        self._run, self._workload, self._candidate = run, workload, candidate
        self._name = f"{workload.workload.title}, {name}"
        self._progress = progress
        self._results: dict[str, TrialResult] = {}

    def __call__(self, learning_rate: float | None = None) -> TrialResult:
        """Runs a trial, or returns its result if it was run before.

        Args:
          learning_rate: the initial one; by default the learning rate that the candidate was
            built with.
        """
        name = self._name if learning_rate is None else f"{self._name} from {learning_rate:.3g}"
        if name in self._results:
            if self._progress:
                self._progress.skip(self._workload.steps)
            return self._results[name]
        self._results[name] = self._run.series(
            name,
            TrialResult,
            partial(self._compute, name, learning_rate),
            progress=self._progress,
            steps=self._workload.steps,
        )
        return self._results[name]

    @cached_property
    def _training(self) -> Training:
        _discard_many_programs()
        candidate = self._candidate
        return self._workload.training(
            candidate.averaging, candidate.evaluated, needs_value_fn=candidate.needs_value_fn
        )

    @cached_property
    def _program(self) -> runner.Program:
        return self._training.program()

    def _compute(self, name: str, learning_rate: float | None) -> TrialResult:
        training, candidate = self._training, self._candidate
        carry = training.start()
        if learning_rate is not None and candidate.set_rate:
            carry = carry._replace(opt_state=candidate.set_rate(carry.opt_state, learning_rate))
        loop = runner.Loop(
            self._run,
            name,
            self._program,
            carry,
            chunks=CHUNKS,
            batches=training.batches,
            progress=self._progress,
        )
        for chunk in loop:
            loop.log(loss=chunk.metrics.mean(0))
        last, average = training.losses(loop.carry)
        final_loss = self._run.log.read(name)[-1]["loss"]
        no_rate = np.full(len(self._workload.keys), np.nan)
        rate = candidate.get_rate(loop.carry.opt_state) if candidate.get_rate else no_rate
        return TrialResult(
            last=last,
            average=average,
            training=np.array(final_loss, np.float32),  # where the log has null, nan
            rate=rate,
            own_average=np.asarray(candidate.own_average),
        )


class GridResult(NamedTuple):
    """Results of a grid of fixed learning rates.

    Attributes:
      rates: the learning rates, ascending.
      results: the trial of each.
    """

    rates: Sequence[float]
    results: Sequence[TrialResult]

    @property
    def losses(self) -> np.ndarray:
        """`f64[rates]`, held-out losses at the last parameters; inf where a trial diverged."""
        return np.array([result.loss for result in self.results])

    @property
    def averaged(self) -> np.ndarray:
        """`f64[rates]`, held-out losses at the averages; inf where a trial diverged."""
        return np.array([mean(result.average) for result in self.results])

    @property
    def best(self) -> int:
        """The index of the learning rate with the least held-out loss."""
        return int(np.argmin(self.losses))

    @property
    def at_end(self) -> bool:
        """True if the best learning rate is the least or the greatest of the grid."""
        return self.best in (0, len(self.rates) - 1)

    def extended(self, trial: Callable[[float], TrialResult]) -> "GridResult":
        """Returns the grid with the next half decade beyond its best learning rate, at an end."""
        rates, results = list(self.rates), list(self.results)
        if self.best == 0:
            rate = _half_decade(rates[0], -1)
            return GridResult([rate, *rates], [trial(rate), *results])
        rate = _half_decade(rates[-1], 1)
        return GridResult([*rates, rate], [*results, trial(rate)])


EXTENSIONS = 4  # learning rates added to a grid


def _half_decade(rate: float, direction: int) -> float:
    """Returns the next of ..., 0.1, 0.3, 1, 3, ... up or down."""
    position = round(2 * np.log10(rate)) + direction
    decade, half = divmod(position, 2)
    return float(f"{3 if half else 1}e{decade}")


def run_grid(
    run: runner.Run,
    workload: PreparedWorkload,
    optimizer: str,
    progress: runner.Progress | None = None,
) -> GridResult:
    """Runs an optimizer at each fixed learning rate of its grid.

    While the best learning rate is at an end of the grid, the next half decade is added there, at
    most `EXTENSIONS` times; not at scale smoke.
    """
    rates = list(workload.settings.grid(optimizer))
    trial = Trials(run, workload, f"{optimizer} fixed", fixed(FACTORIES[optimizer]), progress)
    found = GridResult(rates, [trial(rate) for rate in rates])
    extensions = 0 if workload.settings.scale == "smoke" else EXTENSIONS
    for _ in range(extensions):
        if not found.at_end:
            break
        if progress:
            progress.extend(workload.steps)
        found = found.extended(trial)
    return found


def ratio(loss: float, reference: float) -> float:
    """Returns loss / reference; inf if the trial diverged."""
    return loss / reference if np.isfinite(loss) else float("inf")


def format_loss(value: float, digits: str = ".2f") -> str:
    """Formats a loss or a ratio of losses for a table."""
    return f"{value:{digits}}" if np.isfinite(value) else "diverged"


def notes_on_grid_ends(grids: Sequence[tuple[str, GridResult]]) -> list[str]:
    """Returns a sentence that names the grids whose best learning rate is at an end, if any.

    Args:
      grids: pairs of a name and the results.
    """
    found = [f"{name} ({grid.rates[grid.best]:.0e})" for name, grid in grids if grid.at_end]
    if not found:
        return []
    return [f"The best fixed learning rate is at an end of its grid: {', '.join(found)}."]


def _discard_many_programs() -> None:
    """Discards all compiled programs if there are so many that Linux may soon refuse the next one.

    They need memory mappings, of which a process has 65,530 by default. An optimizer on a workload
    needs a few thousand.
    """
    if _MAPPINGS.exists() and _MAPPINGS.read_bytes().count(b"\n") > _FEW_MAPPINGS:
        gc.collect()
        jax.clear_caches()
