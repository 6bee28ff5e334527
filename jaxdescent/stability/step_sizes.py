"""Step sizes that are larger than the classical ones, as optax schedules and transformations.

For logistic regression on separable data:

    large_constant         for a number of steps that is known; the loss may rise
    growing                for any number of steps; the loss never rises
    step_over_loss         inversely proportional to the loss; the loss may rise

For any loss:

    catapult_warmup        from the first step size that raises the loss to the one wanted
    cyclical               up and down in straight lines
"""

from jaxdescent.stability.cyclical import cyclical as cyclical
from jaxdescent.stability.separable import StepOverLossState as StepOverLossState
from jaxdescent.stability.separable import growing as growing
from jaxdescent.stability.separable import large_constant as large_constant
from jaxdescent.stability.separable import step_over_loss as step_over_loss
from jaxdescent.stability.warmup import CatapultWarmupState as CatapultWarmupState
from jaxdescent.stability.warmup import catapult_warmup as catapult_warmup
