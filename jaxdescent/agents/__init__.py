"""Populations: many agents that descend independently, and rules that act on them between rungs.

    loops/           `minimize` and `fit`, in rungs
    pruning/         rules that prune agents: `jd.pruning`
    optimizers/      `magd`, `basin_hopping` and `select_optimizer`
    population.py    the agents; `copy_agents` and `place_agents`, by which rules change them
    rule.py          the protocol of rules
    model_soups.py   averages and ensembles of the survivors

A rung is a stretch of optimizer steps between two actions of a rule. THEORY.md derives how often
pruning removes the agent that would have had the lowest final value.
"""

from jaxdescent.agents import pruning
from jaxdescent.agents.loops.fit import fit
from jaxdescent.agents.loops.fit_loop import fit_loop
from jaxdescent.agents.loops.minimize import minimize
from jaxdescent.agents.loops.minimize_loop import minimize_loop
from jaxdescent.agents.loops.population_loop import (
    PopulationLoop,
    PopulationLoopState,
    PopulationOutcome,
    PopulationResult,
    RungInfo,
)
from jaxdescent.agents.model_soups import (
    Soup,
    ensemble,
    greedy_soup,
    uniform_soup,
    weighted_average,
)
from jaxdescent.agents.optimizers.basin_hopping import BasinHoppingState, basin_hopping
from jaxdescent.agents.optimizers.magd import MagdState, magd
from jaxdescent.agents.optimizers.select_optimizer import select_optimizer
from jaxdescent.agents.population import Population, copy_agents, place_agents
from jaxdescent.agents.rule import Rule

__all__ = [
    "BasinHoppingState",
    "MagdState",
    "Population",
    "PopulationLoop",
    "PopulationLoopState",
    "PopulationOutcome",
    "PopulationResult",
    "Rule",
    "RungInfo",
    "Soup",
    "basin_hopping",
    "copy_agents",
    "ensemble",
    "fit",
    "fit_loop",
    "greedy_soup",
    "magd",
    "minimize",
    "minimize_loop",
    "place_agents",
    "pruning",
    "select_optimizer",
    "uniform_soup",
    "weighted_average",
]
