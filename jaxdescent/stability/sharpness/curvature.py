"""Products with the Hessian or the Gauss-Newton matrix of a loss, over flat vectors.

    H v = d/de grad L(w + e v)         the derivative of the gradient along v
    G v = J^T (H_out (J v))            J of the model, H_out of the loss at its outputs

The gradient (or the model) is linearized once, and a product evaluates only the linear part. With
microbatches each product linearizes again, which saves memory. The vectors are flat and at least
float32. Matrix multiplications use the highest precision, because the lower default of GPUs
and TPUs hides small residuals.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import numerics, validation

Product = Callable[[jax.Array], jax.Array]


class Layout(NamedTuple):
    """Layout of a pytree in a flat vector.

    Attributes:
      structure: the pytree's structure.
      leaves: a `jax.ShapeDtypeStruct` for each leaf.
      dtype: dtype of the flat vector.
    """

    structure: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    dtype: Any

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(leaf.size for leaf in self.leaves)

    def flat(self, tree: Any) -> jax.Array:
        """Flattens a pytree of this structure to f[size]."""
        leaves = self.structure.flatten_up_to(tree)
        return jnp.concatenate([jnp.ravel(leaf).astype(self.dtype) for leaf in leaves])

    def tree(self, flat: jax.Array, *, dtype: Any = None) -> Any:
        """Unflattens f[size] to the pytree, in the dtypes of its leaves or in `dtype`."""
        ends = np.cumsum([leaf.size for leaf in self.leaves])[:-1]
        parts = jnp.split(flat, ends)
        return self.structure.unflatten(
            part.reshape(leaf.shape).astype(dtype or leaf.dtype)
            for part, leaf in zip(parts, self.leaves, strict=True)
        )


def layout(params: Any) -> Layout:
    """Returns the layout of parameters.

    Raises:
      ValueError: there are no parameters, or a leaf is not real floating-point.
    """
    validation.check_floating("params", params, "pass only trained parameters")
    arrays, structure = jax.tree.flatten(params)
    leaves = tuple(jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in arrays)
    if not sum(leaf.size for leaf in leaves):
        raise ValueError("params must hold at least one number, got none")
    return Layout(structure, leaves, numerics.widest_float(leaves))


def microbatches(batch: Any, number: int) -> Any:
    """Splits a batch: reshapes every leaf from [n, ...] to [number, n / number, ...].

    Raises:
      ValueError: the length of a leaf is not a multiple of the number.
    """
    if not jax.tree.leaves(batch):
        raise ValueError(f"num_microbatches must be 1 without a batch, got {number}")

    def split(path: Any, leaf: Any) -> jax.Array:
        shape = jnp.shape(leaf)
        if not shape or shape[0] % number:
            raise ValueError(
                "num_microbatches must divide the leading axis of every leaf of batch, got "
                f"{number} for shape {shape} at batch{jax.tree_util.keystr(path)}"
            )
        return jnp.reshape(leaf, (number, shape[0] // number, *shape[1:]))

    return jax.tree_util.tree_map_with_path(split, batch)


def product(
    loss_fn: Callable[..., jax.Array],
    model_fn: Callable[..., Any] | None,
    params: Any,
    batch: Any,
    flat: Layout,
    num_microbatches: int = 1,
) -> Product:
    """Returns the function v -> H v, or v -> G v if there is a `model_fn`, over f[size]."""

    def linear(batch: Any) -> Product:
        if model_fn is None:
            linearized = _hessian(loss_fn, params, batch)
        else:
            linearized = _gauss_newton(loss_fn, model_fn, params, batch)
        return lambda vector: flat.flat(linearized(flat.tree(vector)))

    if num_microbatches == 1:
        return linear(batch)
    parts = microbatches(batch, num_microbatches)

    def mean_product(vector: jax.Array) -> jax.Array:
        def add(total: jax.Array, part: Any) -> tuple[jax.Array, None]:
            return total + linear(part)(vector), None

        return jax.lax.scan(add, jnp.zeros_like(vector), parts)[0] / num_microbatches

    return mean_product


def preconditioned(matvec: Product, preconditioner: jax.Array) -> Product:
    """Returns the function v -> P^-1/2 A P^-1/2 v."""
    scale = jax.lax.rsqrt(preconditioner)
    return lambda vector: scale * matvec(scale * vector)


def _hessian(loss_fn: Any, params: Any, batch: Any) -> Callable[[Any], Any]:
    with jax.default_matmul_precision("highest"):
        return jax.linearize(lambda w: jax.grad(loss_fn)(w, batch), params)[1]


def _gauss_newton(loss_fn: Any, model_fn: Any, params: Any, batch: Any) -> Callable[[Any], Any]:
    with jax.default_matmul_precision("highest"):
        outputs, forward = jax.linearize(lambda w: model_fn(w, batch), params)
        backward = jax.linear_transpose(forward, params)
        curve = jax.linearize(lambda out: jax.grad(loss_fn)(out, batch), outputs)[1]
    return lambda vector: backward(curve(forward(vector)))[0]


def scale(matvec: Product, key: jax.Array, flat: Layout) -> tuple[jax.Array, jax.Array]:
    """Returns the magnitude of a matrix A, from one product, and a start vector for Lanczos.

    The magnitude is max |A v| sqrt(n) for a random unit v, or 1 if that is 0. Divided by it, a
    matrix of any scale has squares that neither underflow nor overflow. The start vector is v plus
    A v / |A v| / 2, a random vector turned toward the large eigenvalues of A.
    """
    vector = jax.random.normal(key, (flat.size,), flat.dtype)
    vector /= jnp.linalg.norm(vector)
    image = matvec(vector)
    size = jnp.max(jnp.abs(image)) * flat.size**0.5
    size = jnp.where(jnp.isfinite(size) & (size > 0), size, jnp.ones_like(size))
    image = image / size
    norm = jnp.linalg.norm(image)
    return size, vector + jnp.where(norm > 0, image / jnp.where(norm > 0, 2 * norm, 1), 0)
