"""Checks of the arguments that several functions of this folder share.

Each `check_*` returns nothing and raises an error that names the argument.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.stability.sharpness import curvature
from jaxdescent.stability.sharpness.optimizer_thresholds import Threshold


def check_loss(
    loss_fn: Any, model_fn: Any, params: Any, batch: Any, num_microbatches: int = 1
) -> None:
    """Raises ValueError unless the loss of a (micro)batch is one real number."""
    validation.integer_in("num_microbatches", num_microbatches, 1)

    def value(params: Any, batch: Any) -> Any:
        if num_microbatches > 1:
            batch = jax.tree.map(lambda x: x[0], curvature.microbatches(batch, num_microbatches))
        return loss_fn(params if model_fn is None else model_fn(params, batch), batch)

    validation.check_scalar_output("loss_fn", value, params, batch)


def check_preconditioner(preconditioner: Any, params: Any) -> None:
    """Raises ValueError unless it is like the parameters; if it is known, also unless positive."""
    validation.shaped_like("preconditioner", preconditioner, params)
    for path, leaf in jax.tree_util.tree_flatten_with_path(preconditioner)[0]:
        name = f"preconditioner{jax.tree_util.keystr(path)}"
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(f"{name} must be real floating-point, got {jnp.result_type(leaf)}")
        if isinstance(leaf, jax.core.Tracer) or not np.size(leaf):
            continue
        smallest, largest = float(jnp.min(leaf)), float(jnp.max(leaf))
        if not (smallest > 0 and largest < np.inf):
            wrong = largest if smallest > 0 else smallest
            raise ValueError(f"{name} must be in (0, inf) everywhere, got {wrong:g}")


def check_threshold(threshold: Any) -> None:
    """Raises TypeError unless this is a `jd.thresholds.Threshold`."""
    if isinstance(threshold, Threshold):
        return
    hint = "; call it first, as in jd.thresholds.sgd(0.1)" if callable(threshold) else ""
    raise TypeError(f"threshold must be one of jd.thresholds, got {threshold!r}{hint}")
