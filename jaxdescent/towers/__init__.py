"""Hypergradient descent: optimizers that learn their own hyperparameters, recursively.

What one-step hypergradients provably do is in THEORY.md.
"""

from jaxdescent.towers.averaging import AverageState, averaged_params, with_average
from jaxdescent.towers.inspection import (
    describe,
    freeze_hyperparams,
    get_hyperparams,
    inner_state,
    set_hyperparams,
)
from jaxdescent.towers.replay.tracing import UpdateRecord
from jaxdescent.towers.restart import RestartState, restart_on_divergence
from jaxdescent.towers.self_tuning import self_tuning
from jaxdescent.towers.signals import EligibilityTrace, OneStep, eligibility_trace, one_step
from jaxdescent.towers.spaces import (
    PerLeaf,
    Positive,
    Space,
    Unconstrained,
    UnitInterval,
    per_leaf,
    positive,
    unconstrained,
    unit_interval,
)
from jaxdescent.towers.tower import HypergradientState, Tower, hypergradient

__all__ = [
    "AverageState",
    "EligibilityTrace",
    "HypergradientState",
    "OneStep",
    "PerLeaf",
    "Positive",
    "RestartState",
    "Space",
    "Tower",
    "Unconstrained",
    "UnitInterval",
    "UpdateRecord",
    "averaged_params",
    "describe",
    "eligibility_trace",
    "freeze_hyperparams",
    "get_hyperparams",
    "hypergradient",
    "inner_state",
    "one_step",
    "per_leaf",
    "positive",
    "restart_on_divergence",
    "self_tuning",
    "set_hyperparams",
    "unconstrained",
    "unit_interval",
    "with_average",
]
