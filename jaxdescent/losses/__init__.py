"""Losses that PyTorch and Keras have and `optax.losses` lacks.

    losses = jd.losses.cross_entropy(logits, labels, ignore_index=0, label_smoothing=0.1)
    loss = jd.losses.masked_mean(losses, labels != 0)

As in optax, a loss returns one value per element or, if it sums over coordinates or classes, one
per example. Only `linear_cross_entropy` and `mean_cross_entropy` return a mean. Every loss takes a
boolean mask `where`, of the shape of its result or of its predictions: excluded entries have loss 0
and gradient 0, even if they are NaN. Half precision is computed, and returned, in float32.

Scores and logarithms may be infinite: a logit of -inf rules a class out. The loss is 0 where the
label agrees, infinite where it does not, and never NaN. The gradient of a finite loss is finite.
Class weights need `mean_cross_entropy` for PyTorch's mean, which divides by the weights.

    absolute_error, quantile_loss, absolute_percentage_error, squared_log_error
    poisson_nll_loss, gaussian_nll_loss
                           regression
    binary_cross_entropy_with_logits, cross_entropy, categorical_focal_loss
                           classification by likelihood
    squared_hinge_loss, categorical_hinge_loss, multiclass_margin_loss,
    multilabel_margin_loss, multilabel_soft_margin_loss
                           classification by margins
    margin_ranking_loss, hinge_embedding_loss, cosine_embedding_loss, circle_loss
                           ranking and metric learning
    tversky_loss, iou_loss overlap of regions
    mean_cross_entropy     mean cross entropy, weighted by the class weights as in PyTorch
    linear_cross_entropy   mean cross entropy of a linear layer, without storing its logits
    masked_mean            mean of the losses that are not masked
"""

from jaxdescent.losses.classification import (
    binary_cross_entropy_with_logits,
    categorical_focal_loss,
    cross_entropy,
    mean_cross_entropy,
)
from jaxdescent.losses.linear_head import linear_cross_entropy
from jaxdescent.losses.margins import (
    categorical_hinge_loss,
    multiclass_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    squared_hinge_loss,
)
from jaxdescent.losses.masking import masked_mean
from jaxdescent.losses.metric_learning import (
    circle_loss,
    cosine_embedding_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
)
from jaxdescent.losses.regression import (
    absolute_error,
    absolute_percentage_error,
    gaussian_nll_loss,
    poisson_nll_loss,
    quantile_loss,
    squared_log_error,
)
from jaxdescent.losses.segmentation import iou_loss, tversky_loss

__all__ = [
    "absolute_error",
    "absolute_percentage_error",
    "binary_cross_entropy_with_logits",
    "categorical_focal_loss",
    "categorical_hinge_loss",
    "circle_loss",
    "cosine_embedding_loss",
    "cross_entropy",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "iou_loss",
    "linear_cross_entropy",
    "margin_ranking_loss",
    "masked_mean",
    "mean_cross_entropy",
    "multiclass_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "poisson_nll_loss",
    "quantile_loss",
    "squared_hinge_loss",
    "squared_log_error",
    "tversky_loss",
]


def __dir__() -> list[str]:
    return __all__
