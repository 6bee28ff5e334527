"""Networks that solve differential equations: the same points at every step.

The loss is the mean squared residual over fixed points, relative to the loss of the ansatz without
a network. Initial and boundary conditions hold exactly, by the ansatz. The score is the loss plus
1e-3, so that the ratio of two scores is near 1 where both networks have solved the equation.

Source: M. Raissi, P. Perdikaris, G. Karniadakis, "Physics-informed neural networks", Journal of
Computational Physics 378, 2019 (Burgers' equation with the same initial condition).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.tuning.generated import Moment, Problem
from experiments.tuning.problems.networks import apply_layers, init_layers

ADDED = 1e-3  # to the relative squared residual
VISCOSITY = 0.1


def poisson() -> Problem:
    """Returns u'' = f on [0, 1] with u = 0 at both ends, whose solution has two frequencies.

    u = x (1 - x) n(x); the solution is sin(pi x) + sin(4 pi x) / 4.
    """
    points = jnp.linspace(0.0, 1.0, 65)[1:-1]
    pi = jnp.pi
    f = -(pi**2) * (jnp.sin(pi * points) + 4 * jnp.sin(4 * pi * points))

    def residuals(params: Any) -> jax.Array:
        def u(x: jax.Array) -> jax.Array:
            return x * (1 - x) * _network(params, jnp.stack([x]))

        return jax.vmap(jax.grad(jax.grad(u)))(points) - f

    return _equation(residuals, jnp.mean(f**2), inputs=1)


def burgers() -> Problem:
    """Returns Burgers' equation u_t + u u_x = 0.1 u_xx for x in [-1, 1] and t in [0, 1].

    u = -sin(pi x) + t (1 - x^2) n(t, x).
    """
    t, x = jnp.meshgrid(jnp.linspace(0.0, 1.0, 8), jnp.linspace(-1.0, 1.0, 34)[1:-1])
    t, x = t.ravel(), x.ravel()

    def residuals_of(network: Callable[[jax.Array], jax.Array]) -> jax.Array:
        def u(t: jax.Array, x: jax.Array) -> jax.Array:
            return -jnp.sin(jnp.pi * x) + t * (1 - x**2) * network(jnp.stack([t, x]))

        return jax.vmap(partial(burgers_residual, u))(t, x)

    def residuals(params: Any) -> jax.Array:
        return residuals_of(partial(_network, params))

    without = residuals_of(lambda _: jnp.zeros(()))
    return _equation(residuals, jnp.mean(without**2), inputs=2)


def burgers_residual(
    u: Callable[[jax.Array, jax.Array], jax.Array], t: jax.Array, x: jax.Array
) -> jax.Array:
    """Returns u_t + u u_x - 0.1 u_xx at a point, for a function `u(t, x)`."""
    value, (u_t, u_x) = jax.value_and_grad(u, (0, 1))(t, x)
    return u_t + value * u_x - VISCOSITY * jax.grad(jax.grad(u, 1), 1)(t, x)


def _network(params: Any, x: jax.Array) -> jax.Array:
    return apply_layers(params, x, jnp.tanh)[0]


def _equation(residuals: Callable[[Any], jax.Array], scale: jax.Array, inputs: int) -> Problem:
    def loss(params: Any, batch: Any) -> jax.Array:
        del batch
        return jnp.mean(residuals(params) ** 2) / scale

    def observe(params: Any, env: Any, key: jax.Array, moment: Moment) -> Any:
        del params, key, moment
        return (), env

    def score(params: Any, moment: Moment) -> jax.Array:
        del moment
        return loss(params, ()) + ADDED

    init = partial(init_layers, sizes=(inputs, 20, 20, 1), gain=1.0)
    return Problem(init, observe, loss, score)
