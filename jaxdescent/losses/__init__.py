"""Losses that PyTorch and Keras have and `optax.losses` does not.

    losses = jd.losses.cross_entropy(logits, labels, ignore_index=0, label_smoothing=0.1)
    loss = jd.losses.masked_mean(losses, labels != 0)

As in optax nothing is reduced to one number, except by `linear_cross_entropy`: a loss has a
value for each element or, where it sums over coordinates or classes, for each example. Every
loss takes `where`, booleans of the shape of its result or of its predictions: what is left out
gives 0 and has no gradient, whatever it holds, NaN included. Half precision is computed, and
returned, in float32.

    absolute_error, quantile_loss, absolute_percentage_error, squared_log_error
    poisson_nll_loss, gaussian_nll_loss
                           regression
    binary_cross_entropy_with_logits, cross_entropy, categorical_focal_loss
                           classification by likelihood
    squared_hinge_loss, categorical_hinge_loss, multiclass_margin_loss,
    multilabel_margin_loss, multilabel_soft_margin_loss
                           classification by margins
    margin_ranking_loss, hinge_embedding_loss, cosine_embedding_loss, circle_loss
                           ranking, and embeddings that tell same from different
    tversky_loss, iou_loss overlap of regions
    linear_cross_entropy   of a linear layer, without building its logits; a mean
    masked_mean            one number of many
"""

from jaxdescent.losses.classification import (
    binary_cross_entropy_with_logits,
    categorical_focal_loss,
    cross_entropy,
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
    "multiclass_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "poisson_nll_loss",
    "quantile_loss",
    "squared_hinge_loss",
    "squared_log_error",
    "tversky_loss",
]
