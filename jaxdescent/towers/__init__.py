"""Hypergradient descent: optimizers that learn their own hyperparameters, recursively.

What one-step hypergradients provably do is in THEORY.md.
"""

from jaxdescent.towers.inspection import describe as describe
from jaxdescent.towers.inspection import freeze_hyperparams as freeze_hyperparams
from jaxdescent.towers.inspection import get_hyperparams as get_hyperparams
from jaxdescent.towers.inspection import inner_state as inner_state
from jaxdescent.towers.inspection import set_hyperparams as set_hyperparams
from jaxdescent.towers.recipe import SelfTuningState as SelfTuningState
from jaxdescent.towers.recipe import averaged_params as averaged_params
from jaxdescent.towers.recipe import self_tuning as self_tuning
from jaxdescent.towers.signals import eligibility_trace as eligibility_trace
from jaxdescent.towers.signals import one_step as one_step
from jaxdescent.towers.spaces import per_leaf as per_leaf
from jaxdescent.towers.spaces import positive as positive
from jaxdescent.towers.spaces import unconstrained as unconstrained
from jaxdescent.towers.spaces import unit_interval as unit_interval
from jaxdescent.towers.tower import HypergradientState as HypergradientState
from jaxdescent.towers.tower import hypergradient as hypergradient
