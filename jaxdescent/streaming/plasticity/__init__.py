"""Methods that keep a network able to learn, and measurements of this ability.

l2_init                pulls the parameters toward their initial values
shrink_and_perturb     shrinks the parameters once and adds noise, at a new task
continual_shrink_and_perturb
                       the same in every step, around any transformation
perturbed_descent      gradient descent with weight decay and noise in the gradient
continual_backprop     replaces the least useful hidden units, at a constant rate
redo                   replaces dormant hidden units, at intervals
upgd                   moves useful weights less, and perturbs the others
HiddenLayer            names the parameters of a layer whose units can be replaced
elementwise_adam       Adam with a count for each weight, for units that are replaced
dormant_units, effective_rank, threshold_rank
                       measurements of hidden activations
"""

from jaxdescent.streaming.plasticity.continual_backprop import (
    ContinualBackpropState,
    UnitStatistics,
    continual_backprop,
)
from jaxdescent.streaming.plasticity.diagnostics import (
    dormant_units,
    effective_rank,
    threshold_rank,
)
from jaxdescent.streaming.plasticity.elementwise_adam import (
    ElementwiseAdamState,
    elementwise_adam,
)
from jaxdescent.streaming.plasticity.hidden_units import HiddenLayer
from jaxdescent.streaming.plasticity.l2_init import L2InitState, l2_init
from jaxdescent.streaming.plasticity.redo import RedoState, redo
from jaxdescent.streaming.plasticity.shrinking import (
    continual_shrink_and_perturb,
    perturbed_descent,
    shrink_and_perturb,
)
from jaxdescent.streaming.plasticity.upgd import UpgdState, upgd

__all__ = [
    "ContinualBackpropState",
    "ElementwiseAdamState",
    "HiddenLayer",
    "L2InitState",
    "RedoState",
    "UnitStatistics",
    "UpgdState",
    "continual_backprop",
    "continual_shrink_and_perturb",
    "dormant_units",
    "effective_rank",
    "elementwise_adam",
    "l2_init",
    "perturbed_descent",
    "redo",
    "shrink_and_perturb",
    "threshold_rank",
    "upgd",
]
