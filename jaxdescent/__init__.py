"""jaxdescent: a toolkit for research on gradient descent in JAX.

    import jax, optax
    import jaxdescent as jd

A *transformation* changes gradients into updates; all of ours are optax transformations. A
*tower* is a transformation whose hyperparameters are trained by another transformation, which
may itself be a tower:

    self_tuning            an optimizer that needs no choice of learning rate
    restart_on_divergence  restarts any optimizer with a lower learning rate when training diverges
    with_average, averaged_params
                           keep and read an average of the parameters, to evaluate a model at
    reestimate_statistics  the running statistics of BatchNorm at given parameters
    hypergradient          an optimizer that learns its own hyperparameters
    positive, unit_interval, unconstrained, per_leaf
                           the spaces in which it learns them
    one_step, eligibility_trace
                           train them on the effect of the last update, or of all past updates
    get_hyperparams, set_hyperparams
                           read and write the hyperparameters in use
    inner_state, freeze_hyperparams
                           the plain optimizer's state; the plain optimizer, at fixed values
    describe               summarize a tower, one line per level
    state_shardings        how the state of any transformation is sharded, from its parameters'

For deterministic functions, such as full-batch losses:

    hybrid                 find the global minimum in a box; nothing to tune
    graduated_descent      minimize a smoothed function while the smoothing decreases
    online_scaled          descent with a preconditioner that is learned online; nothing to tune

A *population* is many agents that descend independently. Descent is divided into stretches of
steps, called rungs. After each rung a *rule* acts on the population, for example by pruning agents
with high loss:

    minimize, minimize_loop
                           minimize a deterministic function
    fit, fit_loop          train a model on data, in batches
    magd                   the same method as an optax transformation for your own loop
    pruning                pruning rules: help(jd.pruning) lists them
    evolution              rules that copy, recombine and move agents: help(jd.evolution)
    basin_hopping          an optimizer that jumps away from its best point at intervals
    select_optimizer       different optimizers in one population
    copy_agents, place_agents
                           replace agents by copies of others; restart them at new parameters
    uniform_soup, greedy_soup, weighted_average, ensemble
                           averages and ensembles of the survivors

A `Problem` is a function to minimize in a box, from which initial points are drawn.
`help(jd.problems)` lists test functions with known minima.

*Stability* is about curvature, and about steps as large as the curvature allows:

    sharpness              largest eigenvalues of the Hessian, with certified residuals
    block_sharpness        sharpness of each layer, with the other layers held fixed
    spectral_density       density of all eigenvalues
    monitor_stability      an optimizer that records its sharpness and stability threshold
    thresholds             stability thresholds of gradient descent, momentum, Adam and others
    scale_by_sharpness     a learning rate at a fraction of the largest stable one
    stability_probe, stability_log, get_stability
                           the measurement as a function, and its records
    step_sizes             step sizes beyond 2 / curvature: help(jd.step_sizes) lists them
    central_flow           the average path of an optimizer at the edge of stability
    gradient_flow          the path that an optimizer would take without oscillations
    flows                  the optimizers to which the two flows apply

An *estimator* obtains gradients by other means, for functions without a useful gradient:

    estimators             smoothed over a Gaussian, from ranks, ...: help(jd.estimators)

A *stream* is data that arrives in order and may change:

    streaming              online learning, drift, plasticity: help(jd.streaming) lists the parts

*Quantum circuits* are functions of their parameters as well, and quantum algorithms descend, too:

    quantum                circuits, optimizers, algorithms: help(jd.quantum) lists the parts

Losses, landscapes and cost:

    losses                 losses that optax.losses lacks: help(jd.losses) lists them
    landscape              slices of a loss, connectivity, figures: help(jd.landscape)
    footprint.flops        count the FLOPs of a function without running it
    footprint.meter        measure the time and energy of a part of a program
    footprint.carbon       convert energy to grams of CO2e for a given grid
"""

