"""Registry of all losses of the package. One line adds a loss to the common tests."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import losses

ROWS, CLASSES = GRID = (6, 5)
WEIGHTS = np.array([0.5, 1.0, 2.0, 0.25, 3.0])

KINDS = {
    "real": lambda rng, shape: rng.normal(size=shape),
    "positive": lambda rng, shape: rng.uniform(0.1, 3.0, size=shape),
    "probability": lambda rng, shape: rng.uniform(0.05, 0.95, size=shape),
    "count": lambda rng, shape: rng.poisson(3.0, size=shape),
    "bit": lambda rng, shape: rng.integers(2, size=shape),
    "sign": lambda rng, shape: 2 * rng.integers(2, size=shape) - 1,
    "label": lambda rng, shape: rng.integers(CLASSES, size=shape[:1]),
    "sign of row": lambda rng, shape: 2 * rng.integers(2, size=shape[:1]) - 1,
}
FLOATS = ("real", "positive", "probability")


class Case(NamedTuple):
    """A loss with settings.

    Attributes:
      loss: called with the arrays by name, and `where`.
      kinds: the kind of each array's entries; arrays of floats are differentiated.
      masks: what `where` may exclude: elements, rows, or coordinates of rows.
      signed: whether the loss may be negative.
    """

    loss: Callable
    kinds: dict[str, str]
    masks: tuple[str, ...] = ("elements",)
    signed: bool = False

    def arrays(self, seed=0, shape=GRID):
        rng = np.random.default_rng(seed)
        return {name: KINDS[kind](rng, shape) for name, kind in self.kinds.items()}

    def split(self, arrays, dtype=jnp.float32):
        """Returns the arrays to differentiate, in a dtype, and the other arrays."""
        variables = {n: jnp.asarray(a, dtype) for n, a in arrays.items() if self.is_float(n)}
        return variables, {n: jnp.asarray(a) for n, a in arrays.items() if not self.is_float(n)}

    def is_float(self, name):
        return self.kinds[name] in FLOATS

    def value_and_grad(self, variables, fixed, **options):
        """Returns the losses, and the gradients of a weighted sum of them."""

        def weighted(variables):
            values = self.loss(**variables, **fixed, **options)
            weights = jnp.asarray(
                1 + np.arange(values.size).reshape(values.shape) % 3, values.dtype
            )
            return jnp.sum(weights * values), values

        grads, values = jax.grad(weighted, has_aux=True)(variables)
        return values, grads


REGRESSION = {"predictions": "real", "targets": "real"}
CLASSIFIED = {"logits": "real", "labels": "label"}
SCORED = {"scores": "real", "labels": "label"}
ROW_MASKS = ("rows", "coordinates")

CASES = {
    "absolute_error": Case(losses.absolute_error, REGRESSION),
    "quantile_loss": Case(partial(losses.quantile_loss, quantile=0.2), REGRESSION),
    "quantile_loss, one each": Case(
        partial(losses.quantile_loss, quantile=np.linspace(0.1, 0.9, CLASSES)), REGRESSION
    ),
    "absolute_percentage_error": Case(losses.absolute_percentage_error, REGRESSION),
    "squared_log_error": Case(
        losses.squared_log_error, {"predictions": "positive", "targets": "positive"}
    ),
    "poisson_nll_loss": Case(
        partial(losses.poisson_nll_loss, full=True),
        {"predictions": "real", "targets": "count"},
        signed=True,
    ),
    "poisson_nll_loss of rates": Case(
        partial(losses.poisson_nll_loss, log_input=False),
        {"predictions": "positive", "targets": "positive"},
        signed=True,
    ),
    "gaussian_nll_loss": Case(
        losses.gaussian_nll_loss, {**REGRESSION, "variances": "positive"}, signed=True
    ),
    "binary_cross_entropy_with_logits": Case(
        partial(losses.binary_cross_entropy_with_logits, pos_weight=WEIGHTS),
        {"logits": "real", "labels": "probability"},
    ),
    "cross_entropy": Case(losses.cross_entropy, CLASSIFIED, ROW_MASKS),
    "cross_entropy, smoothed": Case(
        partial(losses.cross_entropy, label_smoothing=0.2, z_loss=0.01), CLASSIFIED, ROW_MASKS
    ),
    "cross_entropy, weighted": Case(
        partial(losses.cross_entropy, class_weights=WEIGHTS, label_smoothing=0.2),
        CLASSIFIED,
        ("rows",),
    ),
    "categorical_focal_loss": Case(losses.categorical_focal_loss, CLASSIFIED, ROW_MASKS),
    "categorical_focal_loss, root": Case(
        partial(losses.categorical_focal_loss, gamma=0.5, alpha=WEIGHTS), CLASSIFIED, ("rows",)
    ),
    "squared_hinge_loss": Case(
        losses.squared_hinge_loss, {"predictions": "real", "targets": "sign"}
    ),
    "categorical_hinge_loss": Case(losses.categorical_hinge_loss, SCORED, ROW_MASKS),
    "multiclass_margin_loss": Case(losses.multiclass_margin_loss, SCORED, ROW_MASKS),
    "multiclass_margin_loss, squared": Case(
        partial(losses.multiclass_margin_loss, p=2, class_weights=WEIGHTS), SCORED, ("rows",)
    ),
    "multilabel_margin_loss": Case(
        losses.multilabel_margin_loss, {"scores": "real", "labels": "bit"}, ROW_MASKS
    ),
    "multilabel_soft_margin_loss": Case(
        losses.multilabel_soft_margin_loss, {"logits": "real", "labels": "bit"}, ROW_MASKS
    ),
    "margin_ranking_loss": Case(
        partial(losses.margin_ranking_loss, margin=0.5),
        {"first": "real", "second": "real", "order": "sign"},
    ),
    "hinge_embedding_loss": Case(
        losses.hinge_embedding_loss, {"distances": "positive", "labels": "sign"}
    ),
    "cosine_embedding_loss": Case(
        partial(losses.cosine_embedding_loss, margin=0.1),
        {"first": "real", "second": "real", "labels": "sign of row"},
        ROW_MASKS,
    ),
    "circle_loss": Case(
        partial(losses.circle_loss, gamma=8.0),
        {"embeddings": "real", "labels": "label"},
        ("batch",),
    ),
    "tversky_loss": Case(
        partial(losses.tversky_loss, alpha=0.3, beta=0.7, axis=-1),
        {"predictions": "probability", "targets": "probability"},
        ("coordinates",),
    ),
    "iou_loss": Case(
        partial(losses.iou_loss, smooth=0.0, axis=-1),
        {"predictions": "probability", "targets": "bit"},
        ("coordinates",),
    ),
}
