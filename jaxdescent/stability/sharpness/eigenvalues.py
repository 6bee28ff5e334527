"""Sharpness: the top eigenvalues of a loss's Hessian, each with a residual as an error bound.

Gradient descent with step size eta is stable while the largest eigenvalue of the Hessian is
below 2 / eta. A number theta with a unit vector y and ||H y - theta y|| = r means that H has an
eigenvalue within r of theta. Theta itself is never above the largest eigenvalue.

With a `preconditioner` P, a positive diagonal, the matrix is P^-1/2 H P^-1/2, which has the
eigenvalues of P^-1 H. They determine the stability of an adaptive method that divides by P.

A small residual proves that an eigenvalue is nearby, but not that it is the largest or the second
largest: an eigenvector that is nearly orthogonal to the initial vectors can be missed. This is
unlikely for a cold start, from random vectors. A warm start, from earlier eigenvectors, may follow
the old eigenvector for a while after two eigenvalues have crossed.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.programs import compiled
from jaxdescent.stability.sharpness import curvature
from jaxdescent.stability.sharpness.arguments import check_loss, check_preconditioner
from jaxdescent.stability.sharpness.lanczos import Pairs, top_eigenpairs

Which = Literal["largest", "smallest", "magnitude"]


class Sharpness(NamedTuple):
    """Eigenvalues with eigenvectors and residuals.

    Attributes:
      values: f[k], in the order of `which`; at least float32.
      vectors: like the parameters with a leading axis k; each of unit norm over all leaves. With
        a preconditioner P they are eigenvectors of P^-1/2 H P^-1/2: divide by sqrt(P) for
        directions in the space of the parameters.
      residuals: f[k], ||H y - theta y||; each value is within this distance of an eigenvalue.
      converged: bool[k], True if the residual is within the tolerance times the largest |value|.
      products: i32[], number of products with the matrix.
    """

    values: jax.Array
    vectors: Any
    residuals: jax.Array
    converged: jax.Array
    products: jax.Array


def sharpness(
    loss_fn: Callable[[Any, Any], jax.Array],
    params: Any,
    batch: Any = None,
    /,
    k: int = 1,
    *,
    preconditioner: Any = None,
    model_fn: Callable[[Any, Any], Any] | None = None,
    where: Any = None,
    which: Which = "largest",
    tolerance: float | jax.Array = 1e-4,
    num_steps: int = 20,
    max_restarts: int = 20,
    num_microbatches: int = 1,
    start: Sharpness | None = None,
    key: jax.Array | None = None,
) -> Sharpness:
    """Computes the top eigenvalues and eigenvectors of a loss's Hessian or Gauss-Newton matrix.

    One program is compiled for each `loss_fn`, `model_fn` and set of shapes; data that these
    functions close over is stored in it as constants. Pass the same functions each time, not a new
    lambda, and pass data as `batch`.

    Args:
      loss_fn: called as `loss_fn(params, batch)`, with a `model_fn` as `loss_fn(outputs, batch)`;
        returns a scalar.
      params: pytree of real arrays.
      batch: pytree of arrays, passed to `loss_fn` and `model_fn`.
      k: number of eigenvalues.
      preconditioner: positive pytree like the parameters; the matrix is then P^-1/2 H P^-1/2.
      model_fn: called as `model_fn(params, batch)`; returns outputs. The matrix is then the
        Gauss-Newton matrix J^T H_out J.
      where: pytree like the parameters, of bools or arrays of them; restricts the matrix to the
        coordinates that are True.
      which: the end of the spectrum: "largest", "smallest" or largest "magnitude".
      tolerance: for the residuals, relative to the largest magnitude among the k values. The
        smallest that can be reached is about 1e-5 for float32 parameters, and 1e-2 for bfloat16
        parameters, to which products are rounded. Below that, the result has that accuracy and
        is marked as not converged, without further restarts.
      num_steps: largest number of Lanczos steps between restarts; memory is that many copies of
        the parameters. Iteration stops as soon as the tolerance is met.
      max_restarts: largest number of restarts. The result is then marked as not converged.
      num_microbatches: number of parts into which the leading axis of the batch is split, to have
        only one part in memory at a time; for a loss that is a mean over that axis.
      start: an earlier result, whose eigenvectors are the initial vectors (a warm start). Omit it
        from time to time, so that no larger eigenvalue is missed for long.
      key: for the random initial vectors, and for a little noise in a warm start. None for a fixed
        key.

    Returns:
      values f[k], vectors, residuals f[k], converged bool[k] and the number of products.

    Raises:
      ValueError: k is larger than the number of parameters or an argument is out of its range;
        a leaf of params is not floating-point; the loss is not a scalar; the preconditioner is
        not like the parameters, or not positive (checked outside of jit).
      ImportError: matfree is not installed.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxdescent as jd
      >>> def loss(w, scales):
      ...     return 0.5 * jnp.sum(scales * w**2)
      >>> top = jd.sharpness(loss, jnp.ones(100), jnp.arange(100.0), k=2)
      >>> [round(float(value), 3) for value in top.values], top.converged.tolist()
      ([99.0, 98.0], [True, True])

    References:
      Y. LeCun et al. 1993, "Automatic learning rate maximization by on-line estimation of the
      Hessian's eigenvectors"; J. Cohen et al. 2021, arXiv:2103.00065.
    """
    if which not in ("largest", "smallest", "magnitude"):
        raise ValueError(f"which must be 'largest', 'smallest' or 'magnitude', got {which!r}")
    flat = curvature.layout(params)
    validation.integer_in("k", k, 1, flat.size)
    validation.integer_in("num_steps", num_steps, 1)
    validation.integer_in("max_restarts", max_restarts, 0)
    check_loss(loss_fn, model_fn, params, batch, num_microbatches)
    validation.positive("tolerance", tolerance)
    if preconditioner is not None:
        check_preconditioner(preconditioner, params)
    if where is not None:
        where = _coordinates(where, params, k)
    if start is not None:
        _check_start(start, params, k)
    return _sharpness(
        params,
        batch,
        preconditioner,
        where,
        None if start is None else (start.values, start.vectors),
        jnp.asarray(tolerance, flat.dtype),
        jax.random.key(0) if key is None else key,
        loss_fn=loss_fn,
        model_fn=model_fn,
        k=k,
        which=which,
        num_steps=min(max(num_steps, k), flat.size),
        max_restarts=max_restarts,
        num_microbatches=num_microbatches,
    )


def block_sharpness(
    loss_fn: Callable[[Any, Any], jax.Array],
    params: Any,
    batch: Any = None,
    /,
    k: int = 1,
    *,
    blocks: Callable[[str], Hashable] = lambda path: path,
    **options: Any,
) -> dict[Hashable, Sharpness]:
    """Computes the sharpness of every diagonal block of the matrix, such as a layer's.

    All blocks use one compiled program.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar.
      params: pytree of real arrays.
      batch: pytree of arrays, passed to `loss_fn`.
      k: number of eigenvalues of each block.
      blocks: called with a leaf's path, such as "['dense']['kernel']"; returns the name of its
        block. By default every leaf is a block.
      **options: keywords of `sharpness`, except `where` and `start`.

    Returns:
      A dict from a block's name to its `Sharpness`; vectors are zero outside the block.

    Raises:
      TypeError: `where` or `start` is given.
      ValueError: as for `sharpness`; also if k is larger than a block.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxdescent as jd
      >>> def loss(w, _):
      ...     return 2 * jnp.sum(w["a"] ** 2) + 3 * jnp.sum(w["b"] ** 2) + w["a"][0] * w["b"][0]
      >>> blocks = jd.block_sharpness(loss, {"a": jnp.ones(5), "b": jnp.ones(4)})
      >>> {name: round(float(block.values[0]), 4) for name, block in blocks.items()}
      {"['a']": 4.0, "['b']": 6.0}
    """
    for name in {"where", "start"} & {*options}:
        raise TypeError(f"block_sharpness does not take {name}: each block has its own")
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [blocks(jax.tree_util.keystr(path)) for path, _ in leaves]
    found = {}
    for block in dict.fromkeys(names):
        inside = [
            np.full(np.shape(leaf), name == block)
            for (_, leaf), name in zip(leaves, names, strict=True)
        ]
        size = sum(mask.sum() for mask in inside)
        if not size:
            continue
        validation.integer_in(f"k for the block {block}", k, 1, int(size))
        where = structure.unflatten(inside)
        found[block] = sharpness(loss_fn, params, batch, k, where=where, **options)
    return found


@compiled("loss_fn", "model_fn", "k", "which", "num_steps", "max_restarts", "num_microbatches")
def _sharpness(
    params: Any,
    batch: Any,
    preconditioner: Any,
    where: jax.Array | None,
    start: Any,
    tolerance: jax.Array,
    key: jax.Array,
    *,
    loss_fn: Any,
    model_fn: Any,
    k: int,
    which: Which,
    num_steps: int,
    max_restarts: int,
    num_microbatches: int,
) -> Sharpness:
    flat = curvature.layout(params)
    matvec = curvature.product(loss_fn, model_fn, params, batch, flat, num_microbatches)
    if preconditioner is not None:
        matvec = curvature.preconditioned(matvec, flat.flat(preconditioner))
    sign = -1 if which == "smallest" else 1
    if start is None:
        size, first = curvature.scale(matvec, key, flat)
    else:
        size, first = jnp.max(jnp.abs(start[0])).astype(flat.dtype), jax.vmap(flat.flat)(start[1])
        size = jnp.where(jnp.isfinite(size) & (size > 0), size, jnp.ones_like(size))
    pairs: Pairs = top_eigenpairs(
        lambda v: sign * matvec(v) / size,
        first,
        key,
        k,
        warm=start is not None,
        tolerance=tolerance,
        num_steps=num_steps,
        max_cycles=max_restarts + 1,
        by_magnitude=which == "magnitude",
        mask=where,
        rounding=_rounding(flat),
    )
    return Sharpness(
        values=sign * size * pairs.values,
        vectors=jax.vmap(functools.partial(flat.tree, dtype=flat.dtype))(pairs.vectors),
        residuals=size * pairs.residuals,
        converged=pairs.converged,
        products=pairs.products + int(start is None),
    )


def _rounding(flat: curvature.Layout) -> float:
    """Returns the relative rounding of products in fewer bits than the vectors have, or 0."""
    largest = max(float(jnp.finfo(leaf.dtype).eps) for leaf in flat.leaves)
    return largest if largest > float(jnp.finfo(flat.dtype).eps) else 0.0


def _coordinates(where: Any, params: Any, k: int) -> jax.Array:
    """Returns the mask as bool[n]."""
    leaves, structure = jax.tree.flatten(params)
    try:
        masks = structure.flatten_up_to(where)
        if not all(jnp.issubdtype(jnp.result_type(mask), jnp.bool_) for mask in masks):
            raise TypeError(f"got {where!r}")
        wide = [jnp.broadcast_to(m, jnp.shape(x)) for m, x in zip(masks, leaves, strict=True)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"where must be a tree of bools like params: {error}") from error
    mask = jnp.concatenate([jnp.ravel(m) for m in wide])
    if not isinstance(mask, jax.core.Tracer):
        validation.integer_in("k", k, 1, int(jnp.sum(mask)))
    return mask


def _check_start(start: Any, params: Any, k: int) -> None:
    if not isinstance(start, Sharpness):
        raise TypeError(f"start must be a Sharpness, got {type(start).__name__}")
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct((k, *jnp.shape(x)), jnp.float32), params)
    validation.shaped_like("start.vectors", start.vectors, wanted, f"the parameters with k = {k}")
