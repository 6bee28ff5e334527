"""Step sizes that are larger than the classical ones, as optax schedules and transformations.

For convex functions with a smoothness L that is known, in units of 1 / L:

    obs_f                  the horizon is known: the smallest loss after exactly so many steps
    silver                 it is not, but steps can be stopped at 1, 3, 7, 15, ... of them
    anytime                it may be stopped anywhere; a smaller gain, n^-1.12
    silver_strongly_convex the least curvature is known too: linear convergence

    tx = optax.sgd(jd.step_sizes.silver(smoothness, horizon=127))

L is the greatest curvature that the run meets, never less. A value that is too small by a
percent makes long horizons diverge, so add a margin to an estimate, or let the gradients refute
one that is too low:

    guarded                a transformation around any of the above, when L is not known

Horizons that lose: `silver` just after a long step (4, 8, 16, ..., later 17, 18, 20, 24, ...:
wherever n in binary has few ones) is worse than constant steps, and warns; `obs_f` and
`silver_strongly_convex` promise nothing before their horizon, or inside a block. All of this
is for the whole gradient of a convex function. With momentum's memory more is possible:
Nesterov's method and the optimized gradient method have n^-2.

For logistic regression on separable data:

    large_constant         for a number of steps that is known; the loss may rise
    growing                for any number of steps; the loss never rises
    step_over_loss         inversely proportional to the loss; the loss may rise

For any loss:

    catapult_warmup        from the first step size that raises the loss to the one wanted
    cyclical               up and down in straight lines
"""

from jaxdescent.stability.cyclical import cyclical as cyclical
from jaxdescent.stability.guarded import GuardedState as GuardedState
from jaxdescent.stability.guarded import guarded as guarded
from jaxdescent.stability.joins import anytime as anytime
from jaxdescent.stability.joins import obs_f as obs_f
from jaxdescent.stability.separable import StepOverLossState as StepOverLossState
from jaxdescent.stability.separable import growing as growing
from jaxdescent.stability.separable import large_constant as large_constant
from jaxdescent.stability.separable import step_over_loss as step_over_loss
from jaxdescent.stability.silver import silver as silver
from jaxdescent.stability.silver import silver_strongly_convex as silver_strongly_convex
from jaxdescent.stability.warmup import CatapultWarmupState as CatapultWarmupState
from jaxdescent.stability.warmup import catapult_warmup as catapult_warmup
