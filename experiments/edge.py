"""Runs at the edge of stability: full batches, a probe between compiled chunks of steps.

The network is that of J. Cohen et al. 2021 (arXiv:2103.00065; `gd.py cifar10-5k fc-tanh mse` in
github.com/locuslab/edge-of-stability): two hidden layers of 200 tanh, half the summed squared
error to one-hot labels, PyTorch's default weights. Biases start at zero.
"""

from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments import data, runner
from experiments.data import Split

EVERY = 20  # steps between probes
WIDTH = 200


class Rule(NamedTuple):
    """An optimizer with its threshold; both have their rate from the state.

    Attributes:
      factory: takes `learning_rate`.
      threshold: what it can bear.
      takes_grad_fn: whether its update asks for gradients elsewhere.
    """

    factory: Callable[..., optax.GradientTransformation]
    threshold: jd.thresholds.Threshold
    takes_grad_fn: bool = False


RHO = 0.05


def _sam(learning_rate: Any) -> optax.GradientTransformation:
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(RHO))
    return optax.contrib.sam(optax.sgd(learning_rate), ascent, opaque_mode=True)


_momentum = partial(optax.sgd, momentum=0.9)
_rmsprop = partial(optax.rmsprop, decay=0.99, eps_in_sqrt=False)

RULES = {
    "GD": Rule(optax.sgd, jd.thresholds.sgd()),
    "Polyak": Rule(_momentum, jd.thresholds.sgd(momentum=0.9)),
    "Nesterov": Rule(
        partial(_momentum, nesterov=True), jd.thresholds.sgd(momentum=0.9, nesterov=True)
    ),
    "RMSProp": Rule(_rmsprop, jd.thresholds.rmsprop(decay=0.99, eps_in_sqrt=False)),
    "Adam": Rule(optax.adam, jd.thresholds.adam()),
    "SAM": Rule(_sam, jd.thresholds.sam(rho=RHO), takes_grad_fn=True),
}


class Case(NamedTuple):
    """A line of the study: an optimizer on a task.

    Attributes:
      rule: one of `RULES`.
      value: the learning rate; of a ride, the fraction of the greatest stable one.
      role: "edge", "far below", "too large" or "ride": what is expected of it.
    """

    rule: str
    value: float
    role: str

    @property
    def name(self) -> str:
        """What is printed."""
        if self.role == "ride":
            return f"{self.rule}, ridden at {self.value:g}"
        return f"{self.rule}, rate {self.value:g}"


class Path(NamedTuple):
    """What a case came to with one seed; `n` probes, `c` chunks.

    Attributes:
      step, loss, learning_rate, sharpness, residual, threshold, converged: [n], the records.
      rises: f64[c], the share of a chunk's steps that raised the loss.
      reached, left, not_finite, outcome: i32[], as in `jd.StabilityState`.
      unconverged: i32[], probes whose eigenvalue was not within the tolerance.
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
        """f[n], sharpness over threshold."""
        return self.sharpness / self.threshold

    @property
    def flagged(self) -> bool:
        """Whether the guard says that the run has left its edge."""
        return bool(self.outcome >= jd.StabilityOutcome.DIVERGING)

    @property
    def diverged(self) -> bool:
        """Whether the loss ended above its start, or as no number."""
        return not self.loss[-1] <= self.loss[0]

    @property
    def at_edge(self) -> np.ndarray:
        """bool[n], from the first probe at the threshold on; nowhere if there was none."""
        return (self.step >= self.reached) & (self.reached >= 0)


class Task(NamedTuple):
    """Images with one-hot labels, all in one batch.

    Attributes:
      title: what is printed.
      inputs: f32[n, pixels], of mean 0 and spread 1.
      targets: f32[n, classes].
    """

    title: str
    inputs: np.ndarray
    targets: np.ndarray

    @classmethod
    def load(cls, name: str, count: int, data_dir: Any = None) -> "Task":
        """The first images of a data set, in a fixed random order.

        Raises:
          DataError: there is no such file.
        """
        found: Any = data.load(name, data_dir) if data_dir else data.load(name)
        parts = found.train, found.validation
        joined = Split(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        order = np.random.default_rng(0).permutation(len(joined.targets))[:count]
        split = found.normalized(Split(joined.inputs[order], joined.targets[order]))
        inputs = np.reshape(split.inputs, (len(order), -1))
        targets = np.eye(found.classes, dtype=np.float32)[split.targets]
        return cls(f"{len(order):,} {name.split('_')[0]} images", inputs, targets)

    @property
    def sizes(self) -> Sequence[int]:
        """Of the network's layers."""
        return self.inputs.shape[1], WIDTH, WIDTH, self.targets.shape[1]


def network(key: jax.Array, sizes: Sequence[int]) -> list[dict[str, jax.Array]]:
    """Weights uniform in +-1 / sqrt(inputs), biases zero."""

    def layer(key: jax.Array, m: int, n: int) -> dict[str, jax.Array]:
        bound = 1 / np.sqrt(m)
        weights = jax.random.uniform(key, (m, n), minval=-bound, maxval=bound)
        return {"weights": weights, "bias": jnp.zeros(n)}

    keys = jax.random.split(key, len(sizes) - 1)
    return [layer(key, m, n) for key, (m, n) in zip(keys, pairwise(sizes), strict=True)]


