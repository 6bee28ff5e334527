"""Each device does an even share of the work, and every row stays on its device."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdescent.agents.loops import load_balancing

DEVICES = min(jax.device_count(), 4)
ROWS = 6 * DEVICES
AGENTS = jax.sharding.PartitionSpec("agents")


@partial(jax.jit, static_argnums=0)
def run(size, x, constants, selected):
    """Returns 10 x + constant in selected rows, and the device that computed each row."""
    mesh = jax.make_mesh((DEVICES,), ("agents",), axis_types=(jax.sharding.AxisType.Auto,))

    def function(rows, constants):
        device = jnp.full(len(constants), jax.lax.axis_index("agents"))
        keys = jax.vmap(jax.random.fold_in)(rows["key"], constants)
        return {"x": rows["x"] * 10 + constants, "device": device, "key": keys}

    def run_on_device(x, constants, selected):
        keys = jax.random.split(jax.random.key(0), len(x))
        tree = {"x": x, "device": jnp.full(len(x), -1), "key": keys}
        result = load_balancing.balanced_in_chunks(
            function, tree, selected, constants, size=size, axis="agents"
        )
        has_new_key = jax.random.key_data(result["key"]) != jax.random.key_data(keys)
        return result["x"], result["device"], jnp.any(has_new_key, -1)

    sharded = jax.shard_map(
        run_on_device, mesh=mesh, in_specs=AGENTS, out_specs=AGENTS, check_vma=False
    )
    return sharded(x, constants, selected)


@settings(max_examples=25, deadline=None)
@given(size=st.sampled_from([1, 4]), selected=st.lists(st.booleans(), min_size=ROWS, max_size=ROWS))
def test_each_device_does_an_even_share_and_rows_stay_on_their_device(size, selected):
    selected = np.array(selected)
    x, constants = np.arange(ROWS, dtype=np.float32) + 0.5, np.arange(ROWS, dtype=np.int32)
    result, device, has_new_key = (np.asarray(a) for a in run(size, x, constants, selected))
    np.testing.assert_array_equal(result, np.where(selected, 10 * x + constants, x))
    np.testing.assert_array_equal(device >= 0, selected)
    np.testing.assert_array_equal(has_new_key, selected)
    shares = np.bincount(device[selected], minlength=DEVICES)
    assert shares.max() - shares.min() <= 1


def test_rows_of_one_device_are_exported_to_all_in_several_rounds():
    selected = np.arange(ROWS) < ROWS // DEVICES
    _, device, _ = run(1, np.ones(ROWS, np.float32), np.zeros(ROWS, np.int32), selected)
    assert len({*np.asarray(device)[selected].tolist()}) == DEVICES


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_exports_are_the_surplus_and_imports_the_shortfall(counts):
    counts = np.array(counts)
    fair = np.asarray(load_balancing.fair_shares(jnp.array(counts)))
    first, flow = (
        np.asarray(each) for each in load_balancing.transfers(jnp.array(counts), jnp.array(fair))
    )
    assert fair.sum() == counts.sum()
    assert fair.max() - fair.min() <= 1
    np.testing.assert_array_equal(flow.sum(1), np.maximum(counts - fair, 0))
    np.testing.assert_array_equal(flow.sum(0), np.maximum(fair - counts, 0))
    for begins, many in zip(first, flow, strict=True):  # consecutive rows, each once
        exported = [place for a, n in zip(begins, many, strict=True) for place in range(a, a + n)]
        assert exported == [*range(many.sum())]
