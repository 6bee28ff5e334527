"""Full-batch training with a probe of the sharpness before each compiled chunk of steps."""

import hashlib
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments import data, runner
from experiments.data import DataError, Split
from experiments.models.tanh_network import init_params, squared_error
from experiments.studies.edge_of_stability.settings import OPTIMIZERS, Case

PROBE_EVERY = 20  # steps
WIDTH = 200


class FullBatch(NamedTuple):
    """Images with one-hot labels, all in one batch.

    Attributes:
      title: the name in tables and figures.
      inputs: `f32[n, pixels]`, standardized.
      targets: `f32[n, classes]`.
    """

    title: str
    inputs: np.ndarray
    targets: np.ndarray

    @property
    def layer_sizes(self) -> Sequence[int]:
        """Sizes of the network's layers."""
        return self.inputs.shape[1], WIDTH, WIDTH, self.targets.shape[1]

    def digest(self) -> str:
        """Returns a digest of the images and labels."""
        return hashlib.sha256(self.inputs.tobytes() + self.targets.tobytes()).hexdigest()


def load_batch(name: str, count: int, data_dir: Path | None = None) -> FullBatch:
    """Loads the first images of a data set in a fixed random order.

    Raises:
      DataError: a file is missing.
    """
    found: Any = data.load(name, data_dir) if data_dir else data.load(name)
    parts = found.train, found.validation
    joined = Split(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    order = np.random.default_rng(0).permutation(len(joined.targets))[:count]
    split = found.normalized(Split(joined.inputs[order], joined.targets[order]))
    inputs = np.reshape(split.inputs, (len(order), -1))
    targets = np.eye(found.classes, dtype=np.float32)[split.targets]
    return FullBatch(f"{len(order):,} {name.split('_')[0]} images", inputs, targets)


def load_cifar(count: int, data_dir: Path | None) -> FullBatch:
    """Loads images of CIFAR-10, or of the part of it that is in one file."""
    try:
        return load_batch("cifar10", count, data_dir)
    except DataError:
        return load_batch("cifar10_subset", count, data_dir)


class Plan(NamedTuple):
    """The cases to run on a data set.

    Attributes:
      batch: the images.
      cases: the cases.
      seeds: networks for each case.
      steps: optimizer steps of each network.
    """

    batch: FullBatch
    cases: Sequence[Case]
    seeds: int
    steps: int


class ProbeHistory(NamedTuple):
    """The records of one network's training, with `n` probes and `c` chunks.

    Attributes:
      step, loss, learning_rate, sharpness, residual, threshold, converged: [n], the records of
        `jd.stability_log`.
      rises: `f64[c]`, the fraction of a chunk's steps that increased the loss.
      reached, left, not_finite, outcome: `i32[]`, as in `jd.StabilityState`.
      unconverged: `i32[]`, the number of probes whose eigenvalue missed the tolerance.
    """

    step: np.ndarray
    loss: np.ndarray
    learning_rate: np.ndarray
    sharpness: np.ndarray
    residual: np.ndarray
    threshold: np.ndarray
    converged: np.ndarray
    rises: np.ndarray
    reached: np.ndarray
    left: np.ndarray
    not_finite: np.ndarray
    outcome: np.ndarray
    unconverged: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """`f[n]`, sharpness over threshold."""
        return self.sharpness / self.threshold

    @property
    def flagged(self) -> bool:
        """True if the monitor reports divergence or values that are not finite."""
        return bool(self.outcome >= jd.StabilityOutcome.DIVERGING)

    @property
    def diverged(self) -> bool:
        """True if the last loss exceeds the first or is nan."""
        return not self.loss[-1] <= self.loss[0]

    @property
    def at_edge(self) -> np.ndarray:
        """`bool[n]`, True from the first probe at the threshold on."""
        return (self.step >= self.reached) & (self.reached >= 0)


class ProbedTraining:
    """Trains networks with one optimizer, by one compiled program for all rates and seeds.

    Args:
      run: the run of the study.
      batch: the images.
      optimizer: one of `OPTIMIZERS`.
      progress: counts the steps.
      chunks: number of probes.
      fraction: of the threshold for `jd.scale_by_sharpness`; `None` for fixed learning rates.
    """

    def __init__(
        self,
        run: runner.Run,
        batch: FullBatch,
        optimizer: str,
        progress: runner.Progress,
        *,
        chunks: int,
        fraction: float | None = None,
    ):
        self._run, self._batch, self._progress, self._chunks = run, batch, progress, chunks
        self._optimizer, self._scaled = OPTIMIZERS[optimizer], fraction is not None
        threshold = self._optimizer.threshold
        self._probe = jd.stability_probe(squared_error, threshold, log_size=chunks)
        if fraction is None:
            tx = optax.inject_hyperparams(self._optimizer.factory)(learning_rate=1.0)
        else:
            tx = jd.scale_by_sharpness(
                self._optimizer.factory,
                squared_error,
                threshold,
                fraction=fraction,
                every=PROBE_EVERY,
                log_size=chunks,
            )
        self._tx = optax.with_extra_args_support(tx)

    def __call__(self, case: Case, seed: int) -> ProbeHistory:
        """Trains the network of a seed."""
        name = f"{self._batch.title}, {case.name}, seed {seed}"
        return self._run.series(
            name,
            ProbeHistory,
            partial(self._compute, name, case, seed),
            progress=self._progress,
            steps=self._chunks * PROBE_EVERY,
        )

    @cached_property
    def _program(self) -> runner.Program:
        batch = jnp.asarray(self._batch.inputs), jnp.asarray(self._batch.targets)
        start = jax.eval_shape(self._init, jax.random.key(0), 1.0)
        return runner.Program(
            self._run_chunk, start, steps_per_chunk=PROBE_EVERY, constants=(batch,)
        )

    def _init(self, key: jax.Array, learning_rate: Any) -> Any:
        params = init_params(key, self._batch.layer_sizes)
        state: Any = self._tx.init(params)
        if self._scaled:
            return params, state, None
        full = jnp.full_like(state.hyperparams["learning_rate"], learning_rate)
        state = state._replace(hyperparams={"learning_rate": full})
        return params, state, self._probe.init(params)

    def _update(self, params: Any, state: Any, batch: Any) -> tuple[Any, Any, Any, jax.Array]:
        value, grads = jax.value_and_grad(squared_error)(params, batch)
        extra: dict[str, Any] = {"batch": batch} if self._scaled else {}
        if self._optimizer.takes_grad_fn:
            extra["grad_fn"] = lambda params, _: jax.grad(squared_error)(params, batch)
        updates, state = self._tx.update(grads, state, params, **extra)
        return updates, state, grads, value

    def _run_chunk(self, carry: Any, chunk: jax.Array, batch: Any) -> Any:
        """Probes the next step, then takes the steps; `jd.scale_by_sharpness` probes itself."""
        params, state, stability = carry
        if not self._scaled:
            _, next_state, grads, _ = self._update(params, state, batch)
            step = chunk * PROBE_EVERY
            stability = self._probe.update(stability, params, next_state, grads, batch, step)

        def take_step(carry: Any, _: None) -> Any:
            params, state = carry
            updates, state, _, value = self._update(params, state, batch)
            return (optax.apply_updates(params, updates), state), value

        (params, state), losses = jax.lax.scan(take_step, (params, state), length=PROBE_EVERY)
        return (params, state, stability), losses

    def _compute(self, name: str, case: Case, seed: int) -> ProbeHistory:
        key = jax.random.fold_in(jax.random.key(self._run.settings.seed), seed)
        start = jax.jit(self._init)(key, case.learning_rate or 1.0)
        loop = runner.Loop(
            self._run, name, self._program, start, chunks=self._chunks, progress=self._progress
        )
        for chunk in loop:
            losses = chunk.metrics
            loop.log(loss=losses.mean(), rises=np.mean(losses[1:] > losses[:-1]))
        state = jd.get_stability(loop.carry)
        return ProbeHistory(
            **jd.stability_log(state)._asdict(),
            rises=np.array([record["rises"] for record in self._run.log.read(name)]),
            reached=np.asarray(state.reached),
            left=np.asarray(state.diverged),
            not_finite=np.asarray(state.not_finite),
            outcome=np.asarray(state.outcome),
            unconverged=np.asarray(state.unconverged),
        )
