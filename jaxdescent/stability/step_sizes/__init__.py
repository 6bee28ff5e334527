"""Step sizes larger than the classical ones, as optax schedules and transformations.

For convex functions with a known smoothness L, in units of 1 / L:

    obs_f                  known horizon: the lowest loss after exactly that many steps
    silver                 unknown horizon, where training can stop after 1, 3, 7, 15, ... steps
    anytime                unknown horizon, any stopping time; a slower guarantee, n^-1.12
    silver_strongly_convex known smallest curvature: linear convergence

    tx = optax.sgd(jd.step_sizes.silver(smoothness, horizon=127))

L must be at least the largest curvature along the run. A value that is 1% too small makes long
horizons diverge, so add a margin to an estimate. For an unknown L:

    guarded                wraps one of the above; it raises an estimate of L that a gradient
                           contradicts

Limits: just after a long step (4, 8, 16, ... steps, later also 17, 18, 20, 24, ...: numbers with
few ones in binary) `silver` is worse than constant steps; it warns about such horizons. `obs_f` and
`silver_strongly_convex` guarantee nothing before their horizon or inside a block. All need the full
gradient of a convex function. Methods with momentum converge faster: Nesterov's method and the
optimized gradient method reach n^-2.

For logistic regression on separable data:

    large_constant         for a known number of steps; the loss may rise
    growing                for any number of steps; the loss never rises
    step_over_loss         inversely proportional to the loss; the loss may rise

For any loss:

    catapult_warmup        a warmup that starts at the largest step size that does not raise the
                           loss
    cyclical               a triangular wave
"""

from jaxdescent.stability.step_sizes.joined_schedules import anytime, obs_f
from jaxdescent.stability.step_sizes.separable_data import (
    StepOverLossState,
    growing,
    large_constant,
    step_over_loss,
)
from jaxdescent.stability.step_sizes.silver_schedules import silver, silver_strongly_convex
from jaxdescent.stability.step_sizes.smoothness_guard import GuardedState, guarded
from jaxdescent.stability.step_sizes.triangular import cyclical
from jaxdescent.stability.step_sizes.warmup import CatapultWarmupState, catapult_warmup

__all__ = [
    "CatapultWarmupState",
    "GuardedState",
    "StepOverLossState",
    "anytime",
    "catapult_warmup",
    "cyclical",
    "growing",
    "guarded",
    "large_constant",
    "obs_f",
    "silver",
    "silver_strongly_convex",
    "step_over_loss",
]


def __dir__() -> list[str]:
    return __all__
