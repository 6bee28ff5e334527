"""Population-based training: agents with high values become changed copies of agents with low ones.

    exploit:  agent i becomes a copy of agent s(i), its optimizer state included
    explore:  h <- 0.8 h or 1.2 h, or a new draw from the prior, for each hyperparameter of a copy

    truncation:  s(i) is drawn from the best quantile, for each i in the worst quantile
    tournament:  s(i) is drawn from all others, and copied if its value is better

The hyperparameters along the lineage of the best agent are a schedule that was learned during
training (`lineage.py`). In the published method agents exploit whenever they are ready;
here all do so at the end of a rung.

Source: M. Jaderberg et al. 2017, arXiv:1711.09846.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import chunking, validation
from jaxdescent.agents import Population, Rule, copy_agents
from jaxdescent.agents.pruning import ranks
from jaxdescent.evolution.lineage import Lineage
from jaxdescent.evolution.search_spaces import checked_spaces, drawn, perturbed
from jaxdescent.problem import Problem
from jaxdescent.towers.spaces import Space


def population_based_training(
    spaces: Mapping[str, Space],
    *,
    exploit: Literal["truncation", "tournament"] = "truncation",
    quantile: float = 0.2,
    factors: Sequence[float] = (0.8, 1.2),
    resample_probability: float = 0.25,
    burn_in: int = 0,
) -> Rule:
    """Copies agents with low values over agents with high ones, and changes their hyperparameters.

    Copies carry the optimizer state and the model state. An agent whose value is not finite is
    replaced too; an agent that another rule pruned is not. The optimizer must be a factory that
    uses the hyperparameters at each step, such as `optax.adamw`.

    Agents are compared by their values at the end of a rung. Give `jd.fit` validation data: without
    it the value is the mean loss on the batches of the rung, in which overfitting does not show. As
    the values select agents, report the result on other data.

    Args:
      spaces: mapping from hyperparameters to ranges: `jd.positive((low, high))`,
        `jd.unit_interval((low, high))` or `jd.unconstrained((low, high))`. A new draw is uniform
        in the coordinate of the space. Perturbed values may leave the range.
      exploit: "truncation" replaces the worst quantile by agents of the best quantile;
        "tournament" compares each agent with another.
      quantile: fraction of the agents that truncation replaces, and from which it copies, rounded
        up, at most half; in (0, 0.5].
      factors: two positive numbers. A perturbation multiplies a value in `jd.positive` by one of
        them, and the odds h / (1 - h) of a value in `jd.unit_interval`. A value in
        `jd.unconstrained` moves by (factor - 1) times the width of its range.
      resample_probability: probability that a hyperparameter of a copy is drawn anew in its range
        instead of being perturbed; in [0, 1].
      burn_in: number of rungs before the first copy. Use it rather than `jd.pruning.delay`, with
        which the lineage would have copies that were not made.

    Returns:
      A rule whose info is a `Lineage`.

    Raises:
      ValueError: an argument is out of its range; in the loop, there are fewer than two agents,
        the population lacks a hyperparameter of `spaces`, or the optimizer does not use it.
      TypeError: `spaces` is not a mapping from keywords to ranges.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> spaces = {"learning_rate": jd.positive((1e-5, 1.0))}
      >>> result = jd.minimize(
      ...     lambda x: jnp.sum((x - 1) ** 2), optax.sgd, init_params=jnp.zeros((16, 3)),
      ...     hyperparams=jd.evolution.sample_hyperparams(jax.random.key(0), spaces, 16),
      ...     steps=100, num_rungs=20, rule=jd.evolution.population_based_training(spaces))
      >>> bool(result.value < 1e-6)
      True
    """
    spaces = checked_spaces(spaces)
    if not isinstance(exploit, str) or exploit not in ("truncation", "tournament"):
        raise ValueError(f"exploit must be 'truncation' or 'tournament', got {exploit!r}")
    quantile = validation.number_in("quantile", quantile, 0.0, 0.5)
    if not quantile:
        raise ValueError(f"quantile must be in (0, 0.5], got {quantile:g}")
    down, up = _checked_factors(factors)
    resample = validation.number_in("resample_probability", resample_probability, 0.0, 1.0)
    burn_in = validation.integer_in("burn_in", burn_in, 0)

    def init(_key: jax.Array, population: Population, problem: Problem) -> jax.Array:
        _check_population(population, problem, spaces)
        return jnp.zeros((), jnp.int32)

    def explored(key: jax.Array, hyperparams: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns the hyperparameters of one agent after a perturbation or a new draw."""
        new = dict(hyperparams)
        for number, (name, space) in enumerate(spaces.items()):
            old = hyperparams[name]
            keys = jax.random.split(jax.random.fold_in(key, number), 3)
            new[name] = jnp.where(
                jax.random.bernoulli(keys[0], resample),
                drawn(keys[1], space, old.shape, old.dtype),
                perturbed(keys[2], space, old, (down, up)),
            )
        return new

    def update(
        key: jax.Array, population: Population, _problem: Problem, rung: jax.Array
    ) -> tuple[Population, jax.Array, Lineage]:
        select_key, explore_key = jax.random.split(key)
        own = jnp.arange(len(population.ids), dtype=jnp.int32)
        if exploit == "truncation":
            source = truncation(select_key, population, quantile)
        else:
            source = tournament(select_key, population)
        source = jnp.where(rung < burn_in, own, source)
        copies = copy_agents(population, source)
        new = jax.vmap(explored)(jax.random.split(explore_key, len(own)), copies.hyperparams)
        changed = {
            name: chunking.where_rows(source != own, new[name], population.hyperparams[name])
            for name in spaces
        }
        lineage = Lineage(source, population.hyperparams)
        population = copies._replace(hyperparams={**copies.hyperparams, **changed})
        return population, rung + 1, lineage

    return Rule(init, update)


