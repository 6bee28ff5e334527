"""Cross entropy of a linear layer, without storing its logits.

For n examples and V classes, the logits and their gradient have n V entries each. This
implementation holds both for one chunk of examples at a time. With logits x = f W + b,
p = softmax(x), label y and example weight c:

    loss = c (log sum exp x - x_y),   dx = c (p - e_y),   df = dx W^T,   dW = sum f^T dx

The gradients are computed in the forward pass, while the logits of a chunk are in memory. The
backward pass multiplies them by the cotangent, a scalar. Nothing is recomputed.

Source: P.-L. Hsu et al., "Liger Kernel", 2024, arXiv:2410.10989, for gradients in the forward
pass.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.losses import arguments, limits
from jaxdescent.losses import labels as integer_labels
from jaxdescent.losses.masking import keep


def linear_cross_entropy(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    ignore_index: int | None = None,
    where: ArrayLike | None = None,
    chunk_size: int = 1024,
) -> jax.Array:
    """Computes the mean softmax cross entropy of a linear layer without storing all logits.

    Equals `masked_mean(cross_entropy(features @ kernel + bias, labels))`, in the memory of the
    gradients and one chunk of logits. It returns a mean because gradients are computed in the
    forward pass, where the gradients of a scalar are known up to a factor. Reverse mode only.

    Args:
      features: `f32[..., d]`.
      kernel: `f32[d, classes]`, as in `flax.nnx.Linear`.
      labels: `int[...]` in [0, classes).
      bias: `f32[classes]`.
      ignore_index: a label whose examples are excluded; may be out of range.
      where: `bool[...]`, the examples to include.
      chunk_size: the number of examples whose logits are in memory, at least 1. Small chunks
        are slower, as each chunk updates the full gradient of the kernel.

    Returns:
      The mean over the included examples, `f32[]`, in nats; 0 if all are excluded. For half
      precision, logits and sums are in float32, and the factors of products stay as given.

    Raises:
      TypeError: an argument is not real, labels are not integers, or `where` is not boolean.
      ValueError: a shape is wrong, or a concrete label or the chunk size is out of range. In
        compiled code, a label out of range makes the loss NaN, and its example has gradient 0.

    Example:
      >>> features, kernel = jnp.ones((3, 2)), jnp.zeros((2, 4))
      >>> loss = linear_cross_entropy(features, kernel, jnp.array([0, 3, 9]), ignore_index=9)
      >>> round(float(loss), 4)
      1.3863
    """
    chunk_size = validation.integer_in("chunk_size", chunk_size, 1)
    features, kernel = jnp.asarray(features), jnp.asarray(kernel)
    for name, array in {"features": features, "kernel": kernel}.items():
        arguments.as_floats(**{name: array})
    width = arguments.last_axis_size("features", features)
    if kernel.ndim != 2 or kernel.shape[0] != width or not kernel.shape[1]:
        raise ValueError(
            f"kernel must have shape ({width}, classes), where {width} is the last axis of "
            f"features, got {kernel.shape}"
        )
    shape, classes = features.shape[:-1], kernel.shape[1]
    if bias is not None:
        (bias,) = arguments.as_floats(bias=bias)
        arguments.check_shape("bias", bias, "kernel's last axis", (classes,))
    if where is not None:
        where = arguments.as_mask(where, shape)
    rows, valid, ignored = integer_labels.check_labels(
        labels, "features without its last axis", shape, classes, where, ignore_index
    )
    included = jnp.ones(shape, bool) if where is None else where
    if ignored is not None:
        included &= ~ignored
    vectors = keep(included[..., None], features).reshape(-1, width)
    counted = (included & valid).reshape(-1)
    total = _total(chunk_size, vectors, kernel, bias, rows.reshape(-1), counted)
    mean = total / jnp.maximum(jnp.sum(included, dtype=total.dtype), 1)
    return mean + jnp.where(jnp.all(valid | ~included), 0, jnp.nan)


class _Examples(NamedTuple):
    """Features `f32[n, d]`, labels `i32[n]`, and which examples are counted, `bool[n]`."""

    features: jax.Array
    labels: jax.Array
    counted: jax.Array

    def in_chunks(self, size: int) -> "_Examples":
        """Splits the examples into `[chunks, size, ...]`, padded with uncounted ones."""
        count = max(1, -(-len(self.labels) // size))

        def split(x: jax.Array) -> jax.Array:
            missing = count * size - len(x)
            filled = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
            return filled.reshape(count, size, *x.shape[1:])

        return jax.tree.map(split, self)


class _Chunk(NamedTuple):
    """The losses of a chunk's examples, and their shifted logits and normalizers."""

    losses: jax.Array
    logits: jax.Array
    normalizers: jax.Array