def loss(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Half the squared error, summed over classes, mean over examples."""
    x, targets = batch
    *hidden, last = params
    for layer in hidden:
        x = jnp.tanh(x @ layer["weights"] + layer["bias"])
    errors = x @ last["weights"] + last["bias"] - targets
    return 0.5 * jnp.mean(jnp.sum(errors**2, axis=-1))


class Runs:
    """The runs of a rule on a task, by one compiled program for all rates and seeds."""

    def __init__(
        self,
        run: runner.Run,
        task: Task,
        rule: str,
        progress: runner.Progress,
        *,
        chunks: int,
        ridden_at: float | None = None,
    ):
        self._run, self._task, self._progress, self._chunks = run, task, progress, chunks
        self._computed = 0
        self._rule, self._ridden = RULES[rule], ridden_at is not None
        self._probe = jd.stability_probe(loss, self._rule.threshold, log_size=chunks)
        if ridden_at is None:
            tx = optax.inject_hyperparams(self._rule.factory)(learning_rate=1.0)
        else:
            tx = jd.scale_by_sharpness(
                self._rule.factory,
                loss,
                self._rule.threshold,
                fraction=ridden_at,
                every=EVERY,
                log_size=chunks,
            )
        self._tx = optax.with_extra_args_support(tx)

    def __call__(self, case: Case, seed: int) -> Path:
        """The path of a seed."""
        name = f"{self._task.title}, {case.name}, seed {seed}"
        before = self._computed
        path = Path(**self._run.once(name, partial(self._compute, name, case, seed)))
        if self._computed == before:  # in an earlier process
            self._progress.skip(self._chunks * EVERY)
        return path

    @cached_property
    def _program(self) -> runner.Program:
        batch = jnp.asarray(self._task.inputs), jnp.asarray(self._task.targets)
        start = jax.eval_shape(self._start, jax.random.key(0), 1.0)
        return runner.Program(self._chunk, start, steps_per_chunk=EVERY, constants=(batch,))

    def _start(self, key: jax.Array, rate: Any) -> Any:
        params = network(key, self._task.sizes)
        state: Any = self._tx.init(params)
        if self._ridden:
            return params, state, None
        known = state.hyperparams["learning_rate"]
        state = state._replace(hyperparams={"learning_rate": jnp.full_like(known, rate)})
        return params, state, self._probe.init(params)

    def _update(self, params: Any, state: Any, batch: Any) -> tuple[Any, Any, Any, jax.Array]:
        value, grads = jax.value_and_grad(loss)(params, batch)
        extra: dict[str, Any] = {"batch": batch} if self._ridden else {}
        if self._rule.takes_grad_fn:
            extra["grad_fn"] = lambda there, _: jax.grad(loss)(there, batch)
        updates, state = self._tx.update(grads, state, params, **extra)
        return updates, state, grads, value

    def _chunk(self, carry: Any, chunk: jax.Array, batch: Any) -> Any:
        """A probe of the step to come, then the steps; a ride has its own probes."""
        params, state, stability = carry
        if not self._ridden:
            _, ahead, grads, _ = self._update(params, state, batch)
            stability = self._probe.update(stability, params, ahead, grads, batch, chunk * EVERY)

        def step(carry: Any, _: None) -> Any:
            params, state = carry
            updates, state, _, value = self._update(params, state, batch)
            return (optax.apply_updates(params, updates), state), value

        (params, state), losses = jax.lax.scan(step, (params, state), length=EVERY)
        return (params, state, stability), losses

    def _compute(self, name: str, case: Case, seed: int) -> dict[str, Any]:
        self._computed += 1
        key = jax.random.fold_in(jax.random.key(self._run.settings.seed), seed)
        start = jax.jit(self._start)(key, case.value)
        loop = runner.Loop(
            self._run, name, self._program, start, chunks=self._chunks, progress=self._progress
        )
        for chunk in loop:
            losses = chunk.metrics
            loop.log(loss=losses.mean(), rises=np.mean(losses[1:] > losses[:-1]))
        state = jd.get_stability(loop.carry)
        return {
            **jd.stability_log(state)._asdict(),
            "rises": np.array([record["rises"] for record in self._run.log.read(name)]),
            "reached": state.reached,
            "left": state.diverged,
            "not_finite": state.not_finite,
            "outcome": state.outcome,
            "unconverged": state.unconverged,
        }


QUADRATIC_STEPS = 1_000


def quadratic(ratio: float) -> jd.StabilityState:
    """What a monitor finds of descent whose sharpness is `ratio` of the threshold."""
    return _descent()(jnp.float32(ratio * 2) * jnp.linspace(0.1, 1.0, 20))


@cache
def _descent() -> Callable[[jax.Array], jd.StabilityState]:
    def bowl(x: jax.Array, scales: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(scales * x**2)

    tx = jd.monitor_stability(optax.sgd(1.0), bowl, jd.thresholds.sgd(1.0), every=EVERY)

    def descend(scales: jax.Array) -> jd.StabilityState:
        def step(carry: Any, _: None) -> Any:
            x, state = carry
            updates, state = tx.update(jax.grad(bowl)(x, scales), state, x, batch=scales)
            return (optax.apply_updates(x, updates), state), None

        x = jnp.ones(20)
        (_, state), _ = jax.lax.scan(step, (x, tx.init(x)), length=QUADRATIC_STEPS)
        return jd.get_stability(state)

    return jax.jit(descend)
