"""Instances of the suites' functions, another one for each run.

The hard eight are shifted and rotated. The classic functions have their minimizers where they are,
often at the center of the box. So that no method profits from this, each run cuts off up to a tenth
of the box's width at each side; a minimizer always stays inside.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

import jaxdescent as jd
from experiments.instances import Instances, draw_problems, run_keys, share_function
from experiments.studies.hybrid.functions import DEVELOPMENT, REPORT
from experiments.studies.hybrid.settings import FIRST_INSTANCES, Group

LARGEST_CUT = 0.1
"""Largest part of the box's width that is cut off at a side."""


def draw_group(group: Group, first_seed: int) -> list[Instances]:
    """Draws the functions of a group, one instance per run."""
    seeds = range(first_seed, first_seed + max(group.runs, group.baseline_runs))
    if group.suite == "hard":
        drawn, keys = draw_problems(lambda key: _hard(group, key), seeds)
        return share_function({name: drawn[name] for name in group.functions}, keys)
    if group.suite in FIRST_INSTANCES:
        return [_bbob(group, name, seeds) for name in group.functions]
    known = {**DEVELOPMENT, **REPORT}

    def draw(key: jax.Array) -> dict[str, jd.Problem]:
        keys = jax.random.split(key, len(group.functions))
        return {
            name: cut_box(known[name].problem(), name_key)
            for name, name_key in zip(group.functions, keys, strict=True)
        }

    drawn, keys = draw_problems(draw, seeds)
    instances = {}
    for dimension in {known[name].dimension for name in group.functions}:
        names = [name for name in group.functions if known[name].dimension == dimension]
        shared = share_function({name: drawn[name] for name in names}, keys)
        instances.update(zip(names, shared, strict=True))
    return [instances[name] for name in group.functions]


def cut_box(problem: jd.Problem, key: jax.Array) -> jd.Problem:
    """Returns the problem in a smaller box that has the first of its optima."""
    low, high = jax.random.uniform(key, (2, problem.dimension), maxval=LARGEST_CUT)
    width, optimum = problem.upper - problem.lower, problem.optima[0]
    lower = jnp.minimum(problem.lower + low * width, jnp.maximum(optimum, problem.lower))
    upper = jnp.maximum(problem.upper - high * width, jnp.minimum(optimum, problem.upper))
    return dataclasses.replace(problem, lower=lower, upper=upper)


def _hard(group: Group, key: jax.Array) -> dict[str, jd.Problem]:
    suite = jd.problems.hard_suite(group.dimension or 2, key=key)
    return {name: suite[name] for name in group.functions}


def _bbob(group: Group, name: str, seeds: Sequence[int]) -> Instances:
    """Returns one BBOB function in successive instances, in the box [-5, 5]^n."""
    number, first = int(name.removeprefix("f")), FIRST_INSTANCES[group.suite]
    problems = [
        jd.problems.bbob(number, group.dimension or 2, first + run) for run in range(len(seeds))
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)
    problem = dataclasses.replace(stacked, bounds="project", optima=None, name="")
    return Instances(name, problem, run_keys(seeds))
