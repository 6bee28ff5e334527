"""Agents on several devices: each takes an even share of the work, wherever the rows are."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdescent.agents.loops import load_balancing

pytestmark = pytest.mark.usefixtures("quick_to_compile")

DEVICES = min(jax.device_count(), 4)
ROWS = 6 * DEVICES
AGENTS = jax.sharding.PartitionSpec("agents")


@partial(jax.jit, static_argnums=0)
def worked(size, x, own, chosen):
    """Rows times ten plus a constant of their own, and the device that each was worked on."""
    mesh = jax.make_mesh((DEVICES,), ("agents",), axis_types=(jax.sharding.AxisType.Auto,))

    def function(rows, own):
        here = jnp.full(len(own), jax.lax.axis_index("agents"))
        folded = jax.vmap(jax.random.fold_in)(rows["key"], own)
        return {"x": rows["x"] * 10 + own, "where": here, "key": folded}

    def on_a_device(x, own, chosen):
        keys = jax.random.split(jax.random.key(0), len(x))
        tree = {"x": x, "where": jnp.full(len(x), -1), "key": keys}
        done = load_balancing.balanced_in_chunks(
            function, tree, chosen, own, size=size, axis="agents"
        )
        moved = jax.random.key_data(done["key"]) != jax.random.key_data(keys)
        return done["x"], done["where"], jnp.any(moved, -1)

    spread = jax.shard_map(
        on_a_device, mesh=mesh, in_specs=AGENTS, out_specs=AGENTS, check_vma=False
    )
    return spread(x, own, chosen)


@settings(max_examples=25, deadline=None)
@given(size=st.sampled_from([1, 4]), chosen=st.lists(st.booleans(), min_size=ROWS, max_size=ROWS))
def test_each_device_does_an_even_share_and_rows_stay_where_they_are(size, chosen):
    chosen = np.array(chosen)
    x, own = np.arange(ROWS, dtype=np.float32) + 0.5, np.arange(ROWS, dtype=np.int32)
    after, where, moved = (np.asarray(each) for each in worked(size, x, own, chosen))
    np.testing.assert_array_equal(after, np.where(chosen, 10 * x + own, x))
    np.testing.assert_array_equal(where >= 0, chosen)
    np.testing.assert_array_equal(moved, chosen)
    shares = np.bincount(where[chosen], minlength=DEVICES)
    assert shares.max() - shares.min() <= 1


def test_all_on_one_device_are_dealt_to_all_in_as_many_rounds_as_it_takes():
    chosen = np.arange(ROWS) < ROWS // DEVICES
    _, where, _ = worked(1, np.ones(ROWS, np.float32), np.zeros(ROWS, np.int32), chosen)
    assert len({*np.asarray(where)[chosen].tolist()}) == DEVICES


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_what_is_lent_is_what_is_too_much_and_what_is_missing(counts):
    counts = np.array(counts)
    fair = np.asarray(load_balancing.fair_shares(jnp.array(counts)))
    first, flow = (
        np.asarray(each) for each in load_balancing.transfers(jnp.array(counts), jnp.array(fair))
    )
    assert fair.sum() == counts.sum()
    assert fair.max() - fair.min() <= 1
    np.testing.assert_array_equal(flow.sum(1), np.maximum(counts - fair, 0))
    np.testing.assert_array_equal(flow.sum(0), np.maximum(fair - counts, 0))
    for begins, many in zip(first, flow, strict=True):  # one after the other, none twice
        going = [place for a, n in zip(begins, many, strict=True) for place in range(a, a + n)]
        assert going == [*range(many.sum())]
