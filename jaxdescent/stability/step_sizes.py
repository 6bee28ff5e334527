"""Step sizes that are known before the first step, as optax schedules.

    tx = optax.sgd(jd.step_sizes.silver(smoothness, horizon=127))

Steps are in units of 1 / L, where L is the smoothness: the greatest curvature that the run
meets, never less. A value that is too small by a percent makes long horizons diverge, so add
a margin to an estimate.

    obs_f                  the horizon is known: the smallest loss after exactly so many steps
    silver                 it is not, but steps can be stopped at 1, 3, 7, 15, ... of them
    anytime                it may be stopped anywhere; a smaller gain, n^-1.12
    silver_strongly_convex the least curvature is known too: linear convergence
    guarded                any of them, when L is not known: gradients refute an estimate that
                           is too low; a transformation

Horizons that lose: `silver` just after a long step (4, 8, 16, ..., later 17, 18, 20, 24, ...:
wherever n in binary has few ones) is worse than constant steps, and warns; `obs_f` and
`silver_strongly_convex` promise nothing before their horizon, or inside a block. All of this
is for the whole gradient of a convex function. With momentum's memory more is possible:
Nesterov's method and the optimized gradient method have n^-2.
"""

from jaxdescent.stability.guarded import GuardedState as GuardedState
from jaxdescent.stability.guarded import guarded as guarded
from jaxdescent.stability.joins import anytime as anytime
from jaxdescent.stability.joins import obs_f as obs_f
from jaxdescent.stability.silver import silver as silver
from jaxdescent.stability.silver import silver_strongly_convex as silver_strongly_convex
