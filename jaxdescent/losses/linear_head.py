"""Cross entropy of a linear layer, without its logits.

For n examples and a vocabulary of V the logits are n V numbers, and their gradient as many
again; both are needed for one chunk of examples at a time only. With logits x = f W + b,
p = softmax(x), label y and what an example counts for, c:

    loss = c (log sum exp x - x_y),   dx = c (p - e_y),   df = dx W^T,   dW = sum f^T dx,

so that the gradients can be formed where the logits are, in the forward pass; the backward
pass multiplies them by one number. Nothing is computed twice.

Source: the idea of forming the gradients early is that of P.-L. Hsu et al., "Liger Kernel",
2024, arXiv:2410.10989.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent.losses import arguments
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
    """The mean softmax cross entropy of a linear layer's outputs, which are never all built.

    As `masked_mean(cross_entropy(features @ kernel + bias, labels))`, in the memory of the
    gradients and a chunk of logits. It is a mean because its gradients are formed in the
    forward pass: for one number they are known up to a factor. Reverse mode only.

    Args:
      features: `f32[..., d]`.
      kernel: `f32[d, classes]`, as in `flax.nnx.Linear`.
      labels: `int[...]` in [0, classes).
      bias: `f32[classes]`.
      ignore_index: a label whose examples are left out, in range or not.
      where: `bool[...]`, the examples to include.
      chunk_size: how many examples have logits at a time, at least 1. Each chunk adds to the
        whole gradient of the kernel, so that small ones take longer.

    Returns:
      The mean over the examples that are included, `f32[]`, in nats; 0 if none is. Logits and
      sums are in float32 also for half precision, products in the arguments' own.

    Raises:
      TypeError: an argument is not real, labels are not integers, or `where` is not boolean.
      ValueError: a shape, a label that is known, or the chunk's size is not as it must be. In
        compiled code a label out of range makes the loss NaN; its example has no gradient.

    Example:
      >>> features, kernel = jnp.ones((3, 2)), jnp.zeros((2, 4))
      >>> loss = linear_cross_entropy(features, kernel, jnp.array([0, 3, 9]), ignore_index=9)
      >>> round(float(loss), 4)
      1.3863
    """
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(f"chunk_size must be an integer of at least 1, got {chunk_size!r}")
    features, kernel = jnp.asarray(features), jnp.asarray(kernel)
    for name, array in {"features": features, "kernel": kernel}.items():
        arguments.floats(**{name: array})
    width = arguments.last_axis("features", features)
    if kernel.ndim != 2 or kernel.shape[0] != width or not kernel.shape[1]:
        raise ValueError(
            f"kernel must have the shape ({width}, classes), features' last axis first, "
            f"got {kernel.shape}"
        )
    shape, classes = features.shape[:-1], kernel.shape[1]
    if bias is not None:
        (bias,) = arguments.floats(bias=bias)
        arguments.same_shape("bias", bias, "kernel's last axis", (classes,))
    if where is not None:
        where = arguments.mask(where, shape)
    rows, sound, ignored = integer_labels.checked(
        labels, "features without its last axis", shape, classes, where, ignore_index
    )
    left = jnp.ones(shape, bool) if where is None else where
    if ignored is not None:
        left &= ~ignored
    vectors = keep(left[..., None], features).reshape(-1, width)
    counted = (left & sound).reshape(-1)
    total = _total(chunk_size, vectors, kernel, bias, rows.reshape(-1), counted)
    mean = total / jnp.maximum(jnp.sum(left, dtype=total.dtype), 1)
    return mean + jnp.where(jnp.all(sound | ~left), 0, jnp.nan)


class _Examples(NamedTuple):
    """Features `f32[n, d]`, labels `i32[n]`, and which count, `bool[n]`."""

    features: jax.Array
    labels: jax.Array
    counted: jax.Array

    def in_chunks(self, size: int) -> "_Examples":
        """These, `[chunks, size, ...]`, filled up with examples that do not count."""
        count = max(1, -(-len(self.labels) // size))

        def split(x: jax.Array) -> jax.Array:
            missing = count * size - len(x)
            filled = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
            return filled.reshape(count, size, *x.shape[1:])

        return jax.tree.map(split, self)


class _Chunk(NamedTuple):
    """The losses of a chunk's examples, and the shifted logits and their normalizers."""

    losses: jax.Array
    logits: jax.Array
    normalizers: jax.Array


def _of_chunk(examples: _Examples, kernel: jax.Array, bias: jax.Array | None) -> _Chunk:
    dtype = jnp.promote_types(jnp.result_type(examples.features, kernel), jnp.float32)
    logits = jnp.matmul(examples.features, kernel, preferred_element_type=dtype)
    logits = logits if bias is None else logits + bias
    logits = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    normalizers = jnp.log(jnp.sum(jnp.exp(logits), axis=-1))
    of_labels = jnp.take_along_axis(logits, examples.labels[:, None], axis=-1)[:, 0]
    return _Chunk(keep(examples.counted, normalizers - of_labels), logits, normalizers)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _total(
    size: int, features: Any, kernel: Any, bias: Any, labels: Any, counted: Any
) -> jax.Array:
    """The sum of the losses of the examples that count."""
    chunks = _Examples(features, labels, counted).in_chunks(min(size, max(1, len(labels))))
    of_one = lambda chunk: jnp.sum(_of_chunk(chunk, kernel, bias).losses)
    return jnp.sum(jax.lax.map(of_one, chunks))


def _forward(
    size: int, features: Any, kernel: Any, bias: Any, labels: Any, counted: Any
) -> tuple[jax.Array, Any]:
    """The sum, and its gradients."""
    chunks = _Examples(features, labels, counted).in_chunks(min(size, max(1, len(labels))))

    def step(carry: Any, chunk: _Examples) -> tuple[Any, jax.Array]:
        total, of_kernel, of_bias = carry
        losses, logits, normalizers = _of_chunk(chunk, kernel, bias)
        at_label = jnp.arange(kernel.shape[1], dtype=jnp.int32) == chunk.labels[:, None]
        slopes = jnp.exp(logits - normalizers[:, None]) - at_label
        slopes = keep(chunk.counted[:, None], slopes)
        narrow = slopes.astype(jnp.result_type(chunk.features, kernel))
        product = partial(jnp.matmul, preferred_element_type=slopes.dtype)
        of_kernel = of_kernel + product(chunk.features.T, narrow)
        of_bias = None if bias is None else of_bias + jnp.sum(slopes, axis=0)
        of_features = product(narrow, kernel.T).astype(features.dtype)
        return (total + jnp.sum(losses), of_kernel, of_bias), of_features

    dtype = jnp.promote_types(jnp.result_type(features, kernel), jnp.float32)
    zeros: Any = lambda like: None if like is None else jnp.zeros(like.shape, dtype)
    start = jnp.zeros((), dtype), zeros(kernel), zeros(bias)
    (total, of_kernel, of_bias), of_features = jax.lax.scan(step, start, chunks)
    of_features = of_features.reshape(-1, features.shape[1])[: len(features)]
    of_bias = None if bias is None else of_bias.astype(bias.dtype)
    return total, (of_features, of_kernel.astype(kernel.dtype), of_bias)


def _backward(_: int, gradients: Any, cotangent: jax.Array) -> tuple[Any, ...]:
    scaled = jax.tree.map(lambda g: (cotangent * g).astype(g.dtype), gradients)
    return *scaled, None, None


_total.defvjp(_forward, _backward)
