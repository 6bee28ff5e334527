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
    binary_cross_entropy_with_logits as binary_cross_entropy_with_logits,
)
from jaxdescent.losses.classification import categorical_focal_loss as categorical_focal_loss
from jaxdescent.losses.classification import cross_entropy as cross_entropy
from jaxdescent.losses.head import linear_cross_entropy as linear_cross_entropy
from jaxdescent.losses.margins import categorical_hinge_loss as categorical_hinge_loss
from jaxdescent.losses.margins import multiclass_margin_loss as multiclass_margin_loss
from jaxdescent.losses.margins import multilabel_margin_loss as multilabel_margin_loss
from jaxdescent.losses.margins import multilabel_soft_margin_loss as multilabel_soft_margin_loss
from jaxdescent.losses.margins import squared_hinge_loss as squared_hinge_loss
from jaxdescent.losses.masking import masked_mean as masked_mean
from jaxdescent.losses.regions import iou_loss as iou_loss
from jaxdescent.losses.regions import tversky_loss as tversky_loss
from jaxdescent.losses.regression import absolute_error as absolute_error
from jaxdescent.losses.regression import absolute_percentage_error as absolute_percentage_error
from jaxdescent.losses.regression import gaussian_nll_loss as gaussian_nll_loss
from jaxdescent.losses.regression import poisson_nll_loss as poisson_nll_loss
from jaxdescent.losses.regression import quantile_loss as quantile_loss
from jaxdescent.losses.regression import squared_log_error as squared_log_error
from jaxdescent.losses.similarity import circle_loss as circle_loss
from jaxdescent.losses.similarity import cosine_embedding_loss as cosine_embedding_loss
from jaxdescent.losses.similarity import hinge_embedding_loss as hinge_embedding_loss
from jaxdescent.losses.similarity import margin_ranking_loss as margin_ranking_loss
