"""Random directions have the norms of the network's filters, at every scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdescent as jd
from tests.landscape import networks

KEY = jax.random.key(3)


def test_each_filter_has_the_norm_of_the_same_filter_in_the_network():
    draw = np.random.default_rng(0)
    params = {
        "conv": jnp.asarray(draw.normal(size=(3, 3, 4, 6)), jnp.float32),
        "dense": jnp.asarray(draw.normal(size=(7, 5)), jnp.float32),
    }
    for direction in jd.landscape.random_directions(KEY, params, 3):
        for name, axes in {"conv": (0, 1, 2), "dense": 0}.items():
            norms = np.linalg.norm(np.reshape(params[name], (-1, params[name].shape[-1])), axis=0)
            found = np.sqrt(np.sum(np.square(direction[name]), axis=axes))
            np.testing.assert_allclose(found, norms, rtol=1e-6)


def test_directions_are_independent_and_reproducible_from_a_key():
    params = {"a": jnp.ones((40, 30)), "b": jnp.ones((40, 30))}
    u, v = jd.landscape.random_directions(KEY, params)
    again, _ = jd.landscape.random_directions(KEY, params)
    np.testing.assert_array_equal(u["a"], again["a"])
    for one, other in ((u["a"], v["a"]), (u["a"], u["b"])):
        cosine = jnp.sum(one * other) / jnp.linalg.norm(one) / jnp.linalg.norm(other)
        assert abs(cosine) < 0.15  # 1200 numbers: a standard deviation of 0.03


@pytest.mark.parametrize(("biases", "norm"), [("zero", 0.0), ("scaled", 5.0)])
def test_leaves_with_one_axis_are_fixed_or_scaled_as_a_whole(biases, norm):
    params = {"kernel": jnp.ones((3, 2)), "bias": jnp.array([3.0, 4.0]), "gain": jnp.array(5.0)}
    (u,) = jd.landscape.random_directions(KEY, params, 1, biases=biases)
    assert float(jnp.linalg.norm(u["bias"])) == pytest.approx(norm)
    assert abs(float(u["gain"])) == pytest.approx(norm)


def test_filter_axes_can_differ_between_leaves():
    params = {"rows": jnp.arange(1.0, 13).reshape(3, 4), "heads": jnp.ones((5, 2, 3))}
    axes = {"['rows']": 0, "['heads']": (-2, -1)}
    (u,) = jd.landscape.random_directions(KEY, params, 1, filter_axes=axes.__getitem__)
    norms = np.linalg.norm(params["rows"], axis=1)
    np.testing.assert_allclose(np.linalg.norm(u["rows"], axis=1), norms, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(u["heads"], axis=0), np.sqrt(5.0), rtol=1e-6)


def test_a_filter_that_is_zero_in_direction_or_params_gives_zero():
    params = {"kernel": jnp.ones((3, 2)).at[:, 0].set(0)}
    direction = {"kernel": jnp.ones((3, 2)).at[:, 1].set(0)}
    found = jd.landscape.filter_normalized(direction, params)["kernel"]
    np.testing.assert_array_equal(found, np.zeros((3, 2)))


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_norms_do_not_overflow_or_underflow(size):
    params = {"kernel": jnp.full((4, 1), size)}
    found = jd.landscape.filter_normalized({"kernel": jnp.ones((4, 1))}, params)["kernel"]
    np.testing.assert_allclose(found, size, rtol=1e-6)


def values(params, loss=networks.loss, batch=None, **options):
    directions = jd.landscape.random_directions(KEY, params, **options)
    x = np.linspace(-1, 1, 5)
    found = jd.landscape.plane(loss, params, directions, batch or networks.batch(), x=x)
    return np.asarray(found.values)


@pytest.mark.parametrize("factor", [0.03, 3.7, 300.0])
def test_a_rescaled_relu_network_has_the_same_plane(factor):
    """The values range from 1 to 4; without normalization they differ by more than 0.1."""
    params = networks.params()
    plain, rescaled = values(params), values(networks.rescaled(params, factor))
    np.testing.assert_allclose(rescaled, plain, rtol=0, atol=1e-5)


def test_without_normalization_a_rescaled_network_has_another_plane():
    params, x = networks.params(), np.linspace(-1, 1, 5)
    keys = jax.random.split(KEY, 2)
    gaussian = [jax.tree.map(lambda p, k=k: jax.random.normal(k, p.shape), params) for k in keys]
    planes = [
        jd.landscape.plane(networks.loss, each, gaussian, networks.batch(), x=x).values
        for each in (params, networks.rescaled(params, 3.7))
    ]
    assert float(jnp.max(jnp.abs(planes[0] - planes[1]))) > 0.1


class Normalized(nnx.Module):
    """A convolution, a batch normalization and a linear layer."""

    def __init__(self, *, rngs):
        self.conv = nnx.Conv(1, 4, (3,), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.out = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.norm(self.conv(x))).mean(1))


@pytest.fixture(scope="module")
def normalized():
    """The parts of the network and data, with running statistics that fit the data."""
    model = Normalized(rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (16, 6, 1)) + 0.5
    graph, params, state = nnx.split(model, nnx.Param, ...)
    features = model.conv(x)
    state["norm"]["mean"][...] = features.mean((0, 1))
    state["norm"]["var"][...] = features.var((0, 1))
    return graph, params, state, x


def batch_norm_loss(graph, running):
    def loss(params, batch):
        state, x = batch
        model = nnx.merge(graph, params, state, copy=True)
        model.set_attributes(use_running_average=running, raise_if_not_found=False)
        return jnp.mean((model(x) - 1) ** 2)

    return loss


def test_batch_norm_scales_are_fixed_and_statistics_can_be_recomputed_or_fixed(normalized):
    graph, params, state, x = normalized
    u, _ = jd.landscape.random_directions(KEY, params)
    assert not np.any(u["norm"]["scale"][...])
    assert not np.any(u["norm"]["bias"][...])
    recomputed, held = (
        values(params, batch_norm_loss(graph, running), (state, x)) for running in (False, True)
    )
    assert recomputed[2, 2] == pytest.approx(
        held[2, 2], rel=1e-4
    )  # the statistics fit at the origin
    assert np.max(np.abs(recomputed - held)) > 1e-2  # and only there


def test_with_recomputed_statistics_the_scale_before_batch_norm_has_no_effect(normalized):
    graph, params, state, x = normalized
    loss = batch_norm_loss(graph, running=False)
    scaled = jax.tree.map(lambda leaf: leaf, params)
    scaled["conv"]["kernel"][...] = 50 * params["conv"]["kernel"][...]
    plain, other = (values(each, loss, (state, x)) for each in (params, scaled))
    np.testing.assert_allclose(other, plain, atol=2e-4)  # batch norm's epsilon is 1e-5


@pytest.mark.parametrize(
    ("params", "options", "words"),
    [
        ({"n": np.arange(3)}, {}, r"floating-point leaves, got int\d+ at params\['n'\]"),
        ({"w": np.ones((2, 2))}, {"count": 0}, "count must be an integer at least 1, got 0"),
        (
            {"w": np.ones((2, 2))},
            {"filter_axes": 2},
            r"params\['w'\] must be an integer in \[-2, 1\]",
        ),
        (
            {"w": np.ones((2, 2))},
            {"biases": "keep"},
            "biases must be 'zero' or 'scaled', got 'keep'",
        ),
        ({"w": np.ones(2)}, {}, "biases must be 'scaled' if all leaves"),
        ({}, {}, "params must hold at least one number"),
    ],
)
def test_bad_arguments_are_named(params, options, words):
    with pytest.raises(ValueError, match=words):
        jd.landscape.random_directions(KEY, params, **options)


def test_a_direction_of_another_shape_raises_instead_of_broadcasting():
    with pytest.raises(ValueError, match=r"shapes of the parameters, got \(1, 2\) for \(3, 2\)"):
        jd.landscape.filter_normalized({"w": np.ones((1, 2))}, {"w": np.ones((3, 2))})


def test_directions_of_bfloat16_parameters_are_float32():
    params = {"w": jnp.ones((3, 2), jnp.bfloat16)}
    with jax.numpy_dtype_promotion("strict"):
        u, _ = jd.landscape.random_directions(KEY, params)
    assert u["w"].dtype == jnp.float32
