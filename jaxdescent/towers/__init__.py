"""Hypergradient descent: optimizers that learn their own hyperparameters, recursively.

    tower.py             `hypergradient`, which makes a tower
    self_tuning.py       an optimizer that needs no choice of learning rate
    tuning/              its parts
    averaging.py         an average of the parameters
    restart.py           restarts any optimizer with a lower learning rate when training diverges
    spaces.py            the coordinates in which hyperparameters are learned
    signals.py           the effect on the loss that trains the hyperparameters
    model_statistics.py  a model's running statistics at given parameters
    inspection.py        read, set and freeze hyperparameters
    spec.py, factory.py  the checked and analyzed arguments of `hypergradient`
    replay/, fused/      derivative of an update: of any, or of a coordinate-wise update

THEORY.md proves guarantees for one-step hypergradients; tuning/THEORY.md says what is proven about
self-tuning, and what is only measured.
"""

from jaxdescent.towers.averaging import AverageState, averaged_params, with_average
from jaxdescent.towers.inspection import (
    describe,
    freeze_hyperparams,
    get_hyperparams,
    inner_state,
    set_hyperparams,
)
from jaxdescent.towers.model_statistics import reestimate_statistics
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
from jaxdescent.towers.tuning.plans import SelfTuningState

__all__ = [
    "AverageState",
    "EligibilityTrace",
    "HypergradientState",
    "OneStep",
    "PerLeaf",
    "Positive",
    "RestartState",
    "SelfTuningState",
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
    "reestimate_statistics",
    "restart_on_divergence",
    "self_tuning",
    "set_hyperparams",
    "unconstrained",
    "unit_interval",
    "with_average",
]
