"""Success of swarm-based gradient descent on the shifted 1-D Ackley function, beside `jd.hybrid`.

    python -m experiments.benchmarks.swarm

The minimum is at 25 and agents start in [-3, 3], so that none starts in its basin. Published
(J. Lu, E. Tadmor and A. Zenginoglu 2022, arXiv:2211.17157): success in 45% to 99% of the runs with
10, 20 and 30 agents, and in none for agents that descend independently. The published constants
are not known to us; the table is for lambda = .2, gamma = .9 and three lengths of the first step.
Evaluations are values of the line search and values with gradients.
"""

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd
from experiments.runner.report import table
from experiments.success_rates import percent

SHIFT, START = 25.0, 3.0
STEPS, SOLVED = 150, 1e-2
AGENTS, STEP_SIZES = (10, 20, 30), (1.0, 1.5, 2.0)
PUBLISHED = "45 to 99"


class Runs(NamedTuple):
    """Results of a method, run by run.

    Attributes:
      solved: bool[runs], True where the value is below `SOLVED`.
      gradients: i64[runs], numbers of values with gradients.
      evaluations: i64[runs], the same with the values of line searches.
    """

    solved: np.ndarray
    gradients: np.ndarray
    evaluations: np.ndarray


def shifted_ackley(x: jax.Array) -> jax.Array:
    """Returns Ackley's function of one variable, f[1], with its minimum 0 at 25."""
    y = x[0] - SHIFT
    waves = jnp.exp(jnp.cos(2 * jnp.pi * y))
    return 20 - 20 * jnp.exp(-0.2 * jnp.abs(y)) + jnp.e - waves


def descend(agents: int, runs: int, *, communicate: bool) -> list[Runs]:
    """Runs the swarm, or its agents without communication, from random starts.

    Returns:
      Results for each of `STEP_SIZES`; one program serves all.
    """
    rule = jd.evolution.swarm() if communicate else jd.pruning.no_pruning()

    def run(key: jax.Array, step_size: jax.Array) -> Any:
        result = jd.minimize(
            shifted_ackley,
            jd.evolution.backtracking_descent,
            hyperparams={"relative_mass": 1.0, "step_size": step_size},
            init_params=jax.random.uniform(key, (agents, 1), minval=-START, maxval=START),
            steps=STEPS,
            steps_per_rung=1,
            rule=rule,
        )
        agents_at_end = result.population
        return result.value, agents_at_end.gradients, agents_at_end.opt_state.evaluations

    run_all = jax.jit(jax.vmap(run, (0, None)))
    keys = jax.random.split(jax.random.key(0), runs)
    found = []
    for step_size in STEP_SIZES:
        value, gradients, searched = map(np.asarray, run_all(keys, jnp.asarray(step_size)))
        spent = gradients.sum(1)
        found.append(Runs(value < SOLVED, spent, spent + searched.sum(1)))
    return found


def search(budget: int, runs: int) -> Runs:
    """Runs `jd.hybrid` in the box of the starts, without bounds, until success or the budget."""
    side = np.full(1, START, np.float32)
    infinite = np.full(1, np.inf, np.float32)
    problem = jd.Problem(shifted_ackley, -infinite, infinite, start_lower=-side, start_upper=side)
    results = [
        jd.hybrid(problem, key=key, max_evaluations=budget, target=SOLVED)
        for key in jax.random.split(jax.random.key(0), runs)
    ]
    solved = np.array([result.value < SOLVED for result in results])
    spent = np.array([result.evaluations for result in results])
    return Runs(solved, spent, spent)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=300, help="number of runs of each row")
    runs = parser.parse_args(arguments).runs
    rows, budget = [], 0
    for communicate, name, published in ((False, "independent", "0"), (True, "swarm", PUBLISHED)):
        for agents in AGENTS:
            found = descend(agents, runs, communicate=communicate)
            for step_size, each in zip(STEP_SIZES, found, strict=True):
                rows.append((f"{name}, first step {step_size:g}", str(agents), published, each))
            if communicate and agents == AGENTS[0]:
                budget = int(min(np.median(each.evaluations) for each in found))
    rows.append(("jd.hybrid", f"budget {budget:,}", "-", search(budget, runs)))
    shown = [
        (
            name,
            agents,
            published,
            percent(int(found.solved.sum()), runs),
            f"{np.median(found.gradients):,.0f}",
            f"{np.median(found.evaluations):,.0f}",
        )
        for name, agents, published, found in rows
    ]
    head = ("method", "agents", "published, %", "success, %", "gradients", "evaluations")
    print(table(head, shown))


if __name__ == "__main__":
    main()