def truncation(key: jax.Array, population: Population, quantile: float) -> jax.Array:
    """Returns i32[agents], an agent of the best quantile for each of the worst, else itself."""
    order, rank, num_finite, lost = _ranking(population)
    size = len(order)
    # A table in float64, because 0.2 * 10 is above 2 in float32.
    counts = np.minimum(np.ceil(quantile * np.arange(size + 1) - 1e-9), np.arange(size + 1) // 2)
    num_agents = num_finite + jnp.sum(lost)  # without pruned agents
    count = jnp.asarray(counts.astype(np.int32))[num_agents]
    num_best = jnp.clip(count, 1, jnp.maximum(num_finite, 1))
    from_best = order[jax.random.randint(key, (size,), 0, num_best)]
    replaced = lost | ((rank >= num_agents - count) & (rank < num_finite))
    return _replaced(replaced & (num_finite > 0), from_best)


def tournament(key: jax.Array, population: Population) -> jax.Array:
    """Returns i32[agents], another agent, drawn uniformly, if its value is better, else itself."""
    order, rank, num_finite, lost = _ranking(population)
    # Steps of 1 to n - 1 in the ranking, around its end, reach each other agent.
    step = jax.random.randint(key, (len(order),), jnp.where(lost, 0, 1), num_finite)
    opponent = order[(rank + step) % jnp.maximum(num_finite, 1)]
    better = population.scores[opponent] < population.scores
    takes_part = lost | (rank < num_finite)
    return _replaced(takes_part & better, opponent)


def _ranking(population: Population) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns the order of the agents, their ranks, the number of finite scores, and `diverged`."""
    scores = population.scores
    num_finite = jnp.sum(jnp.isfinite(scores), dtype=jnp.int32)
    return jnp.argsort(scores).astype(jnp.int32), ranks(scores), num_finite, diverged(population)


def diverged(population: Population) -> jax.Array:
    """Returns bool[agents], True where the value is not finite; False for pruned agents.

    Agents that another rule has just restarted have age 0, and may not have a value yet.
    """
    return (population.age > 0) & ~jnp.isfinite(population.values)


def _replaced(mask: jax.Array, source: jax.Array) -> jax.Array:
    return jnp.where(mask, source, jnp.arange(len(source), dtype=jnp.int32))


def _checked_factors(factors: Any) -> tuple[float, float]:
    numbers = validation.positive("factors", factors)
    if np.shape(numbers) != (2,):
        raise ValueError(
            f"factors must be two numbers, such as (0.8, 1.2), got {validation.shown(factors)}"
        )
    return float(numbers[0]), float(numbers[1])


def _check_population(
    population: Population, problem: Problem, spaces: Mapping[str, Space]
) -> None:
    """Raises ValueError unless agents have the hyperparameters, and their optimizer uses them."""
    if len(population.ids) < 2:
        raise ValueError(
            "num_agents must be at least 2 for population-based training, got "
            f"{len(population.ids)}"
        )
    for name in spaces:
        if name not in population.hyperparams:
            known = ", ".join(population.hyperparams)
            raise ValueError(
                f"spaces must name hyperparameters of the population, got {name!r} and a "
                f"population {f'with {known}' if known else 'without hyperparameters'}; add it to "
                "hyperparams=, as with jd.evolution.sample_hyperparams"
            )
        dtype = population.hyperparams[name].dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"hyperparams[{name!r}] must be floating point to be perturbed, got {dtype}"
            )
    if problem.optimizer is None:
        return
    for name in spaces:
        if not _is_used(problem.optimizer, population, name):
            raise ValueError(
                f"optimizer must use {name!r} at each step, got a factory whose optimizer keeps "
                "the first value in its state; give a factory such as optax.adam itself, without "
                "optax.inject_hyperparams"
            )


def _is_used(optimizer: Callable[..., Any], population: Population, name: str) -> bool:
    """Returns True if an optimizer's update may depend on a hyperparameter."""

    def shape_of_one(x: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape[1:], x.dtype)

    agents = (population.params, population.opt_state, population.hyperparams)
    params, opt_state, hyperparams = jax.tree.map(shape_of_one, agents)
    value = jax.ShapeDtypeStruct((), population.values.dtype)

    def update(searched: Any, params: Any, opt_state: Any, hyperparams: Any, value: Any) -> Any:
        tx = optimizer(**{**hyperparams, name: searched})
        extra = {"value": value, "grad": params, "value_fn": lambda _: value}
        return tx.update(params, opt_state, params, **extra)

    traced = jax.make_jaxpr(update)(hyperparams[name], params, opt_state, hyperparams, value).jaxpr
    dependent = {id(traced.invars[0])}
    for equation in traced.eqns:
        if any(id(x) in dependent for x in equation.invars):
            dependent |= {id(x) for x in equation.outvars}
    return any(id(x) in dependent for x in traced.outvars)
