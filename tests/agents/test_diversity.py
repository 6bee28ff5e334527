"""Diversity is the root mean square distance of selected agents from their mean."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent.agents.loops.diversity import diversity

AGENTS = 12


def params(spread, at):
    """Returns a tree of agents; agents of odd index are not finite."""
    rng = np.random.default_rng(0)
    tree = {"a": rng.normal(size=(AGENTS, 3, 2)), "b": rng.normal(size=(AGENTS,))}
    tree = jax.tree.map(lambda x: (at + spread * x).astype(np.float32), tree)
    return jax.tree.map(lambda x: np.where(selected(x), x, np.nan).astype(np.float32), tree)


def selected(like):
    """Returns True for agents of even index, with as many axes as `like`."""
    return (np.arange(AGENTS) % 2 == 0).reshape(-1, *[1] * (like.ndim - 1))


@pytest.mark.parametrize("size", [1, 5, 64])
@pytest.mark.parametrize("devices", [None, 4])
@pytest.mark.parametrize(("spread", "at"), [(1.0, 0.0), (1e-4, 1.0)])
def test_it_is_the_standard_deviation_for_any_chunk_size_and_number_of_devices(
    size, devices, spread, at
):
    mesh = jax.make_mesh((devices,), ("a",), (jax.sharding.AxisType.Auto,)) if devices else None
    tree = params(spread, at)
    found = jax.jit(partial(diversity, size=size, mesh=mesh))(tree, np.arange(AGENTS) % 2 == 0)
    flat = np.concatenate([x.reshape(AGENTS, -1) for x in tree.values()], 1)[::2].astype(float)
    np.testing.assert_allclose(found, np.sqrt(np.mean((flat - flat.mean(0)) ** 2)), rtol=1e-5)


def test_distances_are_scaled_before_they_are_squared():
    mesh = jax.make_mesh((4,), ("a",), (jax.sharding.AxisType.Auto,))
    found = jax.jit(partial(diversity, size=2, mesh=mesh))
    one, large, small = (
        found(params(spread, 0.0), np.arange(AGENTS) % 2 == 0) for spread in (1.0, 1e25, 1e-25)
    )
    np.testing.assert_allclose([large / 1e25, small / 1e-25], one, rtol=1e-5)


def test_it_is_zero_without_agents_and_for_equal_agents():
    assert diversity({"a": jnp.ones((3, 2))}, jnp.zeros(3, bool), size=2) == 0
    assert diversity({"a": jnp.ones((3, 2))}, jnp.ones(3, bool), size=2) == 0
