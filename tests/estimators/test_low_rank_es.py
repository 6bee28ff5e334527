"""Low-rank evolution strategies: equal to computing every member, in the memory of one."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdescent import estimators
from jaxdescent.estimators.evolution_strategies import centered_ranks
from jaxdescent.estimators.low_rank_es import sampler

KEY = jax.random.key(3)
IMAGES = np.random.default_rng(0).normal(size=(3, 5, 5, 2))
TOKENS = np.array([[0, 3, 1], [2, 2, 4]])


def perceptron(params, x):
    hidden = jnp.tanh(x @ params["w"] + params["b"])
    return jnp.mean((hidden @ params["v"] - 1) ** 2)


def plain_network():
    keys = jax.random.split(KEY, 2)
    w, v = jax.random.normal(keys[0], (4, 6)), jax.random.normal(keys[1], (6, 2))
    return {"w": w, "b": jnp.ones(6), "v": v}, lambda params: perceptron(
        params, IMAGES[0, :, :4, 0]
    )


def of_module(module, x):
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    def loss(params):
        return jnp.mean((nnx.merge(graph, params, rest)(jnp.asarray(x)) - 1) ** 2)

    return params, loss


def nnx_network():
    rngs = nnx.Rngs(0)
    kinds = {"rngs": rngs, "param_dtype": jnp.float64}
    layers = (
        nnx.Linear(2, 6, **kinds),
        jnp.tanh,
        nnx.LayerNorm(6, **kinds),
        nnx.Linear(6, 2, **kinds),
    )
    return of_module(nnx.Sequential(*layers), IMAGES)


def embedding():
    kinds = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
    embed = nnx.Embed(5, 4, **kinds)
    return of_module(nnx.Sequential(embed, nnx.silu, nnx.Linear(4, 3, **kinds)), TOKENS)


def convolution():
    kinds = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
    return of_module(nnx.Sequential(nnx.Conv(2, 3, (3, 3), **kinds), jnp.tanh), IMAGES)


NETWORKS = {f.__name__: f for f in (plain_network, nnx_network, embedding, convolution)}


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def perturbation(direction, shape):
    """Returns E in NumPy."""
    a, b = direction
    if b is None:
        return np.asarray(a)
    return (np.asarray(a) @ np.asarray(b).T / np.sqrt(a.shape[1])).reshape(shape)


def computed_members(loss, params, key, sigma, *, pairs, rank, use_ranks=False, scale=None):
    """Returns the estimate, with every member computed one by one."""
    leaves, structure = jax.tree.flatten(params)
    draw, loss = sampler(key, leaves, rank), jax.jit(loss)
    steps = [sigma] * len(leaves) if scale is None else [sigma * s for s in jax.tree.leaves(scale)]
    samples = [
        [perturbation(d, x.shape) for d, x in zip(draw(jnp.int32(i)), leaves, strict=True)]
        for i in range(pairs)
    ]

    def value(sample, sign):
        moved = [x + sign * h * e for x, h, e in zip(leaves, steps, sample, strict=True)]
        return float(loss(structure.unflatten(moved)))

    values = np.array([[value(sample, sign) for sample in samples] for sign in (1, -1)])
    if use_ranks:
        values = np.asarray(centered_ranks(jnp.asarray(values.ravel()))).reshape(2, -1)
    weights = (values[0] - values[1]) / 2
    grads = [
        np.mean([w * sample[j] / h for w, sample in zip(weights, samples, strict=True)], axis=0)
        for j, h in enumerate(steps)
    ]
    return structure.unflatten(grads)


def estimated(loss, params, sigma, num_samples=10, **settings):
    keywords = {k: settings.pop(k) for k in ("scale",) if k in settings}
    estimator = estimators.low_rank_es(num_samples=num_samples, **settings)
    return jax.jit(functools.partial(estimator.estimate, loss))(
        params, key=KEY, sigma=sigma, **keywords
    )


@pytest.mark.parametrize(
    ("network", "use_ranks"), [*((name, False) for name in NETWORKS), ("plain_network", True)]
)
def test_it_equals_computing_every_member(network, use_ranks, float64):
    """With a last chunk of one pair out of two."""
    params, loss = NETWORKS[network]()
    settings = {"rank": 2, "use_ranks": use_ranks}
    found = estimated(loss, params, 0.3, chunk_size=4, **settings)
    expected = computed_members(loss, params, KEY, 0.3, pairs=5, **settings)
    chex.assert_trees_all_close(found.grads, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.value, loss(params), rtol=1e-12)
    assert found.nonfinite == 0


def test_a_scale_of_each_parameter_computes_the_matrices(float64):
    params, loss = plain_network()
    scale = jax.tree.map(lambda x: 1 + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape), params)
    found = estimated(loss, params, 0.1, rank=2, scale=scale).grads
    expected = computed_members(loss, params, KEY, 0.1, pairs=5, rank=2, scale=scale)
    chex.assert_trees_all_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chunk_size", [2, 6, 64])
def test_the_chunk_size_does_not_change_the_estimate(chunk_size, float64):
    params, loss = plain_network()
    found = estimated(loss, params, 0.1, chunk_size=chunk_size).grads
    whole = estimated(loss, params, 0.1, chunk_size=10).grads
    chex.assert_trees_all_close(found, whole, rtol=1e-10, atol=1e-12)


def many_estimates(function, params, sigma, rank, keys=20_000):
    estimator = estimators.low_rank_es(sigma, 2, rank=rank)
    grads = estimator.value_and_grad(function)
    return jax.jit(jax.vmap(lambda key: grads(params, key=key)[1]))(jax.random.split(KEY, keys))


@pytest.mark.parametrize("rank", [1, 4])
def test_the_mean_is_the_closed_form_on_sines(rank, float64):
    """E cos(w + s E_ij) (B B')_jj / r = cos(w) (1 + s^2 / r)^-(r / 2 + 1)."""
    w, sigma = jnp.array([[0.3, -1.0, 0.0], [2.0, 0.7, -0.4]]), 1.5
    found = many_estimates(lambda w: jnp.sum(jnp.sin(w)), w, sigma, rank, keys=80_000)
    expected = np.cos(w) * (1 + sigma**2 / rank) ** -(rank / 2 + 1)
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert np.all(error < 0.011)
    assert np.all(np.abs(np.mean(found, axis=0) - expected) <= 3.5 * error)


@pytest.mark.parametrize("rank", [1, 3])
def test_mean_and_variance_are_the_closed_form_on_a_linear_function(rank, float64):
    """E (E_ij E_kl)^2 = (1 + 2 / r if i = k or j = l), and 3 + 6 / r for the same entry."""
    slopes = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    found = many_estimates(lambda w: jnp.sum(w * slopes), jnp.zeros((2, 3)), 0.1, rank, 200_000)
    squares = slopes**2
    rows, columns = squares.sum(1, keepdims=True), squares.sum(0, keepdims=True)
    more = 2 / rank * (rows + columns - 2 * squares) + (2 + 6 / rank) * squares
    variance = squares.sum() + more - squares
    error = np.sqrt(variance / len(found))
    assert np.all(np.abs(np.mean(found, axis=0) - slopes) <= 3.5 * error)
    np.testing.assert_allclose(np.var(found, axis=0), variance, rtol=0.1)


def test_a_pair_that_is_not_finite_is_left_out_and_counted(float64):
    params, loss = plain_network()
    first = sampler(KEY, jax.tree.leaves(params), 1)(jnp.int32(0))[0].a  # of the bias
    broken = params["b"] + 0.1 * first

    def breaks(params, bad):
        is_broken = jnp.max(jnp.abs(params["b"] - broken)) < 1e-9
        return loss(params) * jnp.where(is_broken, bad, 1.0)

    estimator = estimators.low_rank_es(0.1, 10, chunk_size=4)
    grads = jax.jit(lambda bad: estimator.estimate(lambda p: breaks(p, bad), params, key=KEY))
    whole = computed_members(loss, params, KEY, 0.1, pairs=5, rank=1)
    alone = computed_members(loss, params, KEY, 0.1, pairs=1, rank=1)
    expected = jax.tree.map(lambda x, y: (5 * x - y) / 4, whole, alone)
    for bad in (jnp.nan, jnp.inf):
        found = grads(bad)
        assert found.nonfinite == 1
        chex.assert_trees_all_close(found.grads, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("use_ranks", [False, True])
def test_without_a_finite_pair_the_gradient_is_nan(use_ranks):
    def never(w):
        return jnp.sum(w) * jnp.nan

    found = estimated(never, jnp.ones((2, 3)), 0.1, use_ranks=use_ranks)
    assert found.nonfinite == 5
    assert np.all(np.isnan(found.grads))


SIZES = (784, 1024, 256, 10)


def large_loss(params, x):
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return jnp.mean((x @ params[-1]["w"] + params[-1]["b"]) ** 2)


@functools.cache
def memory(num_samples):
    """Returns the memory of a compiled estimate of 1.07 million parameters, in copies of them."""
    float32 = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    params = [{"w": float32((m, n)), "b": float32((n,))} for m, n in itertools.pairwise(SIZES)]
    estimator = estimators.low_rank_es(0.1, num_samples, chunk_size=32)
    step = jax.jit(estimator.value_and_grad(large_loss))
    compiled = step.lower(params, float32((2, SIZES[0])), key=KEY).compile()
    analysis, copy = compiled.memory_analysis(), 4 * sum(x.size for x in jax.tree.leaves(params))
    assert copy > 4e6
    sizes = analysis.argument_size_in_bytes, analysis.output_size_in_bytes
    return [*(size / copy for size in sizes), analysis.temp_size_in_bytes / copy]


def test_memory_does_not_grow_with_the_number_of_samples():
    """One copy and the gradient; in between, the largest matrix of a sum and one chunk."""
    few, many = memory(64), memory(4096)
    np.testing.assert_allclose(few[:2], 1, atol=0.01)
    np.testing.assert_allclose(many[:2], 1, atol=0.01)
    assert max(few[2], many[2]) < 1.2
    assert many[2] - few[2] < 0.02  # values of 4096 samples
