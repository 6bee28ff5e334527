"""Rules that copy, recombine and move the agents of a population between rungs.

    rule = jd.evolution.differential_evolution()
    result = jd.minimize(problem, optimizer, rule=rule, ...)

    differential_evolution recombines agents; descent begins at the trials
    cma_es                 samples agents from a Gaussian that learns from the ranks of values
    consensus              moves agents toward a mean that weights low values, with noise
    swarm                  moves mass to the best agent, and merges agents that meet
    backtracking_descent   the optimizer of a swarm: light agents take longer steps
    population_based_training
                           copies good agents over bad ones, and changes their hyperparameters
    sample_hyperparams     draws the hyperparameters that agents start with
    hyperparameter_schedule
                           the hyperparameters along the lineage of the best agent
    evolutionary_sgd       undoes rungs that made an agent worse; offspring of good agents
    Selected, CmaEs, Consensus, Swarm, Lineage, Generation
                           the infos that these rules report
    BacktrackingState      the state of `backtracking_descent`
    HyperparameterSchedule the result of `hyperparameter_schedule`

Agents are compared by their values at the end of a rung.
"""

from jaxdescent.evolution.cma_es import CmaEs, cma_es
from jaxdescent.evolution.consensus import Consensus, consensus
from jaxdescent.evolution.differential_evolution import Selected, differential_evolution
from jaxdescent.evolution.evolutionary_sgd import Generation, evolutionary_sgd
from jaxdescent.evolution.lineage import (
    HyperparameterSchedule,
    Lineage,
    hyperparameter_schedule,
)
from jaxdescent.evolution.population_based_training import population_based_training
from jaxdescent.evolution.search_spaces import sample_hyperparams
from jaxdescent.evolution.swarm import BacktrackingState, Swarm, backtracking_descent, swarm

__all__ = [
    "BacktrackingState",
    "CmaEs",
    "Consensus",
    "Generation",
    "HyperparameterSchedule",
    "Lineage",
    "Selected",
    "Swarm",
    "backtracking_descent",
    "cma_es",
    "consensus",
    "differential_evolution",
    "evolutionary_sgd",
    "hyperparameter_schedule",
    "population_based_training",
    "sample_hyperparams",
    "swarm",
]


def __dir__() -> list[str]:
    return __all__
