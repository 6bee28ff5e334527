"""The residual network equals the published one, and each agent keeps its own statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxdescent as jd
from experiments.models.counting import parameter_count
from experiments.models.resnet import ResNet, shortcut
from tests.experiments.models import zoo

IMAGES = np.random.default_rng(0).normal(size=(4, 6, 6, 2)).astype(np.float32)


def make_model(**given):
    return ResNet(8, channels=2, classes=3, momentum=0.7, **given)


@pytest.fixture(scope="module")
def small():
    return zoo.build(make_model)


@pytest.mark.parametrize(
    ("depth", "published", "exact"),
    [
        (20, 0.27, 269_722),
        (32, 0.46, 464_154),
        (44, 0.66, 658_586),
        (56, 0.85, 853_018),
        (110, 1.7, 1_727_962),
    ],
)
def test_the_parameter_count_is_the_published_one(depth, published, exact):
    count = parameter_count(zoo.shape_of(lambda **given: ResNet(depth, **given)))
    assert count == exact
    assert round(count / 1e6, 1 if published > 1 else 2) == published


def test_the_shortcut_takes_every_second_pixel_and_pads_with_zeros():
    x = np.arange(1.0, 1 + 2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
    y = np.asarray(shortcut(x, 6, 2))
    np.testing.assert_array_equal(y[..., :3], x[:, ::2, ::2])
    np.testing.assert_array_equal(y[..., 3:], np.zeros((2, 2, 2, 3)))
    np.testing.assert_array_equal(shortcut(x, 3, 1), x)


def convolved(x, kernel, stride):
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = np.arange(0, x.shape[1] - 2, stride)
    return np.stack(
        [
            np.stack([np.tensordot(x[:, i : i + 3, j : j + 3], kernel, 3) for j in rows], axis=1)
            for i in rows
        ],
        axis=1,
    )


def reference(state, x, *, train):
    """Logits and running statistics in float64."""
    after = []

    def normed(x, layer, stride=1):
        y = convolved(x, layer["convolution"]["kernel"], stride)
        norm = layer["norm"]
        mean, var = norm["mean"], norm["var"]
        if train:
            mean, var = y.mean((0, 1, 2)), y.var((0, 1, 2))
            after.append((0.7 * norm["mean"] + 0.3 * mean, 0.7 * norm["var"] + 0.3 * var))
        return (y - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]

    x = np.maximum(normed(x, state["stem"]), 0)
    for i, (width, stride) in enumerate([(16, 1), (32, 2), (64, 2)]):
        block = state["blocks"][i]
        y = normed(np.maximum(normed(x, block["first"], stride), 0), block["second"])
        identity = np.zeros_like(y)
        identity[..., : x.shape[-1]] = x[:, ::stride, ::stride]
        assert y.shape[-1] == width
        x = np.maximum(identity + y, 0)
    return x.mean((1, 2)) @ state["head"]["kernel"] + state["head"]["bias"], after


def applied(split, x, *, train):
    model = nnx.view(split.merge(), use_running_average=not train)
    return zoo.run(*nnx.split(model), x)


@pytest.mark.parametrize("train", [True, False])
def test_the_forward_pass_equals_the_paper(small, train):
    logits, state = applied(small, IMAGES, train=train)
    expected, statistics = reference(
        zoo.float64(small.state), IMAGES.astype(np.float64), train=train
    )
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
    if not train:
        jax.tree.map(np.testing.assert_array_equal, state, small.state)
        return
    norms = [state["stem"]["norm"]]
    norms += [state["blocks"][i][part]["norm"] for i in range(3) for part in ("first", "second")]
    for norm, (mean, var) in zip(norms, statistics, strict=True):
        np.testing.assert_allclose(norm["mean"][...], mean, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(norm["var"][...], var, rtol=1e-4, atol=1e-4)


def test_weights_have_the_variance_of_he_and_norms_are_initially_the_identity():
    state = zoo.float64(zoo.initialized(lambda **given: ResNet(8, **given)).state)
    kernel = state["blocks"][2]["second"]["convolution"]["kernel"]
    np.testing.assert_allclose(kernel.var(), 2 / (9 * 64), rtol=0.03)
    # A truncated normal would stop at two deviations.
    assert np.abs(kernel).max() > 3 * kernel.std()
    norm = state["stem"]["norm"]
    for name, start in {"scale": 1, "bias": 0, "mean": 0, "var": 1}.items():
        np.testing.assert_array_equal(norm[name], np.full(16, start))


def test_a_population_of_towers_trains_with_separate_statistics(small):
    """Two agents under vmap, in a scan over batches, equal each agent alone."""
    batches = np.random.default_rng(1).normal(size=(2, 4, 6, 6, 2)).astype(np.float32)
    tx = jd.hypergradient(optax.sgd, optax.sgd(1e-3), tune={"learning_rate": 1e-3})
    agents = [
        nnx.split_state(split.state, nnx.Param, nnx.BatchStat)
        for split in (small, zoo.build(make_model, seed=1))
    ]

    def loss(params, statistics, images):
        model = nnx.merge(small.graph, params, statistics, copy=True)
        return jnp.square(model(images)).mean(), nnx.state(model, nnx.BatchStat)

    def step(carry, images):
        params, statistics, state = carry
        grads, statistics = jax.grad(loss, has_aux=True)(params, statistics, images)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), statistics, state), None

    def train(params, statistics):
        carry = params, statistics, tx.init(params)
        params, statistics, state = jax.lax.scan(step, carry, batches)[0]
        return params, statistics, jd.get_hyperparams(state)

    population = (zoo.stacked(*parts) for parts in zip(*agents, strict=True))
    together = jax.jit(jax.vmap(train))(*population)
    alone = [jax.jit(train)(*agent) for agent in agents]
    for i, agent in enumerate(alone):
        zoo.assert_row(together, i, agent, rtol=1e-3, atol=1e-4)
    for part in (1, 2):
        one, other = (jax.tree.leaves(agent[part]) for agent in alone)
        assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_statistics_are_float32_with_bfloat16_computation():
    """At 1000, bfloat16 has steps of 4."""
    split = zoo.build(make_model, dtype=jnp.bfloat16)
    split.state["stem"]["norm"]["mean"] = nnx.BatchStat(jnp.full(16, 1001.0))
    _, after = applied(split, IMAGES, train=True)
    mean = after["stem"]["norm"]["mean"][...]
    assert mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, 700.7, atol=0.5)
    assert len(np.unique(mean)) == 16


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"depth": 21}, r"depth must be 6n \+ 2 with n in \[1, inf\), got 21"),
        ({"depth": 2}, r"depth must be 6n \+ 2 with n in \[1, inf\), got 2"),
        ({"channels": 0}, r"channels must be in \[1, inf\), got 0"),
        ({"classes": -1}, r"classes must be in \[1, inf\), got -1"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1\.0"),
    ],
)
def test_bad_arguments_raise(given, message):
    with pytest.raises(ValueError, match=message):
        zoo.shape_of(lambda **rest: ResNet(**given, **rest))
