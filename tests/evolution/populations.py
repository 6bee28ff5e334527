"""Populations with given values, for tests of rules that copy and recombine agents."""

import jax
import jax.numpy as jnp
import optax

import jaxdescent as jd
from jaxdescent.agents.population import initial_population

NAN = float("nan")


def with_values(values, *, alive=None, evaluated=None, hyperparams=None, bounds=None):
    """Returns agents with these values and the problem that a rule is given.

    They are at 0, 1, 2, ... in one dimension, with Adam, whose step counts are 0, 1, 2, ... too.
    """
    values = jnp.asarray(values, jnp.float32)
    size = len(values)
    hyperparams = {"learning_rate": jnp.full(size, 0.1)} if hyperparams is None else hyperparams
    problem = jd.Problem(
        lambda x: jnp.sum(x**2), -jnp.ones(1), 3 * jnp.ones(1), optimizer=optax.adam, bounds=bounds
    )
    starts = jnp.arange(size, dtype=jnp.float32)[:, None]
    rates = {"learning_rate": jnp.full(size, 0.1)}
    population = initial_population(problem, starts, rates, values.dtype, jnp.zeros_like(starts))
    adam, *rest = population.opt_state
    evaluated = jnp.ones(size, bool) if evaluated is None else jnp.asarray(evaluated)
    population = population._replace(
        hyperparams=hyperparams,
        opt_state=(adam._replace(count=jnp.arange(size, dtype=jnp.int32)), *rest),
        values=values,
        best_values=values,
        alive=jnp.ones(size, bool) if alive is None else jnp.asarray(alive),
        evaluated=evaluated,
        age=evaluated.astype(jnp.int32),
    )
    return population, problem


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)
