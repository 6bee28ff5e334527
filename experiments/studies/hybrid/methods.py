"""The methods that are compared; each searches one problem with a budget of evaluations.

A search ends at the first value below its target. All methods keep to the box of the problem, and
all work in float64. Methods that would end earlier start again until the budget is spent.
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import optimize

import jaxdescent as jd
from experiments.studies.hybrid import ablation
from experiments.studies.hybrid.evaluations import Finished, Objective, Search
from jaxdescent.extras import require

ADAM_RATE = 0.01  # of the width of the box
HALVING_AGENTS, HALVING_RATE = 256, 0.005
DE_AGENTS, DE_STEPS, DE_RATE = 32, 60, 0.005
DE_SHARE, DE_LAST_RATE = 0.9, 0.0005  # of the budget; the best agent descends with the rest
HOP = 0.05  # of the width of the box: scipy's default of 0.5 in a box of width 10
CMA_SIGMA = 0.25  # of the width of the box
FOREVER = 10**9


class Method(NamedTuple):
    """A method of the study.

    Attributes:
      title: name in tables.
      search: Called as `search(problem, key, budget, target)`; returns a `Search`.
      uses_gradients: whether it uses gradients.
    """

    title: str
    search: Callable[[jd.Problem, jax.Array, int, float], Search]
    uses_gradients: bool = True


def hybrid(problem: jd.Problem, key: jax.Array, budget: int, target: float) -> Search:
    """Calls `jd.hybrid` with its defaults."""
    result = jd.hybrid(problem, key=key, max_evaluations=budget, target=target)
    return Search.of_hybrid(result, target)


def adam(problem: jd.Problem, key: jax.Array, budget: int, target: float) -> Search:
    """Runs Adam from one start; the learning rate decays to 0 on a cosine schedule."""
    point, steps, reached = _adam(problem, key, budget, target)
    return Search.with_gradients(point, steps, steps if reached else 0)


@jax.jit
def _adam(problem: jd.Problem, key: jax.Array, budget: Any, target: Any) -> Any:
    def learning_rate(count: Any) -> Any:
        return ADAM_RATE * (1 + jnp.cos(jnp.pi * count / budget)) / 2

    optimizer = optax.adam(learning_rate)
    width = problem.upper - problem.lower

    def goes_on(state: Any) -> Any:
        *_, best_value, steps = state
        return (best_value >= target) & (steps < budget)

    def step(state: Any) -> Any:
        u, opt_state, best, best_value, steps = state
        value, grad = problem.value_and_grad(problem.lower + u * width)
        updates, opt_state = optimizer.update(grad * width, opt_state)
        is_better = value < best_value
        best, best_value = (
            jnp.where(is_better, new, old) for new, old in ((u, best), (value, best_value))
        )
        u = jnp.clip(optax.apply_updates(u, updates), 0, 1)  # pyrefly: ignore
        return u, opt_state, best, best_value, steps + 1

    start = jax.random.uniform(key, problem.lower.shape, problem.lower.dtype)
    infinite = jnp.asarray(jnp.inf, start.dtype)
    state = (start, optimizer.init(start), start, infinite, jnp.asarray(0))
    *_, best, best_value, steps = jax.lax.while_loop(goes_on, step, state)
    return problem.lower + best * width, steps, best_value < target


def halving(problem: jd.Problem, key: jax.Array, budget: int, target: float) -> Search:
    """Runs Adam from many starts with successive halving; it knows values once in a rung."""
    result = jd.minimize(
        problem,
        optax.adam(HALVING_RATE),
        key=key,
        num_agents=min(HALVING_AGENTS, budget // 10),
        gradient_budget=budget,
        rule=jd.pruning.successive_halving(),
    )
    spent, best = _by_rung(result)
    below = np.flatnonzero(best < target)
    to_target = spent[below[0]] if below.size else 0
    return Search.with_gradients(result.params, result.evaluations, to_target)


def de_adam(problem: jd.Problem, key: jax.Array, budget: int, target: float) -> Search:
    """Runs differential evolution with Adam between generations, and Adam from the best point.

    The learning rate decays to 0 in each generation and in the last descent. Values are known at
    the end of each generation, and at twenty times in the last descent.
    """
    agents = min(DE_AGENTS, budget // 40)
    evolved = jd.minimize(
        problem,
        optax.adam(optax.cosine_decay_schedule(DE_RATE, DE_STEPS)),
        key=key,
        num_agents=agents,
        gradient_budget=int(DE_SHARE * budget),
        num_rungs=max(int(DE_SHARE * budget) // (agents * (DE_STEPS + 1)), 1),
        rule=jd.evolution.differential_evolution(),
    )
    spent, best = _by_rung(evolved)
    if best[-1] >= target:
        steps = budget - spent[-1] - 1
        descended = jd.minimize(
            problem,
            optax.adam(optax.cosine_decay_schedule(DE_LAST_RATE, steps)),
            init_params=evolved.params[None],
            steps=steps,
            num_rungs=20,
            rule=jd.pruning.no_pruning(),
        )
        spent_later, best_later = _by_rung(descended)
        spent, best = [*spent, *(spent[-1] + spent_later)], [*best, *best_later]
        evolved = descended
    below = np.flatnonzero(np.array(best) < target)
    if below.size:
        return Search.with_gradients(evolved.params, spent[below[0]], spent[below[0]])
    return Search.with_gradients(evolved.params, spent[-1], 0)


def _by_rung(result: jd.PopulationResult) -> tuple[np.ndarray, np.ndarray]:
    """Returns the number of gradients and the best value at the end of each rung."""
    return result.history.gradients, np.asarray(result.history.best_value)


def _search_until_finished(
    problem: jd.Problem,
    key: jax.Array,
    budget: int,
    target: float,
    search_once: Callable[[Objective, np.random.Generator], Any],
) -> Search:
    """Calls a search again until the target is reached or the budget is spent."""
    objective = Objective(problem, budget, target)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    try:
        while True:
            search_once(objective, rng)
    except Finished:
        return objective.finish()


def lbfgs(problem: jd.Problem, key: jax.Array, budget: int, target: float) -> Search:
    """Runs SciPy's L-BFGS-B from uniform starts, one after another."""

    def search_once(objective: Objective, rng: np.random.Generator) -> None:
        optimize.minimize(
            objective.value_and_grad,
            rng.uniform(objective.lower, objective.upper),
            jac=True,
            method="L-BFGS-B",
            bounds=objective.bounds,
        )

    return _search_until_finished(problem, key, budget, target, search_once)


