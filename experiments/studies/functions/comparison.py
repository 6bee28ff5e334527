"""The methods that are compared, and the choice of the settings that the table shows.

Settings of the baselines are chosen on tuning seeds. An oracle is chosen on the reported runs,
for each function separately: an upper bound that a user cannot reach.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.studies.functions.methods import Kind, Method, SearchResult
from experiments.studies.functions.settings import ADAM_RATES, GD_RATES, Setup

Table = Mapping[Method, Mapping[str, SearchResult]]
"""Results by method, then by the function's name."""


class Candidate(NamedTuple):
    """A method to run.

    Attributes:
      method: the method.
      functions: the names of the functions that it runs on.
      tuned: True if it also runs on the tuning seeds, as one of the settings to choose from.
    """

    method: Method
    functions: Sequence[str]
    tuned: bool = True


def candidates(setup: Setup) -> list[Candidate]:
    """Returns the methods to run in two dimensions."""
    budget, starts = setup.budget, multistart_agents(setup)
    methods = [Method(Kind.BACKTRACKING, budget)]
    methods += [Method(Kind.GD, budget, 1, rate) for rate in GD_RATES]
    for rate in ADAM_RATES:
        methods.append(Method(Kind.ADAM, budget, 1, rate))
        methods.append(Method(Kind.MULTISTART, budget, starts, rate))
    found = [Candidate(method, setup.functions) for method in methods]
    for factor in (1.0, *setup.budget_factors):
        budget = int(factor * setup.budget)
        functions = setup.functions if factor == 1.0 else setup.hard_functions
        if factor <= 1.0:
            magd = Method(Kind.MAGD, budget, setup.agents)
            found.append(Candidate(magd, functions, tuned=False))
        if factor == 1.0 and setup.budget_factors:
            adaptive = Method(Kind.MAGD_ADAPTIVE, budget, setup.agents)
            found.append(Candidate(adaptive, setup.hard_functions, tuned=False))
        unpruned = [Method(Kind.UNPRUNED, budget, agents) for agents in setup.unpruned_agents]
        if factor > 1.0:
            unpruned += [Method(Kind.MULTISTART, budget, starts, rate) for rate in ADAM_RATES]
        found += [Candidate(method, functions) for method in unpruned]
    return found


def multistart_agents(setup: Setup) -> int:
    """Returns the number of starts of multistart Adam."""
    return min(64, setup.agents)


class Chosen(NamedTuple):
    """The methods that the table shows, with the settings chosen on the tuning seeds.

    Attributes:
      magd: multi-agent gradient descent.
      unpruned: the same agents without pruning, with the best number of agents.
      unpruned_4x: likewise with 4 times the gradients; None at the smoke scale.
      multistart: Adam from many starts, with the best learning rate.
      adam: Adam from one start, with the best learning rate.
      gd: gradient descent from one start, with the best learning rate.
      backtracking: gradient descent from one start, with backtracking.
    """

    magd: Method
    unpruned: Method
    unpruned_4x: Method | None
    multistart: Method
    adam: Method
    gd: Method
    backtracking: Method


def choose(table: Table, setup: Setup) -> Chosen:
    """Chooses the settings of each kind with the most successes on the tuning seeds."""

    def best(kind: Kind, budget: int = setup.budget) -> Method:
        return best_on_tuning_seeds(
            table, methods_of(table, kind, budget), setup.hard_functions, setup.runs
        )

    return Chosen(
        magd=Method(Kind.MAGD, setup.budget, setup.agents),
        unpruned=best(Kind.UNPRUNED),
        unpruned_4x=best(Kind.UNPRUNED, 4 * setup.budget) if setup.budget_factors else None,
        multistart=best(Kind.MULTISTART),
        adam=best(Kind.ADAM),
        gd=best(Kind.GD),
        backtracking=Method(Kind.BACKTRACKING, setup.budget),
    )


def high_dimensional(chosen: Chosen, setup: Setup) -> list[Candidate]:
    """Returns the methods to run in many dimensions, with the settings chosen in two."""
    if not setup.high_runs:
        return []
    methods = (chosen.magd, chosen.unpruned, chosen.multistart, chosen.adam)
    return [Candidate(in_high_dimension(method, setup), setup.hard_functions) for method in methods]


def in_high_dimension(method: Method, setup: Setup) -> Method:
    """Returns the method with the budget in many dimensions."""
    return method._replace(budget=setup.high_budget)


def methods_of(table: Table, kind: Kind, budget: int) -> list[Method]:
    """Returns the methods in the table of a kind and a budget."""
    return [method for method in table if (method.kind, method.budget) == (kind, budget)]


def best_on_tuning_seeds(
    table: Table, methods: Sequence[Method], functions: Sequence[str], runs: int
) -> Method:
    """Returns the method with the most successes on the runs after the first `runs`."""
    return max(
        methods,
        key=lambda method: sum(table[method][name].solved[runs:].sum() for name in functions),
    )


def oracle(table: Table, methods: Sequence[Method], function: str, runs: int) -> Method:
    """Returns the method with the most successes on the first `runs` runs of a function."""
    return max(methods, key=lambda method: table[method][function].solved[:runs].sum())
