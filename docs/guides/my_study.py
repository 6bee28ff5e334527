"""Momentum on an ill-conditioned quadratic."""

import dataclasses
from typing import NamedTuple

import jax
import optax

from experiments import runner


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    steps: int = 200  # optimizer steps
    momentum: float = 0.9  # of the second series

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise ValueError(f"--momentum must be in [0, 1), got {self.momentum}")


class Outcome(NamedTuple):
    loss: jax.Array


def _train(momentum: float, settings: Settings) -> Outcome:
    tx, w = optax.sgd(1.0, momentum), jax.random.normal(jax.random.key(settings.seed), (20,))
    scales, state = jax.numpy.geomspace(1e-3, 1.0, 20), tx.init(w)
    for _ in range(settings.steps):
        updates, state = tx.update(scales * w, state)
        w = optax.apply_updates(w, updates)
    return Outcome((scales * w**2).sum() / 2)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    momenta = (0.0, settings.momentum)
    series = {m: run.series(f"{m}", Outcome, lambda m=m: _train(m, settings)) for m in momenta}
    rows = [[f"{m}", f"{outcome.loss:.2g}"] for m, outcome in series.items()]
    return runner.Results("Momentum", ["momentum", "loss"], rows, notes=[], values={"rows": rows})
