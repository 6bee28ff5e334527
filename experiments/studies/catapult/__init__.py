"""Catapults: learning rates above 2 / sharpness that converge to flatter minima.

    f = <u, v> / sqrt(m)    loss f^2 / 2    u, v standard normal in m dimensions

For a wide network and a learning rate times the sharpness below 2, gradient descent hardly
changes the sharpness. Between 2 and 4 the loss grows until the sharpness has decreased, and then
converges. Above 4 it diverges (A. Lewkowycz, Y. Bahri, E. Dyer, J. Sohl-Dickstein, G. Gur-Ari
2020, arXiv:2003.02218). The study also trains a ReLU network, whose limit is higher, and tests
`jd.step_sizes.catapult_warmup`, which starts at the largest learning rate that does not increase
the loss. Sharpness is exact: the top eigenvalue of the Hessian.
"""

from functools import partial

import jax
import numpy as np

from experiments import runner
from experiments.studies.catapult import linear, relu
from experiments.studies.catapult.report import StudyResult, draw, make_results
from experiments.studies.catapult.settings import (
    PREDICTED,
    RELU_SETUPS,
    SEEDS,
    STEPS,
    WARMUP_STEPS,
    WARMUP_TARGETS,
    WIDTH,
    Settings,
)

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains all seeds of one setting together, one setting after another, and draws the figure."""
    scale = settings.scale
    steps, relu_setup = STEPS[scale], RELU_SETUPS[scale]
    key, relu_key = jax.random.split(jax.random.key(settings.seed))
    total = (len(PREDICTED) + len(WARMUP_TARGETS)) * steps + relu_setup.steps
    with jax.enable_x64(True), runner.Progress(total=total) as progress:
        params = tuple(jax.random.normal(key, (2, SEEDS[scale], WIDTH[scale]), float))
        sharpness = jax.vmap(linear.sharpness)(params)

        def train(name: str, multiple: float, warmup: int = 0) -> linear.TrainingCurves:
            return run.series(
                f"{name} {multiple:g}",
                linear.TrainingCurves,
                partial(linear.train, params, multiple / sharpness, steps, warmup),
                progress=progress,
                steps=steps,
                loss=lambda curves: np.median(curves.losses[:, -1]),
            )

        constant = {multiple: train("constant", multiple) for multiple in PREDICTED}
        warmup = {target: train("warmup", target, WARMUP_STEPS) for target in WARMUP_TARGETS}
        relu_result = run.series(
            "ReLU",
            relu.ReluResult,
            partial(relu.train, relu_key, relu_setup),
            progress=progress,
            steps=relu_setup.steps,
        )
    result = StudyResult(WIDTH[scale], steps, constant, warmup, relu_result)
    run.save_figure("catapult", draw(result))
    return make_results(result)
