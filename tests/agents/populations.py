"""A population with given values, for tests of rules and model soups."""

import jax.numpy as jnp
import optax

import jaxdescent as jd
from jaxdescent.agents.population import initial_population


def with_values(values, alive=None):
    """Returns agents with these values, in one dimension at 0, 1, 2, ..., each with Adam."""
    values = jnp.asarray(values, jnp.float32)
    starts = jnp.arange(len(values), dtype=jnp.float32)[:, None]
    population = initial_population(a_problem(), starts, {}, values.dtype, jnp.zeros_like(starts))
    alive = jnp.ones(len(values), bool) if alive is None else jnp.asarray(alive)
    evaluated = jnp.ones(len(values), bool)
    return population._replace(values=values, best_values=values, alive=alive, evaluated=evaluated)


def a_problem():
    """Returns a quadratic problem without bounds, with Adam as optimizer."""
    one = jnp.ones(1)
    adam = optax.with_extra_args_support(optax.adam(0.1))
    return jd.Problem(lambda x: jnp.sum(x**2), -one, one, optimizer=lambda: adam, bounds=None)
