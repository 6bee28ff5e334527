"""Towers of SGD as published: unconstrained learning rates, on a network with tanh logits.

Source: K. Chandra et al. 2022, arXiv:1909.13371, figure 3a.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdescent as jd
from experiments import runner
from experiments.data import DataError
from experiments.models.mlp import MLP
from experiments.studies.sensitivity.settings import Settings
from experiments.tasks import Task
from experiments.tuning import trials
from experiments.tuning.trials import Candidate, TrialResult, Trials
from experiments.tuning.workloads import WORKLOADS, PreparedWorkload, Workload

MIN_LOSS = float(np.log(1 + 9 * np.exp(-2)))  # the least loss with ten logits in [-1, 1]


class PublishedTowers(NamedTuple):
    """Trials of the published towers and of self-tuning.

    Attributes:
      workload: the workload.
      starts: initial learning rates.
      heights: of the towers; a tower of height 0 is plain SGD.
      towers: for each height, the trial from each of `starts`.
      self_tuned: the trial of `jd.self_tuning` from each of `starts`.
    """

    workload: Workload
    starts: Sequence[float]
    heights: Sequence[int]
    towers: Sequence[Sequence[TrialResult]]
    self_tuned: Sequence[TrialResult]


class TanhLogits(nnx.Module):
    """A multilayer perceptron with tanh after every layer, the last one included."""

    def __init__(self, sizes: Sequence[int], *, rngs: nnx.Rngs):
        self.mlp = MLP(sizes, activation=jnp.tanh, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits `f32[batch, classes]` in [-1, 1] for images `f32[batch, ...]`."""
        return jnp.tanh(self.mlp(x.reshape(len(x), -1)))


def prepare(settings: Settings) -> PreparedWorkload:
    """Returns MNIST with the published activations, or the digits if MNIST is not found."""
    try:
        return _prepare("mnist", 28 * 28, settings)
    except DataError:
        return _prepare("digits", 8 * 8, settings)


def _prepare(name: str, pixels: int, settings: Settings) -> PreparedWorkload:
    workload: Any = WORKLOADS[name]
    title, adapt = f"{workload.title} with tanh", partial(_with_tanh_logits, pixels)
    return dataclasses.replace(workload, title=title, adapt=adapt).prepare(settings)


def _with_tanh_logits(pixels: int, task: Task) -> Task:
    def build(rngs: nnx.Rngs) -> TanhLogits:
        return TanhLogits([pixels, 64, 10], rngs=rngs)

    return task._replace(build=build)


def run_towers(
    run: runner.Run,
    workload: PreparedWorkload,
    heights: Sequence[int],
    starts: Sequence[float],
    progress: runner.Progress,
) -> PublishedTowers:
    """Runs a tower of each height, then self-tuning, from each of `starts`."""

    def trial_from_each_start(name: str, candidate: Candidate) -> list[TrialResult]:
        trial = Trials(run, workload, name, candidate, progress)
        return [trial(start) for start in starts]

    towers = [trial_from_each_start(tower_name(height), raw_tower(height)) for height in heights]
    self_tuned = trial_from_each_start(SELF_TUNING, trials.self_tuning(_sgd))
    return PublishedTowers(workload.workload, starts, heights, towers, self_tuned)


SELF_TUNING = "SGD self-tuning"


def tower_name(height: int) -> str:
    """Returns the name of a published tower in logs and figures."""
    return f"raw SGD tower of height {height}"


def raw_tower(height: int) -> Candidate:
    """Returns SGD whose learning rate is learned by SGD, and so on, `height` times.

    Learning rates are unconstrained. `set_rate` sets them at every level.
    """
    tower: Any = optax.inject_hyperparams(_sgd)(learning_rate=1.0)
    for _ in range(height):
        tower = jd.hypergradient(_sgd, tower, tune={"learning_rate": jd.unconstrained(1.0)})

    def set_rate(state: Any, learning_rate: float) -> Any:
        state = jax.tree.map(lambda x: _set_top_rate(x, learning_rate), state, is_leaf=_is_top)
        return jd.set_hyperparams(state, *[{"learning_rate": learning_rate}] * height)

    return Candidate(tower, set_rate if height else trials.fixed(_sgd).set_rate)


def _sgd(learning_rate: Any) -> optax.GradientTransformation:
    return optax.sgd(learning_rate)


def _is_top(node: Any) -> bool:
    return isinstance(node, optax.InjectStatefulHyperparamsState)


def _set_top_rate(node: Any, learning_rate: float) -> Any:
    if not _is_top(node):
        return node
    full = jnp.full_like(node.hyperparams["learning_rate"], learning_rate)
    return node._replace(hyperparams={**node.hyperparams, "learning_rate": full})
