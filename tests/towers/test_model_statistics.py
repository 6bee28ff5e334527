"""Re-estimated statistics are means over batches, independent of the statistics before."""

import chex
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdescent as jd

BATCHES = np.random.default_rng(0).normal(3.0, 50.0, (4, 16, 5)).astype(np.float32)
MEAN = BATCHES.mean(1, dtype=np.float64).mean(0)
VARIANCE = BATCHES.var(1, dtype=np.float64).mean(0)


def linen(momentum=0.99):
    """A layer's update of its statistics, and their initial values."""
    layer = nn.BatchNorm(momentum=momentum)

    def apply(params, batch_stats, batch):
        variables = {"params": params, "batch_stats": batch_stats}
        return layer.apply(variables, batch, False, mutable=["batch_stats"])[1]["batch_stats"]

    variables = layer.init(jax.random.key(0), BATCHES[0], False)
    return apply, variables["params"], variables["batch_stats"]


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999])
@pytest.mark.parametrize("before", [0.0, 1e5, 1e30, np.nan, np.inf])
def test_the_result_depends_neither_on_the_momentum_nor_on_earlier_statistics(momentum, before):
    apply, params, statistics = linen(momentum)
    statistics = jax.tree.map(lambda x: jnp.full_like(x, before), statistics)
    found = jd.reestimate_statistics(apply, params, statistics, BATCHES)
    # 1 - m is known to about eps, so the mean to eps / (1 - m).
    rtol = 1e-6 + 2e-7 / (1 - momentum)
    np.testing.assert_allclose(found["mean"], MEAN, rtol=rtol)
    np.testing.assert_allclose(found["var"], VARIANCE, rtol=rtol)


def test_batches_that_are_not_finite_are_left_out():
    apply, params, statistics = linen()
    batches = [np.full_like(BATCHES[0], np.nan), *BATCHES]
    found = jd.reestimate_statistics(apply, params, statistics, batches)
    np.testing.assert_allclose(found["mean"], MEAN, rtol=1e-4)
    found = jd.reestimate_statistics(apply, params, statistics, batches[:1])
    assert np.isnan(found["mean"]).all()


def test_the_model_is_compiled_once():
    apply, params, statistics = linen()
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(apply, n=1)
    for _ in range(2):
        jd.reestimate_statistics(traced, params, statistics, iter(BATCHES))


def test_networks_side_by_side_have_their_own_statistics():
    apply, _, statistics = linen()
    batches = np.stack([BATCHES, 2 * BATCHES, BATCHES * np.nan], 1)
    both = jax.tree.map(lambda x: jnp.stack([x] * 3), statistics)

    def apply_all(params, statistics, batch):
        return jax.vmap(lambda s, x: apply({"scale": jnp.ones(5), "bias": jnp.ones(5)}, s, x))(
            statistics, batch
        )

    found = jd.reestimate_statistics(apply_all, None, both, batches)["mean"]
    np.testing.assert_allclose(found[:2], [MEAN, 2 * MEAN], rtol=1e-4)
    assert np.isnan(found[2]).all()


def test_all_state_of_an_nnx_model_may_be_passed():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.BatchNorm(5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))
    graph, params, state = nnx.split(model, nnx.Param, ...)

    def apply(params, state, batch):
        model = nnx.merge(graph, params, state, copy=True)
        model(batch)
        return nnx.split(model, nnx.Param, ...)[2]

    nnx.update(model, jd.reestimate_statistics(apply, params, state, BATCHES))
    np.testing.assert_allclose(model.layers[0].mean[...], MEAN, rtol=1e-4)
    np.testing.assert_allclose(model.layers[0].var[...], VARIANCE, rtol=1e-4)
    assert int(model.layers[1].rngs.count[...]) == 4  # a key for each batch, as in training


def test_the_state_of_equinox_is_refused_with_the_remedy():
    layer = eqx.nn.BatchNorm(5, axis_name="batch", mode="batch")
    with pytest.raises(TypeError, match=r"from a new eqx\.nn\.State\(model\)"):
        jd.reestimate_statistics(lambda *_: None, None, [eqx.nn.State(layer)], BATCHES)


def test_a_model_in_evaluation_mode_is_refused():
    layer = nn.BatchNorm(use_running_average=True)

    def apply(params, batch_stats, batch):
        variables = {"params": params, "batch_stats": batch_stats}
        return layer.apply(variables, batch, mutable=["batch_stats"])[1]["batch_stats"]

    _, params, statistics = linen()
    with pytest.raises(
        ValueError, match=r"training mode, got .* without a change; pass train=True"
    ):
        jd.reestimate_statistics(apply, params, statistics, BATCHES)


def test_bad_arguments_are_named():
    apply, params, statistics = linen()
    with pytest.raises(TypeError, match="apply must be a function"):
        jd.reestimate_statistics(None, params, statistics, BATCHES)
    with pytest.raises(ValueError, match="batches must hold at least one batch"):
        jd.reestimate_statistics(apply, params, statistics, [])
    with pytest.raises(ValueError, match="apply must return a model state like model_state"):
        jd.reestimate_statistics(lambda *_: None, params, statistics, BATCHES)
