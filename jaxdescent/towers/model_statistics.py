"""Statistics of a model, such as BatchNorm's, re-estimated at given parameters.

A layer of Flax in training mode changes its running statistic r by the statistic b of a batch:

    r <- m r + (1 - m) b        with a momentum m, such as 0.99

So r belongs to the parameters of the last 1 / (1 - m) steps. An average of the parameters, or the
parameters to which a restart returns, need other statistics: the mean of b over batches, at these
parameters. b does not depend on r, since a layer in training mode normalizes by b. Therefore

    b = f(0) / (1 - m)    m = (f(r + s) - f(r)) / s    for the layer's own update f and any s

so that the result does not depend on m, nor on the statistics before.

Source: P. Izmailov et al. 2018, arXiv:1803.05407, whose `update_bn` in PyTorch computes the same
mean; it divides variances by n - 1 where Flax divides by n.
"""

import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent.numerics import is_inexact

_TOLERANCE = 1e-4  # the momentum is the same for all numbers of a leaf, up to rounding
_LARGE = 1e6  # larger statistics come from a diverged run


def reestimate_statistics(
    apply: Callable[[Any, Any, Any], Any], params: Any, model_state: Any, batches: Iterable[Any], /
) -> Any:
    """Returns a model's state with running statistics that belong to the given parameters.

    Use it before an evaluation at `jd.averaged_params`, at a soup, or at the parameters of an
    optimizer that restarts, such as `jd.self_tuning`: the running statistics of a BatchNorm are of
    the last steps' parameters, and after a diverged attempt they may be huge or NaN.

    Each running statistic becomes the mean of the batches' statistics, without weights and for any
    momentum. The variance is the mean of the variances inside of batches, so use batches of the
    size of training or larger. Batches whose statistics are not finite are left out; a statistic
    that no batch makes finite is NaN. Other leaves, such as counters and random keys, are carried
    from batch to batch as in training.

    Args:
      apply: called as `apply(params, model_state, batch)`; runs the model in training mode and
        returns the new model state. It is compiled once for batches of one shape; pass the same
        function again to compile nothing.
      params: the parameters.
      model_state: the state, for its structure: linen's "batch_stats", the `nnx.BatchStat`s, or all
        state of the model. Statistics in it may have any values.
      batches: the batches, at least one. A few thousand examples in total are usually enough. The
        cost is a forward pass for each, and two more.

    Returns:
      A model state in the containers and dtypes of `model_state`.

    Raises:
      TypeError: `apply` is not callable, or `model_state` holds an `eqx.nn.State`. The BatchNorm of
        Equinox divides by a count of batches, or normalizes by its running statistics even in
        training; pass the batches through a model with a new state instead.
      ValueError: there are no batches, or `apply` does not return a tree like `model_state`, or
        returns it unchanged.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> def apply(scale, running_mean, batch):  # as in a layer of momentum 0.9
      ...     return 0.9 * running_mean + 0.1 * jnp.mean(scale * batch)
      >>> batches = [jnp.array([1.0, 3.0]), jnp.array([5.0, 7.0])]
      >>> jd.reestimate_statistics(apply, 2.0, jnp.array(jnp.nan), batches).round(3)
      Array(8., dtype=float32)

      With Flax:

      >>> def apply_linen(params, batch_stats, x):
      ...     variables = {"params": params, "batch_stats": batch_stats}
      ...     _, new = model.apply(variables, x, train=True, mutable=["batch_stats"])
      ...     return new["batch_stats"]
      >>> def apply_nnx(params, batch_stats, x):  # of nnx.split(model, nnx.Param, nnx.BatchStat)
      ...     model = nnx.merge(graph, params, batch_stats, copy=True)
      ...     model(x)
      ...     return nnx.state(model, nnx.BatchStat)
    """
    if not callable(apply):
        raise TypeError(f"apply must be a function of (params, model_state, batch), got {apply!r}")
    _check_not_equinox(model_state)
    leaves, structure = jax.tree.flatten(model_state)
    run = jax.jit(apply)

    def applied(leaves: list[Any], batch: Any) -> list[Any]:
        new = jax.tree.leaves(run(params, structure.unflatten(leaves), batch))
        shapes, wanted = ([jnp.shape(x) for x in both] for both in (new, leaves))
        if shapes != wanted:
            raise ValueError(
                "apply must return a model state like model_state, got leaves of shapes "
                f"{shapes} for {wanted}"
            )
        return new

    floating = {i: jnp.result_type(x) for i, x in enumerate(leaves) if is_inexact(x)}
    for i in floating:
        leaves[i] = _without_diverged(leaves[i])
    before = [*leaves]
    momenta: dict[int, float] = {}  # NaN if the leaf is not a running statistic
    means = {i: _Mean(jnp.shape(leaves[i])) for i in floating}
    batch = None
    for batch in batches:
        if unknown := floating.keys() - momenta.keys():
            momenta |= _momenta(applied, leaves, batch, unknown)
        for i, momentum in momenta.items():
            leaves[i] = leaves[i] if math.isnan(momentum) else jnp.zeros_like(leaves[i])
        for i, new in enumerate(applied(leaves, batch)):
            if i not in floating or math.isnan(momenta.get(i, 0)):
                leaves[i] = new
            elif i in momenta:
                means[i].add(np.asarray(new, np.float64) / (1 - momenta[i]))
    if batch is None:
        raise ValueError("batches must hold at least one batch, got none")
    running = [i for i in floating if not math.isnan(momenta.get(i, 0))]
    unchanged = [i for i in floating if np.array_equal(leaves[i], before[i])]
    if not running and unchanged and len(unchanged) == len(floating):
        raise ValueError(
            "apply must run the model in training mode, got a model state without a change; pass "
            "train=True, use_running_average=False or model.train()"
        )
    for i in running:
        leaves[i] = jnp.asarray(means[i].value(), floating[i])
    return structure.unflatten(leaves)


