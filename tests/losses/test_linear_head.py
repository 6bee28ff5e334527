"""The cross entropy of a linear layer equals the cross entropy of its logits, in less memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent.losses import cross_entropy, linear_cross_entropy, masked_mean
from tests.compiling import compiled

RNG = np.random.default_rng(0)
FEATURES, KERNEL, BIAS = RNG.normal(size=(2, 5, 3)), RNG.normal(size=(3, 7)), RNG.normal(size=7)
LABELS = RNG.integers(0, 7, size=(2, 5))
WHERE = RNG.random((2, 5)) < 0.7


def reference(features, kernel, bias, where=None, ignore_index=None):
    logits = features @ kernel + (0 if bias is None else bias)
    losses = cross_entropy(logits, LABELS, where=where, ignore_index=ignore_index)
    included = np.full(LABELS.shape, True) if where is None else where
    if ignore_index is not None:
        included = included & (ignore_index != LABELS)
    return masked_mean(losses, included)


@pytest.mark.parametrize("chunk_size", [3, 1024])
@pytest.mark.parametrize("bias", [None, BIAS], ids=["no bias", "bias"])
@pytest.mark.parametrize(
    "masks", [{}, {"where": WHERE}, {"ignore_index": 3, "where": WHERE}], ids=str
)
def test_value_and_gradients_equal_the_cross_entropy_of_the_logits(chunk_size, bias, masks):
    with jax.enable_x64(True):
        arguments = [jnp.asarray(FEATURES), jnp.asarray(KERNEL), bias]

        def head(f, k, b):
            return linear_cross_entropy(f, k, LABELS, bias=b, chunk_size=chunk_size, **masks)

        which = (0, 1) if bias is None else (0, 1, 2)

        def both(loss):
            return jax.jit(jax.value_and_grad(lambda *a: 3 * loss(*a), which))(*arguments)

        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12),
            both(head),
            both(partial(reference, **masks)),
        )
        np.testing.assert_allclose(head(*arguments), reference(*arguments, **masks), rtol=1e-12)


@pytest.mark.parametrize(("count", "chunk_size"), [(0, 1), (1, 4), (7, 3), (9, 9)])
def test_any_number_of_examples_works_with_any_chunk_size(count, chunk_size):
    features, labels = FEATURES.reshape(-1, 3)[:count], LABELS.reshape(-1)[:count]
    found = linear_cross_entropy(features, KERNEL, labels, chunk_size=chunk_size)
    expected = masked_mean(cross_entropy(features @ KERNEL, labels)) if count else 0
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_second_derivatives_equal_the_cross_entropy_of_the_logits():
    with jax.enable_x64(True):
        features = jnp.asarray(FEATURES)

        def head(k):
            return linear_cross_entropy(features, k, LABELS, chunk_size=4)

        def twice(loss):
            return jax.jacrev(jax.grad(loss))(jnp.asarray(KERNEL))

        expected = twice(lambda k: reference(features, k, None))
        np.testing.assert_allclose(twice(head), expected, atol=1e-12)


def test_each_matrix_product_is_computed_once():
    def loss(f, k):
        return linear_cross_entropy(f, k, LABELS)

    program = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(FEATURES, KERNEL))
    assert program.count("dot_general") == 3
    assert str(jax.make_jaxpr(loss)(FEATURES, KERNEL)).count("dot_general") == 1


def test_only_the_logits_of_one_chunk_are_in_memory():
    count, width, classes = 2048, 16, 2000
    features, labels = jnp.ones((count, width)), jnp.zeros(count, int)
    kernel = jnp.ones((width, classes))

    def plain(f, k):
        return jnp.mean(cross_entropy(f @ k, labels))

    head = partial(linear_cross_entropy, labels=labels, chunk_size=64)
    logits = 4 * count * classes

    def temporaries(loss):
        return (
            compiled(jax.grad(loss, (0, 1)), features, kernel).memory_analysis().temp_size_in_bytes
        )

    assert temporaries(plain) > logits
    assert temporaries(head) < logits / 10


def test_half_precision_keeps_its_dtype_and_sums_in_float32():
    features, kernel = (jnp.asarray(x, jnp.bfloat16) for x in (FEATURES, KERNEL))
    loss, (feature_grads, kernel_grad) = jax.value_and_grad(linear_cross_entropy, (0, 1))(
        features, kernel, LABELS
    )
    assert (loss.dtype, feature_grads.dtype, kernel_grad.dtype) == (
        jnp.float32,
        jnp.bfloat16,
        jnp.bfloat16,
    )
    wide = jax.grad(reference, 1)(jnp.float32(features), jnp.float32(kernel), None)
    np.testing.assert_allclose(jnp.float32(kernel_grad), wide, atol=0.01)


def test_vmap_over_agents_equals_separate_calls():
    kernels = jnp.stack([KERNEL, -KERNEL])
    slope = jax.grad(lambda k: linear_cross_entropy(FEATURES, k, LABELS, chunk_size=4))
    together = jax.vmap(slope)(kernels)
    np.testing.assert_allclose(together, [slope(k) for k in kernels], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_logits_have_finite_losses_and_gradients(scale):
    found = jax.value_and_grad(linear_cross_entropy, (0, 1))(scale * FEATURES, KERNEL, LABELS)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found))


def test_masked_examples_may_be_nan():
    features = np.where(WHERE[..., None], FEATURES, np.nan)
    slopes = jax.grad(linear_cross_entropy, (0, 1))
    bad, good = (slopes(f, KERNEL, LABELS, where=WHERE) for f in (features, FEATURES))
    jax.tree.map(np.testing.assert_array_equal, bad, good)


def test_in_compiled_code_a_label_out_of_range_makes_the_loss_nan():
    bad = jnp.asarray(LABELS).at[0, 0].set(7)
    loss, slopes = jax.jit(jax.value_and_grad(linear_cross_entropy))(FEATURES, KERNEL, bad)
    assert np.isnan(loss)
    others = np.full(LABELS.shape, True)
    others[0, 0] = False
    expected = jax.grad(linear_cross_entropy)(FEATURES, KERNEL, LABELS, where=others)
    np.testing.assert_allclose(slopes, 0.9 * expected, rtol=1e-5)


def test_the_loss_is_zero_if_every_example_is_excluded():
    nothing = np.full(LABELS.shape, False)
    assert linear_cross_entropy(FEATURES, KERNEL, LABELS, where=nothing) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chunk_size": 0}, "chunk_size must be an integer at least 1, got 0"),
        ({"chunk_size": 2.0}, r"chunk_size must be an integer at least 1, got 2\.0"),
        ({"kernel": KERNEL.T}, r"kernel must have shape \(3, classes\).*got \(7, 3\)"),
        ({"kernel": KERNEL[0]}, r"kernel must have shape \(3, classes\)"),
        ({"labels": LABELS[0]}, r"labels must have the shape of features without.*\(2, 5\)"),
        ({"labels": np.full((2, 5), 7)}, r"labels must be in \[0, 7\), got 7"),
        ({"bias": BIAS[:3]}, r"bias must have the shape of kernel's last axis, \(7,\), got \(3,\)"),
        ({"where": WHERE[0]}, r"where must have the shape \(2, 5\)"),
    ],
)
def test_bad_input_is_refused(changed, message):
    arguments = {"features": FEATURES, "kernel": KERNEL, "labels": LABELS, **changed}
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(**arguments)
