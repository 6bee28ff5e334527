"""Learning from streams that change.

l2_init, shrink_and_perturb, continual_shrink_and_perturb, perturbed_descent,
continual_backprop, redo, upgd
                       keep a network able to learn
HiddenLayer            names the parameters of a layer whose units can be replaced
elementwise_adam       Adam with a count for each weight, for units that are replaced
dormant_units, effective_rank, threshold_rank
                       measurements of hidden activations that show a loss of plasticity
"""

from jaxdescent.streaming.plasticity import (
    ContinualBackpropState,
    ElementwiseAdamState,
    HiddenLayer,
    L2InitState,
    RedoState,
    UnitStatistics,
    UpgdState,
    continual_backprop,
    continual_shrink_and_perturb,
    dormant_units,
    effective_rank,
    elementwise_adam,
    l2_init,
    perturbed_descent,
    redo,
    shrink_and_perturb,
    threshold_rank,
    upgd,
)

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


def __dir__() -> list[str]:
    return __all__
