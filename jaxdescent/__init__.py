"""jaxdescent: a toolkit for the study of gradient descent in JAX.

    import jax, optax
    import jaxdescent as jd

A *transformation* changes gradients into updates; all of ours are optax's. A *tower* is
a transformation whose hyperparameters are themselves trained by a transformation, which
may be a tower again:

    self_tuning            an optimizer without a learning rate to choose
    averaged_params        the average of its path, to evaluate a model at
    restart_on_divergence, with_average
                           the parts that it is composed of, for any tower or optimizer
    hypergradient          an optimizer that learns its own hyperparameters
    positive, unit_interval, unconstrained, per_leaf
                           the spaces in which it learns them
    one_step, trace        how the loss reaches them
    hyperparameters, set_hyperparams
                           read and write the values in use
    inner_state, freeze    go back to the plain optimizer
    describe               what a tower is made of

A *footprint* is what a computation costs: its FLOPs, its energy and its carbon, each number
with how it came about:

    footprint.flops        counts a function's FLOPs without running it
    footprint.meter        tells time and energy of a stretch of a program
    footprint.carbon       turns energy into grams of CO2e on a grid that you name

*Stability* is about large steps:

    sharpness              top eigenvalues of a loss's Hessian, certified by residuals
    block_sharpness        a layer's, with the others held
    spectral_density       all eigenvalues at once, as a density
    monitor_stability      an optimizer that records its sharpness against what it can bear
    thresholds             what that is, for gradient descent, momentum, Adam and others
    scale_by_sharpness          a learning rate held at a fraction of it
    stability_probe, stability_log
                           the same by hand, and the records in order
    step_sizes             schedules and transformations that step further than classical
                           theory allows: help(jd.step_sizes) lists them
    central_flow           the average path of an optimizer at the edge of stability
    gradient_flow          the path of one that does not oscillate
    flows                  the optimizers whose flows are known

A *population* is many agents, which descend side by side while a *rule* removes those that fall
behind, and their work with them:

    minimize, minimizer    a deterministic function
    fit, fitter            a model on data, in batches
    magd                   the same as a transformation for a loop of one's own
    pruning                the rules: help(jd.pruning) lists them
    basin_hopping          an agent that jumps away from its best point now and then
    one_of                 different optimizers in one population
    copy_agents, place_agents
                           how a rule moves agents
    uniform_soup, greedy_soup, weighted_average, ensemble
                           what to make of the survivors, beside the best ever

A `Problem` is a function to minimize, with the box that starts are drawn from; those of
`problems` have known minima: `help(jd.problems)` lists them.

A *loss* of `losses` is one that PyTorch or Keras has and `optax.losses` has not:
`help(jd.losses)` lists them.

A *landscape* is a loss around parameters and between them: random, curved and principal planes,
what lies between two networks, pictures: `help(jd.landscape)` lists what there is.
"""

from jaxdescent import footprint as footprint
from jaxdescent import landscape as landscape
from jaxdescent import losses as losses
from jaxdescent import problems as problems
from jaxdescent.agents import BasinHoppingState as BasinHoppingState
from jaxdescent.agents import Descent as Descent
from jaxdescent.agents import DescentState as DescentState
from jaxdescent.agents import FitResult as FitResult
from jaxdescent.agents import MagdState as MagdState
from jaxdescent.agents import MinimizeResult as MinimizeResult
from jaxdescent.agents import Population as Population
from jaxdescent.agents import Rule as Rule
from jaxdescent.agents import Soup as Soup
from jaxdescent.agents import basin_hopping as basin_hopping
from jaxdescent.agents import copy_agents as copy_agents
from jaxdescent.agents import ensemble as ensemble
from jaxdescent.agents import fit as fit
from jaxdescent.agents import fit_loop as fit_loop
from jaxdescent.agents import greedy_soup as greedy_soup
from jaxdescent.agents import magd as magd
from jaxdescent.agents import minimize as minimize
from jaxdescent.agents import minimize_loop as minimize_loop
from jaxdescent.agents import place_agents as place_agents
from jaxdescent.agents import pruning as pruning
from jaxdescent.agents import select_optimizer as select_optimizer
from jaxdescent.agents import uniform_soup as uniform_soup
from jaxdescent.agents import weighted_average as weighted_average
from jaxdescent.problem import Problem as Problem
from jaxdescent.stability import MonitorState as MonitorState
from jaxdescent.stability import ScaleBySharpnessState as ScaleBySharpnessState
from jaxdescent.stability import Sharpness as Sharpness
from jaxdescent.stability import SpectralDensity as SpectralDensity
from jaxdescent.stability import StabilityOutcome as StabilityOutcome
from jaxdescent.stability import StabilityProbe as StabilityProbe
from jaxdescent.stability import StabilityRecord as StabilityRecord
from jaxdescent.stability import StabilityState as StabilityState
from jaxdescent.stability import block_sharpness as block_sharpness
from jaxdescent.stability import central_flow as central_flow
from jaxdescent.stability import flows as flows
from jaxdescent.stability import gradient_flow as gradient_flow
from jaxdescent.stability import monitor_stability as monitor_stability
from jaxdescent.stability import scale_by_sharpness as scale_by_sharpness
from jaxdescent.stability import sharpness as sharpness
from jaxdescent.stability import spectral_density as spectral_density
from jaxdescent.stability import stability_log as stability_log
from jaxdescent.stability import stability_probe as stability_probe
from jaxdescent.stability import step_sizes as step_sizes
from jaxdescent.stability import thresholds as thresholds
from jaxdescent.towers import AverageState as AverageState
from jaxdescent.towers import EligibilityTrace as EligibilityTrace
from jaxdescent.towers import HypergradientState as HypergradientState
from jaxdescent.towers import OneStep as OneStep
from jaxdescent.towers import PerLeaf as PerLeaf
from jaxdescent.towers import Positive as Positive
from jaxdescent.towers import RestartState as RestartState
from jaxdescent.towers import Space as Space
from jaxdescent.towers import Tower as Tower
from jaxdescent.towers import Unconstrained as Unconstrained
from jaxdescent.towers import UnitInterval as UnitInterval
from jaxdescent.towers import UpdateRecord as UpdateRecord
from jaxdescent.towers import averaged_params as averaged_params
from jaxdescent.towers import describe as describe
from jaxdescent.towers import eligibility_trace as eligibility_trace
from jaxdescent.towers import freeze_hyperparams as freeze_hyperparams
from jaxdescent.towers import get_hyperparams as get_hyperparams
from jaxdescent.towers import hypergradient as hypergradient
from jaxdescent.towers import inner_state as inner_state
from jaxdescent.towers import one_step as one_step
from jaxdescent.towers import per_leaf as per_leaf
from jaxdescent.towers import positive as positive
from jaxdescent.towers import restart_on_divergence as restart_on_divergence
from jaxdescent.towers import self_tuning as self_tuning
from jaxdescent.towers import set_hyperparams as set_hyperparams
from jaxdescent.towers import unconstrained as unconstrained
from jaxdescent.towers import unit_interval as unit_interval
from jaxdescent.towers import with_average as with_average

__version__ = "0.1.0"
