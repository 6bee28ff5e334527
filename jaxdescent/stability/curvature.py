"""Products with the Hessian or the Gauss-Newton matrix of a loss, over flat vectors.

    H v = d/de grad L(w + e v)         the derivative of the gradient along v
    G v = J^T (H_out (J v))            J of the model, H_out of the loss at its outputs

The gradient (or the model) is linearized once; a product then costs only the linear part (of
microbatches all of it, to keep their memory small). The vectors are flat and float32 at least,
whatever the parameters are. Matrix products are made at the highest precision: the reduced one
that GPUs and TPUs default to hides small residuals.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation

Product = Callable[[jax.Array], jax.Array]


class Layout(NamedTuple):
    """How a pytree lies in a flat vector.

    Attributes:
      structure: of the pytree.
      leaves: a `jax.ShapeDtypeStruct` each.
      dtype: of the flat vector.
    """

    structure: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    dtype: Any

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(leaf.size for leaf in self.leaves)

    def flat(self, tree: Any) -> jax.Array:
        """From a pytree of this structure to f[size]."""
        leaves = self.structure.flatten_up_to(tree)
        return jnp.concatenate([jnp.ravel(leaf).astype(self.dtype) for leaf in leaves])

    def tree(self, flat: jax.Array, *, dtype: Any = None) -> Any:
        """From f[size] to the pytree, in the leaves' own dtypes or another."""
        ends = np.cumsum([leaf.size for leaf in self.leaves])[:-1]
        parts = jnp.split(flat, ends)
        return self.structure.unflatten(
            part.reshape(leaf.shape).astype(dtype or leaf.dtype)
            for part, leaf in zip(parts, self.leaves, strict=True)
        )


def layout(params: Any) -> Layout:
    """The layout of parameters.

    Raises:
      ValueError: there are none, or a leaf is not real floating point.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    leaves = tuple(jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for _, x in paths)
    for (path, _), leaf in zip(paths, leaves, strict=True):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"params must have leaves of real floating point, got {leaf.dtype} at "
                f"params{jax.tree_util.keystr(path)}; close over what is not trained"
            )
    if not sum(leaf.size for leaf in leaves):
        raise ValueError("params must hold at least one number, got none")
    wide = max((jnp.finfo(leaf.dtype).bits for leaf in leaves), default=32) > 32
    return Layout(structure, leaves, jnp.dtype(jnp.float64 if wide else jnp.float32))


def check(loss_fn: Any, model_fn: Any, params: Any, batch: Any, num_microbatches: int = 1) -> None:
    """Raises ValueError if a batch cannot be cut so, or its loss is not one real number."""
    validation.integer_in("num_microbatches", num_microbatches, 1)

    def value(params: Any, batch: Any) -> Any:
        if num_microbatches > 1:
            batch = jax.tree.map(lambda x: x[0], microbatches(batch, num_microbatches))
        return loss_fn(params if model_fn is None else model_fn(params, batch), batch)

    out = jax.eval_shape(value, params, batch)
    is_array = isinstance(out, jax.ShapeDtypeStruct)
    if not is_array or out.shape or not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"loss_fn must return a real scalar, got {out}")


def microbatches(batch: Any, number: int) -> Any:
    """A batch as `number` smaller ones: every leaf from [n, ...] to [number, n / number, ...].

    Raises:
      ValueError: a leaf's length is no multiple of the number.
    """
    if not jax.tree.leaves(batch):
        raise ValueError(f"num_microbatches must be 1 where there is no batch, got {number}")

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
    """The function v -> H v, or v -> G v where there is a `model_fn`, over f[size]."""

    def linear(batch: Any) -> Product:
        if model_fn is None:
            linearized = _hessian(loss_fn, params, batch)
        else:
            linearized = _gauss_newton(loss_fn, model_fn, params, batch)
        return lambda vector: flat.flat(linearized(flat.tree(vector)))

    if num_microbatches == 1:
        return linear(batch)
    parts = microbatches(batch, num_microbatches)

    def in_parts(vector: jax.Array) -> jax.Array:
        add = lambda total, part: (total + linear(part)(vector), None)
        return jax.lax.scan(add, jnp.zeros_like(vector), parts)[0] / num_microbatches

    return in_parts


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
    """The order of magnitude of a matrix A, by one product, and a vector to start from.

    The former is max |A v| of a random unit v, or 1: divided by it, a matrix of any scale has
    squares that neither vanish nor overflow. The latter is v and half of A v / |A v|:
    a random vector, already turned toward what is great in A.
    """
    vector = jax.random.normal(key, (flat.size,), flat.dtype)
    vector /= jnp.linalg.norm(vector)
    image = matvec(vector)
    size = jnp.max(jnp.abs(image)) * flat.size**0.5
    size = jnp.where(jnp.isfinite(size) & (size > 0), size, jnp.ones_like(size))
    image = image / size
    norm = jnp.linalg.norm(image)
    return size, vector + jnp.where(norm > 0, image / jnp.where(norm > 0, 2 * norm, 1), 0)
