"""Large steps on separable logistic regression: eight step sizes on 20 data sets, 16,000 steps.

The classical step 8 is compared with large constants (J. Wu, P. L. Bartlett, M. Telgarsky, B. Yu,
COLT 2024, arXiv:2402.15926), steps divided by the loss (R. Zhang, J. Wu, L. Lin, P. L. Bartlett
2025, arXiv:2504.04105) and growing steps that never increase the loss (S. Kale et al. 2026,
arXiv:2602.18946, show that this is possible). The question is whether large steps are good
because they are unstable.

All computations are in float64. Losses are shown as powers of ten. They are computed from
their logarithms, which stay exact where the loss itself is smaller than the smallest float64.
"""

from functools import partial

import jax
import numpy as np

from experiments import runner
from experiments.studies.logistic.data_sets import load_data_sets
from experiments.studies.logistic.descent import (
    LossCurves,
    TwoPoints,
    pad,
    step_sizes,
    train_all,
    train_two_points,
)
from experiments.studies.logistic.report import StudyResult, draw, make_results
from experiments.studies.logistic.settings import DATA_SETS, STEPS, Settings

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains with one step size after another, on all data sets at once, and draws the figure."""
    steps = STEPS[settings.scale]
    sets = load_data_sets(DATA_SETS[settings.scale], settings.seed)
    rules = step_sizes(steps)
    with jax.enable_x64(True), runner.Progress(total=(len(rules) + 4) * steps) as progress:
        x, weights = pad(sets)
        margins = np.array([each.margin for each in sets])
        curves = {
            name: run.series(
                name,
                LossCurves,
                partial(train_all, rule, steps, x, weights, margins),
                progress=progress,
                steps=steps,
                loss=lambda result: np.exp(np.median(result.last[:, -1])),
            )
            for name, rule in rules.items()
        }
        two_points = run.series(
            "two points",
            TwoPoints,
            partial(train_two_points, 4 * steps),
            progress=progress,
            steps=4 * steps,
        )
    result = StudyResult(steps, sets, curves, float(two_points.product))
    run.save_figure("logistic", draw(result))
    return make_results(result)
