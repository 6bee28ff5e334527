"""Step sizes that are larger than the classical ones, as optax schedules and transformations.

large_constant, growing, step_over_loss
                       for logistic regression on separable data
"""

from jaxdescent.stability.separable import StepOverLossState as StepOverLossState
from jaxdescent.stability.separable import growing as growing
from jaxdescent.stability.separable import large_constant as large_constant
from jaxdescent.stability.separable import step_over_loss as step_over_loss
