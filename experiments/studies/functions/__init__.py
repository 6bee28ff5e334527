"""Twenty test functions: a pruned population of agents against single starts and multistart.

Every method has the same budget of gradients. Except for the oracle columns, a method has one
setting for all functions, and it was chosen on other seeds than the reported ones. An agent of
multi-agent gradient descent (MAGD) is Adam with a decaying learning rate that jumps away from
its best point from time to time (`methods.agent`). Agents are independent of each other, and
successive halving prunes them.

The agents' setting was chosen by hand. It is a baseline that shows what pruning alone adds to
descent, and is not part of the library: to find a minimum, call `jd.hybrid`, which has nothing to
tune and which the study `hybrid` compares with other methods.

The study also measures how often pruning removes the agent that would have ended best, and
compares the frequency with the prediction from rank correlation (`jaxdescent/agents/THEORY.md`).
"""

from collections.abc import Mapping, Sequence
from functools import partial

import jax

from experiments import runner
from experiments.instances import Instances
from experiments.studies.functions.comparison import (
    Candidate,
    candidates,
    choose,
    high_dimensional,
)
from experiments.studies.functions.figures import draw_agents, draw_convergence
from experiments.studies.functions.instances import draw_instances
from experiments.studies.functions.methods import Method, SearchResult
from experiments.studies.functions.report import StudyResult, label, make_results
from experiments.studies.functions.selection_risk import SelectionRisk, measure_risk
from experiments.studies.functions.settings import (
    FIRST_SEED,
    SETUPS,
    TUNING_SEED,
    Settings,
    check,
    check_devices,
)

__all__ = ["Settings", "check", "check_devices", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs all methods on all functions and draws the figures."""
    setup = SETUPS[settings.scale]
    first = FIRST_SEED + settings.seed
    seeds = range(first, first + setup.runs)
    tuning_seeds = range(TUNING_SEED, TUNING_SEED + setup.tuning_runs)
    planar = draw_instances(setup.functions, 2, [*seeds, *tuning_seeds])
    methods = candidates(setup)
    num_series = sum(len(candidate.functions) for candidate in methods)
    num_series += (5 if setup.high_runs else 1) * len(setup.hard_functions)
    with runner.Progress(total=num_series) as progress:
        mesh = runner.make_mesh(settings.axes).devices if settings.axes else None
        search = partial(_search, run, progress, setup.runs, mesh)
        table = {candidate.method: search(candidate, planar) for candidate in methods}
        chosen = choose(table, setup)
        high: dict[Method, Mapping[str, SearchResult]] = {}
        if setup.high_runs:
            high_seeds = [*seeds][: setup.high_runs]
            spatial = draw_instances(setup.hard_functions, setup.high_dimension, high_seeds)
            for candidate in high_dimensional(chosen, setup):
                high[candidate.method] = search(candidate, spatial)
        risks = {
            instances.name: run.series(
                f"selection risk, {instances.name}",
                SelectionRisk,
                partial(measure_risk, instances, setup.risk_runs),
                progress=progress,
                steps=1,
                loss=lambda risk: risk.pruned.mean(),
            )
            for instances in planar
            if instances.name in setup.hard_functions
        }
    result = StudyResult(setup, table, chosen, high, risks)
    run.save_figure("agents", draw_agents())
    if setup.budget_factors:
        run.save_figure("convergence", draw_convergence(result))
    return make_results(result)


def _search(
    run: runner.Run,
    progress: runner.Progress,
    reported_runs: int,
    mesh: jax.sharding.Mesh | None,
    candidate: Candidate,
    functions: Sequence[Instances],
) -> dict[str, SearchResult]:
    """Runs a method on the functions, and on the tuning seeds if it is tuned."""
    results = {}
    for instances in functions:
        if instances.name not in candidate.functions:
            continue
        selected = instances if candidate.tuned else instances.first(reported_runs)
        dimension = instances.problem.lower.shape[-1]
        results[instances.name] = run.series(
            f"{label(candidate.method)}, {instances.name}, {dimension}-D",
            SearchResult,
            partial(candidate.method.search, selected, mesh),
            progress=progress,
            steps=1,
            loss=lambda result: 1 - result.solved.mean(),
        )
    return results
