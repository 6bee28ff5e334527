"""Momentum on an ill-conditioned quadratic."""

import dataclasses
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments import runner

STEPS = {"smoke": 10, "small": 200, "full": 5_000}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    momentum: float = 0.9  # of the second method
    seeds: int = 3  # number of starts of each method
    may_change: ClassVar = (*runner.Settings.may_change, "seeds")


class Outcome(NamedTuple):
    losses: jax.Array  # after each step


def train(momentum: float, seed: int, steps: int) -> Outcome:
    tx, scales = optax.sgd(1.0, momentum), jax.numpy.geomspace(1e-3, 1.0, 20)

    def step(carry, _):
        updates, state = tx.update(scales * carry[0], carry[1])
        w = optax.apply_updates(carry[0], updates)
        return (w, state), (scales * w**2).sum() / 2

    w = jax.random.normal(jax.random.key(seed), (20,))
    return Outcome(jax.lax.scan(step, (w, tx.init(w)), length=steps)[1])


def run(settings: Settings, run: runner.Run) -> runner.Results:
    steps, names, medians = STEPS[settings.scale], ["plain", "momentum"], []
    seeds = range(settings.seed, settings.seed + settings.seeds)
    with runner.Progress(total=len(names) * len(seeds) * steps) as progress:
        for name, momentum in zip(names, [0.0, settings.momentum], strict=True):
            losses = []
            for seed in seeds:
                compute = partial(train, momentum, seed, steps)
                series = f"{name}, seed {seed}"
                outcome = run.series(series, Outcome, compute, progress=progress, steps=steps)
                losses.append(outcome.losses)
            medians.append(np.median(losses, axis=0))
    figure = Figure()
    figure.subplots().semilogy(np.transpose(medians), label=names)
    figure.legend()
    run.save_figure("losses", figure)
    last = [float(median[-1]) for median in medians]
    best = names[int(np.argmin(last))]
    verdict = f"{best} wins: a median loss of {min(last):.2g} against {max(last):.2g}"
    rows = [[name, f"{loss:.2g}"] for name, loss in zip(names, last, strict=True)]
    notes, values = [f"Medians of {len(seeds)} starts."], dict(zip(names, last, strict=True))
    return runner.Results("Momentum", ["method", "loss"], rows, notes, values, verdict)
