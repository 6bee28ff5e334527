"""Clipping under heavy-tailed noise: where clipped gradient descent converges, and how fast.

    F(x) = |x - 1|^2 / 2    gradients x - 1 + noise    P(|noise| > s) ~ s^-p    steps 4 / (t + 1)

The noise has finite moments only below order p. With the gradient norm clipped at t^(1/p), the
mean loss of the weighted average of the iterates is O(T^(-2 (p - 1) / p)), which is optimal;
without clipping it is infinite (J. Zhang et al. 2020, arXiv:1912.03194). A constant threshold is
better for symmetric noise, but converges to a wrong point for skewed noise. Without noise, the
study compares clipping with the best constant step size on a function whose curvature grows with
its slope (J. Zhang, T. He, S. Sra, A. Jadbabaie 2020, arXiv:1905.11881).
"""

from functools import partial

import jax
import numpy as np

from experiments import runner
from experiments.studies.clipping.cosh import StepCounts, count_steps
from experiments.studies.clipping.noisy import GROWING_NORM, NOISES, NoisyLosses, clippings, descend
from experiments.studies.clipping.report import StudyResult, draw, make_results
from experiments.studies.clipping.settings import COSH_STARTS, LOG2_STEPS, SEEDS, Settings

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs all methods and seeds together, one noise after another, and draws the figure."""
    low, high = LOG2_STEPS[settings.scale]
    grid, starts = tuple(2**k for k in range(low, high + 1)), COSH_STARTS[settings.scale]
    keys = jax.random.split(jax.random.key(settings.seed), len(NOISES))
    shown = [*clippings(1.5)].index(GROWING_NORM)
    losses = {}
    total = len(NOISES) * grid[-1] + len(starts)
    with jax.enable_x64(True), runner.Progress(total=total) as progress:
        for noise, key in zip(NOISES, keys, strict=True):
            losses[noise] = run.series(
                noise.name,
                NoisyLosses,
                partial(descend, key, noise, grid, SEEDS[settings.scale]),
                progress=progress,
                steps=grid[-1],
                loss=lambda result: np.median(result.losses[shown, -1]),
            ).losses
        cosh = [
            run.series(
                f"cosh {start:g}",
                StepCounts,
                partial(count_steps, start),
                progress=progress,
                steps=1,
            )
            for start in starts
        ]
    result = StudyResult(np.array(grid), losses, cosh)
    run.save_figure("clipping", draw(result))
    return make_results(result)