from jaxdescent import (
    estimators,
    evolution,
    footprint,
    landscape,
    losses,
    problems,
    quantum,
    streaming,
)
from jaxdescent.agents import (
    BasinHoppingState,
    MagdState,
    Population,
    PopulationLoop,
    PopulationLoopState,
    PopulationOutcome,
    PopulationResult,
    Rule,
    RungInfo,
    Soup,
    basin_hopping,
    copy_agents,
    ensemble,
    fit,
    fit_loop,
    greedy_soup,
    magd,
    minimize,
    minimize_loop,
    place_agents,
    pruning,
    select_optimizer,
    uniform_soup,
    weighted_average,
)
from jaxdescent.global_search import (
    GraduatedResult,
    HybridHistory,
    HybridResult,
    StopReason,
    graduated_descent,
    hybrid,
)
from jaxdescent.online_scaling import OnlineScaledState, online_scaled
from jaxdescent.problem import Problem
from jaxdescent.sharding import state_shardings
from jaxdescent.stability import flows, step_sizes, thresholds
from jaxdescent.stability.flows import central_flow, gradient_flow
from jaxdescent.stability.sharpness import (
    MonitorState,
    ScaleBySharpnessState,
    Sharpness,
    SpectralDensity,
    StabilityOutcome,
    StabilityProbe,
    StabilityRecord,
    StabilityState,
    block_sharpness,
    get_stability,
    monitor_stability,
    scale_by_sharpness,
    sharpness,
    spectral_density,
    stability_log,
    stability_probe,
)
from jaxdescent.towers import (
    AverageState,
    EligibilityTrace,
    HypergradientState,
    OneStep,
    PerLeaf,
    Positive,
    RestartState,
    SelfTuningState,
    Space,
    Tower,
    Unconstrained,
    UnitInterval,
    UpdateRecord,
    averaged_params,
    describe,
    eligibility_trace,
    freeze_hyperparams,
    get_hyperparams,
    hypergradient,
    inner_state,
    one_step,
    per_leaf,
    positive,
    reestimate_statistics,
    restart_on_divergence,
    self_tuning,
    set_hyperparams,
    unconstrained,
    unit_interval,
    with_average,
)

__all__ = [
    "AverageState",
    "BasinHoppingState",
    "EligibilityTrace",
    "GraduatedResult",
    "HybridHistory",
    "HybridResult",
    "HypergradientState",
    "MagdState",
    "MonitorState",
    "OneStep",
    "OnlineScaledState",
    "PerLeaf",
    "Population",
    "PopulationLoop",
    "PopulationLoopState",
    "PopulationOutcome",
    "PopulationResult",
    "Positive",
    "Problem",
    "RestartState",
    "Rule",
    "RungInfo",
    "ScaleBySharpnessState",
    "SelfTuningState",
    "Sharpness",
    "Soup",
    "Space",
    "SpectralDensity",
    "StabilityOutcome",
    "StabilityProbe",
    "StabilityRecord",
    "StabilityState",
    "StopReason",
    "Tower",
    "Unconstrained",
    "UnitInterval",
    "UpdateRecord",
    "averaged_params",
    "basin_hopping",
    "block_sharpness",
    "central_flow",
    "copy_agents",
    "describe",
    "eligibility_trace",
    "ensemble",
    "estimators",
    "evolution",
    "fit",
    "fit_loop",
    "flows",
    "footprint",
    "freeze_hyperparams",
    "get_hyperparams",
    "get_stability",
    "gradient_flow",
    "graduated_descent",
    "greedy_soup",
    "hybrid",
    "hypergradient",
    "inner_state",
    "landscape",
    "losses",
    "magd",
    "minimize",
    "minimize_loop",
    "monitor_stability",
    "one_step",
    "online_scaled",
    "per_leaf",
    "place_agents",
    "positive",
    "problems",
    "pruning",
    "quantum",
    "reestimate_statistics",
    "restart_on_divergence",
    "scale_by_sharpness",
    "select_optimizer",
    "self_tuning",
    "set_hyperparams",
    "sharpness",
    "spectral_density",
    "stability_log",
    "stability_probe",
    "state_shardings",
    "step_sizes",
    "streaming",
    "thresholds",
    "unconstrained",
    "uniform_soup",
    "unit_interval",
    "weighted_average",
    "with_average",
]

__version__ = "0.1.0"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