def _evaluate_chunk(examples: _Examples, kernel: jax.Array, bias: jax.Array | None) -> _Chunk:
    dtype = jnp.promote_types(jnp.result_type(examples.features, kernel), jnp.float32)
    logits = jnp.matmul(examples.features, kernel, preferred_element_type=dtype)
    logits = logits if bias is None else logits + bias
    logits = limits.subtract(logits, jnp.max(logits, axis=-1, keepdims=True))
    normalizers = jnp.log(jnp.sum(jnp.exp(logits), axis=-1))
    of_labels = jnp.take_along_axis(logits, examples.labels[:, None], axis=-1)[:, 0]
    return _Chunk(keep(examples.counted, normalizers - of_labels), logits, normalizers)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _total(
    size: int, features: Any, kernel: Any, bias: Any, labels: Any, counted: Any
) -> jax.Array:
    """Returns the sum of the losses of the counted examples."""
    chunks = _Examples(features, labels, counted).in_chunks(min(size, max(1, len(labels))))

    def sum_of_chunk(chunk: _Examples) -> jax.Array:
        return jnp.sum(_evaluate_chunk(chunk, kernel, bias).losses)

    return jnp.sum(jax.lax.map(sum_of_chunk, chunks))


def _forward(
    size: int, features: Any, kernel: Any, bias: Any, labels: Any, counted: Any
) -> tuple[jax.Array, Any]:
    """Returns the sum of the losses and its gradients."""
    chunks = _Examples(features, labels, counted).in_chunks(min(size, max(1, len(labels))))

    def step(carry: Any, chunk: _Examples) -> tuple[Any, jax.Array]:
        total, kernel_grad, bias_grad = carry
        losses, logits, normalizers = _evaluate_chunk(chunk, kernel, bias)
        at_label = jnp.arange(kernel.shape[1], dtype=jnp.int32) == chunk.labels[:, None]
        slopes = jnp.exp(logits - normalizers[:, None]) - at_label
        slopes = keep(chunk.counted[:, None], slopes)
        narrow = slopes.astype(jnp.result_type(chunk.features, kernel))
        product = partial(jnp.matmul, preferred_element_type=slopes.dtype)
        kernel_grad = kernel_grad + product(chunk.features.T, narrow)
        bias_grad = None if bias is None else bias_grad + jnp.sum(slopes, axis=0)
        feature_grads = product(narrow, kernel.T).astype(features.dtype)
        return (total + jnp.sum(losses), kernel_grad, bias_grad), feature_grads

    dtype = jnp.promote_types(jnp.result_type(features, kernel), jnp.float32)
    bias_zeros: Any = None if bias is None else jnp.zeros(bias.shape, dtype)
    start = jnp.zeros((), dtype), jnp.zeros(kernel.shape, dtype), bias_zeros
    (total, kernel_grad, bias_grad), feature_grads = jax.lax.scan(step, start, chunks)
    feature_grads = feature_grads.reshape(-1, features.shape[1])[: len(features)]
    bias_grad = None if bias is None else bias_grad.astype(bias.dtype)
    return total, (feature_grads, kernel_grad.astype(kernel.dtype), bias_grad)


def _backward(_: int, gradients: Any, cotangent: jax.Array) -> tuple[Any, ...]:
    scaled = jax.tree.map(lambda g: (cotangent * g).astype(g.dtype), gradients)
    return *scaled, None, None


_total.defvjp(_forward, _backward)