def _check_not_equinox(model_state: Any) -> None:
    equinox = sys.modules.get("equinox")
    if equinox is None:
        return

    def is_state(node: Any) -> bool:
        return isinstance(node, equinox.nn.State)

    if any(map(is_state, jax.tree.leaves(model_state, is_leaf=is_state))):
        raise TypeError(
            "model_state must not hold an eqx.nn.State, whose statistics depend on a count of "
            "batches; pass the batches through the model in training mode, from a new "
            "eqx.nn.State(model)"
        )


def _momenta(
    applied: Callable[[list[Any], Any], list[Any]], leaves: list[Any], batch: Any, unknown: set[int]
) -> dict[int, float]:
    """Returns the momenta of leaves; NaN for a leaf that is not a running statistic.

    A leaf without finite statistics of this batch is left out.
    """
    new = applied(leaves, batch)
    low = {i: np.asarray(new[i], np.float64) for i in unknown}
    finite = {i: x for i, x in low.items() if np.any(np.isfinite(x))}
    # A shift of the size of the results, so that their rounding does not count.
    shifts = {i: 1 + np.max(np.abs(x[np.isfinite(x)])) for i, x in finite.items()}
    moved = [
        x + jnp.asarray(shifts[i], x.dtype) if i in shifts else x for i, x in enumerate(leaves)
    ]
    high = applied(moved, batch)
    found = {}
    for i, shift in shifts.items():
        slopes = (np.asarray(high[i], np.float64) - finite[i]) / shift
        slopes = slopes[np.isfinite(slopes)]
        momentum = np.mean(slopes) if slopes.size else np.nan
        is_running = 0 <= round(momentum, 6) < 1 and np.ptp(slopes) < _TOLERANCE
        found[i] = float(momentum) if is_running else math.nan
    return found


class _Mean:
    """Mean of the finite numbers of arrays."""

    def __init__(self, shape: tuple[int, ...]):
        self._mean, self._count = np.zeros(shape), np.zeros(shape)

    def add(self, x: np.ndarray) -> None:
        """Adds an array to the mean."""
        finite = np.isfinite(x)
        self._count += finite
        step = np.where(finite, x, self._mean) - self._mean
        self._mean += step / np.maximum(self._count, 1)

    def value(self) -> np.ndarray:
        """Returns the mean; NaN where no array was finite."""
        return np.where(self._count, self._mean, np.nan)


def _without_diverged(leaf: Any) -> jax.Array:
    """Returns a leaf with 0 in the place of numbers that are not finite or very large."""
    leaf = jnp.asarray(leaf)
    return jnp.where(jnp.abs(leaf) <= _LARGE, leaf, 0).astype(leaf.dtype)