def basin_hopping(problem: jd.Problem, key: jax.Array, budget: int, target: float) -> Search:
    """Runs SciPy's basin hopping with L-BFGS-B."""

    def search_once(objective: Objective, rng: np.random.Generator) -> None:
        minimizer = {"method": "L-BFGS-B", "jac": True, "bounds": objective.bounds}
        optimize.basinhopping(
            objective.value_and_grad,
            rng.uniform(objective.lower, objective.upper),
            niter=FOREVER,
            take_step=_Hop(objective, rng),
            minimizer_kwargs=minimizer,
            rng=rng,
        )

    return _search_until_finished(problem, key, budget, target, search_once)


class _Hop:
    """SciPy's random displacement, in widths of the box and within it.

    SciPy adapts `stepsize`, which starts at a part `HOP` of the width.
    """

    def __init__(self, objective: Objective, rng: np.random.Generator):
        self.stepsize, self._rng = HOP, rng
        self._lower, self._upper = objective.lower, objective.upper

    def __call__(self, x: np.ndarray) -> np.ndarray:
        reach = self.stepsize * (self._upper - self._lower)
        return np.clip(x + self._rng.uniform(-reach, reach), self._lower, self._upper)


def dual_annealing(problem: jd.Problem, key: jax.Array, budget: int, target: float) -> Search:
    """Runs SciPy's dual annealing, whose local search is L-BFGS-B with gradients."""

    def search_once(objective: Objective, rng: np.random.Generator) -> None:
        local = {"method": "L-BFGS-B", "jac": objective.grad, "bounds": objective.bounds}
        optimize.dual_annealing(
            objective.value,
            objective.bounds,
            maxiter=FOREVER,
            maxfun=FOREVER,
            minimizer_kwargs=local,
            rng=rng,
        )

    return _search_until_finished(problem, key, budget, target, search_once)


def differential_evolution(
    problem: jd.Problem, key: jax.Array, budget: int, target: float
) -> Search:
    """Runs SciPy's differential evolution, a generation at a time and without a last descent."""

    def search_once(objective: Objective, rng: np.random.Generator) -> None:
        optimize.differential_evolution(
            lambda columns: objective.values(columns.T),
            objective.bounds,
            maxiter=FOREVER,
            polish=False,
            tol=1e-8,  # SciPy's .01 would end populations whose values differ by 1%
            updating="deferred",
            vectorized=True,
            rng=rng,
        )

    return _search_until_finished(problem, key, budget, target, search_once)


def bipop_cma(problem: jd.Problem, key: jax.Array, budget: int, target: float) -> Search:
    """Runs pycma's CMA-ES with nine restarts of BIPOP, in units of the box.

    Raises:
      MissingPackageError: cma is not installed.
    """
    cma = require("cma", "bbob")

    def search_once(objective: Objective, rng: np.random.Generator) -> None:
        width = objective.upper - objective.lower

        def values(points: list[np.ndarray]) -> list[float]:
            return objective.values(objective.lower + np.asarray(points) * width).tolist()

        cma.fmin2(
            None,
            lambda: rng.uniform(size=width.size),
            CMA_SIGMA,
            {"bounds": [0, 1], "verbose": -9, "seed": int(rng.integers(1, 2**31))},
            parallel_objective=values,
            restarts=9,
            bipop=True,
        )

    state = np.random.get_state()  # noqa: NPY002, which cma sets
    try:
        return _search_until_finished(problem, key, budget, target, search_once)
    finally:
        np.random.set_state(state)  # noqa: NPY002


def is_installed(name: str) -> bool:
    """Returns whether the package that a method needs is installed."""
    return name != "bipop_cma" or importlib.util.find_spec("cma") is not None


METHODS = {
    "hybrid": Method("jd.hybrid", hybrid),
    "adam": Method("Adam, one start", adam),
    "halving": Method("Adam, halving", halving),
    "de_adam": Method("DE + Adam", de_adam),
    "lbfgs": Method("L-BFGS multistart", lbfgs),
    "basin_hopping": Method("basin hopping", basin_hopping),
    "dual_annealing": Method("dual annealing", dual_annealing),
    "differential_evolution": Method(
        "differential evolution", differential_evolution, uses_gradients=False
    ),
    "bipop_cma": Method("BIPOP-CMA-ES", bipop_cma, uses_gradients=False),
    **{
        f"without_{part}": Method(title, partial(ablation.search_without, part))
        for part, title in ablation.TITLES.items()
    },
}
