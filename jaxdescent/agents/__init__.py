"""Populations: many agents that descend side by side, and rules that remove those behind.

How often that drops the eventual winner is in THEORY.md.
"""

from jaxdescent.agents.basin_hopping import BasinHoppingState as BasinHoppingState
from jaxdescent.agents.basin_hopping import basin_hopping as basin_hopping
from jaxdescent.agents.driver import Descent as Descent
from jaxdescent.agents.driver import DescentState as DescentState
from jaxdescent.agents.driver import Rung as Rung
from jaxdescent.agents.endings import Soup as Soup
from jaxdescent.agents.endings import ensemble as ensemble
from jaxdescent.agents.endings import greedy_soup as greedy_soup
from jaxdescent.agents.endings import uniform_soup as uniform_soup
from jaxdescent.agents.endings import weighted_average as weighted_average
from jaxdescent.agents.fit import FitResult as FitResult
from jaxdescent.agents.fit import fit as fit
from jaxdescent.agents.fit_loop import fit_loop as fit_loop
from jaxdescent.agents.magd import MagdState as MagdState
from jaxdescent.agents.magd import magd as magd
from jaxdescent.agents.minimize import MinimizeResult as MinimizeResult
from jaxdescent.agents.minimize import minimize as minimize
from jaxdescent.agents.minimize_loop import minimize_loop as minimize_loop
from jaxdescent.agents.population import Population as Population
from jaxdescent.agents.population import copy_agents as copy_agents
from jaxdescent.agents.population import place_agents as place_agents
from jaxdescent.agents.rules import Rule as Rule
from jaxdescent.agents.select_optimizer import select_optimizer as select_optimizer
