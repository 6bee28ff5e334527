"""Momentum on an ill-conditioned quadratic."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments import runner


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings; each field is a flag of the command line."""

    steps: int = 200
    """Optimizer steps."""


class Outcome(NamedTuple):
    """Outcome of a series."""

    loss: jax.Array


def _train(momentum: float, settings: Settings) -> Outcome:
    tx, w = optax.sgd(1.0, momentum), jax.random.normal(jax.random.key(settings.seed), (20,))
    scales, state = jnp.geomspace(1e-3, 1.0, 20), tx.init(w)
    for _ in range(settings.steps):
        updates, state = tx.update(scales * w, state)
        w = optax.apply_updates(w, updates)
    return Outcome(0.5 * jnp.sum(scales * w**2))


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains with and without momentum."""
    series = {m: run.series(f"{m}", Outcome, lambda m=m: _train(m, settings)) for m in (0.0, 0.9)}
    rows = [[f"{m}", f"{outcome.loss:.2g}"] for m, outcome in series.items()]
    return runner.Results("Momentum", ["momentum", "loss"], rows, notes=[], values={"rows": rows})
