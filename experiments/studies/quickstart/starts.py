"""Training from every initial learning rate: fixed, with towers, and with self-tuning.

One compiled program per method trains the networks of all initial learning rates and seeds side by
side. The learning rate is part of the optimizer's state, so the states differ and the program does
not.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments import runner
from experiments.data import Split
from experiments.studies.quickstart import network
from experiments.studies.quickstart.settings import BATCH_SIZE, EPOCHS, Settings

FACTORIES = {"Adam": optax.adam, "SGD with momentum": partial(optax.sgd, momentum=0.9)}
HYPER_RATE = 0.05


class Method(NamedTuple):
    """An optimizer, and how its learning rate is chosen.

    Attributes:
      optimizer: a key of `FACTORIES`.
      kind: "fixed", "fixed, averaged", "tower" or "self-tuning".
      height: height of a tower.
    """

    optimizer: str
    kind: str
    height: int = 0

    @property
    def choice(self) -> str:
        """The kind, with the height of a tower."""
        return f"{self.kind} {self.height}" if self.height else self.kind

    @property
    def name(self) -> str:
        """The name in logs and tables."""
        return f"{self.optimizer}, {self.choice}"

    @property
    def averages(self) -> bool:
        """True if the average of the parameters is evaluated, not the last parameters."""
        return self.kind in ("fixed, averaged", "self-tuning")

    def transformation(self, learning_rate: float) -> optax.GradientTransformation:
        """Returns the transformation with an initial learning rate."""
        factory = FACTORIES[self.optimizer]
        if self.kind == "self-tuning":
            return jd.self_tuning(factory, learning_rate=learning_rate)
        if self.kind == "tower":
            tower: optax.GradientTransformation = optax.adam(HYPER_RATE)
            for _ in range(self.height - 1):
                tower = jd.hypergradient(optax.adam, tower, tune={"learning_rate": HYPER_RATE})
            return jd.hypergradient(factory, tower, tune={"learning_rate": learning_rate})
        plain = optax.inject_hyperparams(factory)(learning_rate=learning_rate)
        return jd.with_average(plain) if self.averages else plain

    def learning_rate(self, state: Any) -> jax.Array:
        """Returns the learning rate of one network, f32[]."""
        if self.kind == "fixed":
            return state.hyperparams["learning_rate"]
        if self.kind == "fixed, averaged":
            return state.inner_state.hyperparams["learning_rate"]
        return jd.get_hyperparams(state)[0]["learning_rate"]


_ALL = [
    Method(optimizer, kind, height)
    for optimizer in FACTORIES
    for kind, heights in (
        ("fixed", (0,)),
        ("fixed, averaged", (0,)),
        ("tower", (1, 2, 3)),
        ("self-tuning", (0,)),
    )
    for height in heights
]
METHODS = {
    # Programs take most of the time of a smoke run to compile.
    "smoke": [each for each in _ALL if each.optimizer == "Adam" and each.height in (0, 2)],
    "small": _ALL,
    "full": _ALL,
}


class Sweep(NamedTuple):
    """Results of a method with `n` initial learning rates and `s` seeds.

    Attributes:
      validation_losses: `f32[n, s]`; inf where a network diverged.
      accuracies: `f32[n, s]`, on the test images, in percent.
      rates: `f32[n, s]`, the final learning rates.
      steps_per_second: `f64[]`, the highest of all epochs; a step trains all n s networks.
    """

    validation_losses: np.ndarray
    accuracies: np.ndarray
    rates: np.ndarray
    steps_per_second: np.ndarray

    @property
    def best(self) -> int:
        """The index of the initial learning rate with the least mean validation loss."""
        return int(self.validation_losses.mean(1).argmin())

    @property
    def mean_accuracies(self) -> np.ndarray:
        """`f32[n]`, means over the seeds."""
        return self.accuracies.mean(1)


class Sweeps:
    """Trains the networks of a method.

    Args:
      run: the run of the study.
      settings: its settings.
      data: the images.
      starts: the initial learning rates.

    Attributes:
      steps: the number of steps of a sweep.
    """

    def __init__(
        self,
        run: runner.Run,
        settings: Settings,
        data: network.Parts,
        starts: Sequence[float],
    ):
        self._run, self._data, self._starts = run, data, starts
        self._keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
        self._epochs = EPOCHS[settings.scale]
        self._steps_per_epoch = len(self._data.train.targets) // BATCH_SIZE
        self.steps = self._epochs * self._steps_per_epoch
        self._scores = jax.jit(jax.vmap(jax.vmap(_scores, (0, None)), (0, None)))

    def __call__(self, method: Method, progress: runner.Progress) -> Sweep:
        """Returns the results of a method, or reads them if the run has them already."""
        train = partial(self._train, method, progress)
        return self._run.series(method.name, Sweep, train, progress=progress, steps=self.steps)

    def _train(self, method: Method, progress: runner.Progress) -> Sweep:
        carry = self._start(method)
        train_epoch = partial(epoch, method, self._data.train, self._keys)
        program = runner.Program(train_epoch, carry, steps_per_chunk=self._steps_per_epoch)
        loop = runner.Loop(
            self._run, method.name, program, carry, chunks=self._epochs, progress=progress
        )
        for chunk in loop:
            losses, rates = chunk.metrics
            loop.log(loss=losses, learning_rate=rates)
        losses, accuracies, rates = jax.device_get(self._evaluate(method, loop.carry))
        history = self._run.log.read(method.name)
        return Sweep(
            validation_losses=np.nan_to_num(losses, nan=np.inf),
            accuracies=accuracies,
            rates=rates,
            steps_per_second=np.max([record["steps_per_second"] for record in history]),
        )

    def _start(self, method: Method) -> Any:
        """Returns the initial parameters and optimizer states, all with axes [n, s]."""
        params = jax.vmap(network.init)(self._keys)
        states = [jax.vmap(method.transformation(start).init)(params) for start in self._starts]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * len(states)), params), stacked

    def _evaluate(self, method: Method, carry: Any) -> Any:
        """Returns validation losses, test accuracies and learning rates, f32[n, s] each."""
        params, state = carry
        evaluated = jd.averaged_params(state, params) if method.averages else params
        return *self._scores(evaluated, self._data), method.learning_rate(state)


def _scores(params: Any, data: network.Parts) -> tuple[jax.Array, jax.Array]:
    """Returns the validation loss and the test accuracy of a network, f32[] each."""
    return network.loss(params, data.validation), network.accuracy(params, data.test)


def epoch(method: Method, examples: Split, keys: jax.Array, carry: Any, number: jax.Array) -> Any:
    """Trains all networks for an epoch; each seed has its own order of the examples.

    Args:
      method: the method.
      examples: the training part.
      keys: key[s].
      carry: parameters and optimizer states, with axes [n, s].
      number: i32[], of the epoch.

    Returns:
      The new carry, and for each initial learning rate the mean loss of the epoch and the geometric
      mean of the learning rates at its end, f32[n].
    """
    update = method.transformation(1.0).update  # it is the same for all initial learning rates
    steps = len(examples.targets) // BATCH_SIZE

    def one_network(params: Any, state: Any, key: jax.Array) -> Any:
        order = jax.random.permutation(jax.random.fold_in(key, number), len(examples.targets))
        batches = order[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE)

        def step(carry: Any, indices: jax.Array) -> Any:
            params, state = carry
            batch = jax.tree.map(lambda x: x[indices], examples)
            value, grads = jax.value_and_grad(network.loss)(params, batch)
            extra = {"value": value} if method.kind == "self-tuning" else {}
            updates, state = update(grads, state, params, **extra)
            return (optax.apply_updates(params, updates), state), value

        (params, state), losses = jax.lax.scan(step, (params, state), batches)
        return (params, state), losses.mean(), method.learning_rate(state)

    params, state = carry
    of_seeds = jax.vmap(one_network)
    carry, losses, rates = jax.vmap(of_seeds, in_axes=(0, 0, None))(params, state, keys)
    return carry, (losses.mean(1), jnp.exp(jnp.log(rates).mean(1)))
