"""Sharpness: the top of a loss's Hessian, each eigenvalue with the residual that certifies it.

Gradient descent with step size eta is stable while the greatest eigenvalue of the Hessian is
below 2 / eta. A number theta with a unit vector y and ||H y - theta y|| = r means that H has
an eigenvalue within r of theta (and theta itself is never above the greatest).

`preconditioner` P, a positive diagonal, asks for P^-1/2 H P^-1/2, whose eigenvalues are those
of P^-1 H: what matters to an adaptive method that divides by P.

A residual certifies an eigenvalue, not that it is the first or second: one that the start
hardly overlaps with can be missed. A cold start is random, so that this takes bad luck; a warm
one is not, and after a crossing of eigenvalues it may hold on to the old one for a while.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.stability import curvature
from jaxdescent.stability.lanczos import Pairs, top_eigenpairs

Which = Literal["largest", "smallest", "magnitude"]


class Sharpness(NamedTuple):
    """Eigenvalues with their certificates.

    Attributes:
      values: f[k], in the order that was asked for. Float32 at least.
      vectors: like the parameters with a leading axis k; together of unit norm. With a
        preconditioner P they are of P^-1/2 H P^-1/2: divide by sqrt(P) for directions in
        the space of the parameters.
      residuals: f[k], ||H y - theta y||: an eigenvalue is within it.
      converged: bool[k], whether the residual is within the tolerance times the greatest |value|.
      products: i32[], how many products with the matrix it took.
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
    """The top eigenvalues and eigenvectors of a loss's Hessian or Gauss-Newton matrix.

    A program is compiled for each `loss_fn`, `model_fn` and shapes, and holds what they close
    over: pass the same functions, not a new lambda each time, and data as `batch`.

    Args:
      loss_fn: from (params, batch) to a scalar; with a `model_fn` from (outputs, batch).
      params: pytree of real arrays.
      batch: pytree of arrays, handed on.
      k: how many eigenvalues.
      preconditioner: pytree like the parameters, positive: the eigenproblem of
        P^-1/2 H P^-1/2.
      model_fn: from (params, batch) to outputs: takes the Gauss-Newton matrix J^T H_out J.
      where: pytree like the parameters, of bools or arrays of them: only the block of the matrix
        that belongs to the true ones.
      which: the end of the spectrum: "largest", "smallest" or largest "magnitude".
      tolerance: for the residuals, relative to the greatest magnitude among the k values. With
        float32 parameters 1e-5 is about the least that can be met. With bfloat16 ones, to
        which products are rounded, it is 1e-2: what is asked for beyond that is returned at
        that, flagged, without further restarts.
      num_steps: Lanczos steps between restarts at most; memory is that many copies of the
        parameters. It stops as soon as it can.
      max_restarts: how often it restarts at most. It then returns what it has, flagged.
      num_microbatches: parts that the leading axis of the batch is cut into, one at a time,
        for a loss that is a mean over it.
      start: an earlier result, to start from its vectors. Start cold now and then.
      key: for the start, and for a little noise in it. None for a fixed one.

    Returns:
      values f[k], vectors, residuals f[k], converged bool[k] and the number of products.

    Raises:
      ValueError: k is larger than the number of parameters or an argument is out of its range;
        a leaf is not of floating point; the loss is no scalar; the preconditioner is not like
        the parameters, or not positive (where that can be told, outside of jit).
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
    curvature.check(loss_fn, model_fn, params, batch, num_microbatches)
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
    """The sharpness of every diagonal block of the matrix: a layer's, with the others held.

    One program serves all blocks.

    Args:
      loss_fn: from (params, batch) to a scalar.
      params: pytree of real arrays.
      batch: pytree of arrays, handed on.
      k: how many eigenvalues of each block.
      blocks: from a leaf's path, such as "['dense']['kernel']", to its block's name. Every
        leaf is a block, unless told otherwise.
      **options: of `sharpness`, without `where` and `start`.

    Returns:
      A dict from a block's name to its `Sharpness`; vectors are zero outside the block.

    Raises:
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
        raise TypeError(f"block_sharpness takes no {name}: each block has its own")
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [blocks(jax.tree_util.keystr(path)) for path, _ in leaves]
    whole = [np.ones(np.shape(leaf), bool) for _, leaf in leaves]
    found = {}
    for block in dict.fromkeys(names):
        inside = [each & (name == block) for each, name in zip(whole, names, strict=True)]
        size = sum(each.sum() for each in inside)
        if not size:
            continue
        validation.integer_in(f"k for the block {block}", k, 1, int(size))
        where = structure.unflatten(inside)
        found[block] = sharpness(loss_fn, params, batch, k, where=where, **options)
    return found


@functools.partial(
    jax.jit,
    static_argnames=(
        "loss_fn",
        "model_fn",
        "k",
        "which",
        "num_steps",
        "max_restarts",
        "num_microbatches",
    ),
)
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
        matvec = preconditioned(matvec, flat.flat(preconditioner))
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
    """Of products that are made in fewer bits than the vectors have; otherwise 0."""
    eps = lambda dtype: float(jnp.finfo(dtype).eps)
    most = max(eps(leaf.dtype) for leaf in flat.leaves)
    return most if most > eps(flat.dtype) else 0.0


def preconditioned(matvec: curvature.Product, preconditioner: jax.Array) -> curvature.Product:
    """The function v -> P^-1/2 A P^-1/2 v."""
    scale = jax.lax.rsqrt(preconditioner)
    return lambda vector: scale * matvec(scale * vector)


def check_preconditioner(preconditioner: Any, params: Any) -> None:
    """Raises ValueError unless it is like the parameters, and positive where that can be told."""
    validation.shaped_like("preconditioner", preconditioner, params)
    for path, leaf in jax.tree_util.tree_flatten_with_path(preconditioner)[0]:
        name = f"preconditioner{jax.tree_util.keystr(path)}"
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(f"{name} must be real floating point, got {jnp.result_type(leaf)}")
        if isinstance(leaf, jax.core.Tracer) or not np.size(leaf):
            continue
        least, most = float(jnp.min(leaf)), float(jnp.max(leaf))
        if not (least > 0 and most < np.inf):
            wrong = most if least > 0 else least
            raise ValueError(f"{name} must be in (0, inf) everywhere, got {wrong:g}")


def _coordinates(where: Any, params: Any, k: int) -> jax.Array:
    """The mask as bool[n]."""
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
