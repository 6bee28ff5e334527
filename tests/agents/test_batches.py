"""Each epoch is a permutation drawn from the key, the epoch and, per agent, the id."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent.agents.loops.batches import make_batches

KEY = jax.random.key(0)
EXAMPLES, STEPS = 20, 15
IDS = jnp.array([3, 0, 7], jnp.int32)


@partial(jax.jit, static_argnums=0)
def seen(batches, first=0, ids=IDS, key=KEY):
    """Returns the examples of STEPS steps, [steps, batch] or [steps, agents, batch]."""
    data = jnp.arange(batches.examples)

    def step(order, t):
        order = batches.order(order, key, ids, first + t, t == 0)
        return order, batches.batch(data, order, first + t)

    return jax.lax.scan(step, batches.empty_order(len(ids)), jnp.arange(STEPS))[1]


@pytest.mark.parametrize(("size", "data_order"), [(4, "shared"), (4, "per_agent"), (7, "shared")])
def test_no_example_is_seen_twice_in_an_epoch(size, data_order):
    found = np.asarray(seen(make_batches(jnp.zeros(EXAMPLES), size, data_order)))
    per_epoch = EXAMPLES // size
    agents = np.moveaxis(found, 0, -2).reshape(-1, STEPS, size)
    for batches_of_agent in agents:
        for first in range(0, STEPS - per_epoch + 1, per_epoch):
            epoch = batches_of_agent[first : first + per_epoch].ravel()
            assert len({*epoch.tolist()}) == per_epoch * size
    assert len({*agents[0].ravel().tolist()}) == EXAMPLES  # an epoch sees what another drops


def test_a_rung_that_begins_within_an_epoch_continues_its_order():
    batches = make_batches(jnp.zeros(EXAMPLES), 4, "per_agent")
    np.testing.assert_array_equal(seen(batches)[7:], seen(batches, 7)[:-7])


def test_epochs_differ_and_agents_differ_with_an_order_per_agent():
    per_agent = np.asarray(seen(make_batches(jnp.zeros(EXAMPLES), 4, "per_agent")))
    epochs = per_agent[:10].reshape(2, 5, 3, 4).swapaxes(1, 2).reshape(6, -1)
    assert len({tuple(order) for order in epochs.tolist()}) == 6
    shared = np.asarray(seen(make_batches(jnp.zeros(EXAMPLES), 4, "shared")))
    assert not np.array_equal(shared[:5], shared[5:10])


def test_an_order_depends_on_the_id_and_not_on_the_index():
    batches = make_batches(jnp.zeros(EXAMPLES), 4, "per_agent")
    np.testing.assert_array_equal(seen(batches), seen(batches, 0, IDS[::-1])[:, ::-1])


def test_without_a_batch_size_the_batch_is_all_data():
    data = {"x": jnp.arange(6).reshape(3, 2)}
    batches = make_batches(data, None, "per_agent")
    assert batches.batch(data, batches.empty_order(3), jnp.int32(5)) is data
    assert batches.axis is None


@pytest.mark.parametrize(
    ("data", "size", "data_order", "match"),
    [
        (
            jnp.zeros(3),
            4,
            "shared",
            r"batch_size must be an integer in \[1, 3\], got 4; data has 3",
        ),
        (jnp.zeros(3), 0, "shared", "batch_size must be an integer at least 1, got 0"),
        (jnp.zeros(3), 1, "own", "data_order must be 'shared' or 'per_agent', got 'own'"),
        (jnp.zeros(0), 1, "shared", r"at least one example in every leaf, got shapes \(0,\)"),
        (
            (jnp.zeros(3), jnp.zeros(2)),
            1,
            "shared",
            r"got shapes \(3,\) at data\[0\], \(2,\) at data\[",
        ),
        ({"x": jnp.zeros((3, 1)), "y": [0.0] * 9}, 1, "shared", r"\(\) at .*, \.\.\. in 10 leaves"),
        (jnp.zeros(()), 1, "shared", r"got shapes \(\) at data"),
        ({}, 1, "shared", "got no arrays"),
        (
            jnp.zeros(3),
            [1, 2],
            "shared",
            r"which all agents share, got \[1, 2\]; fit once for each",
        ),
    ],
)
def test_bad_arguments_are_named(data, size, data_order, match):
    with pytest.raises(ValueError, match=match):
        make_batches(data, size, data_order)
