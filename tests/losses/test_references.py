"""Values and gradients equal PyTorch and Keras within 1e-6, in float32 and float64.

`make_fixtures.py` computed the reference values with these libraries.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent import losses
from tests.losses.cases import WEIGHTS

with np.load(Path(__file__).parent / "references.npz") as file:
    ARRAYS = {name: file[name] for name in file.files if name != "versions"}


def last_mean(loss, **settings):
    return lambda **arrays: jnp.mean(loss(**arrays, **settings), axis=-1)


REFERENCES = {
    "torch.l1": losses.absolute_error,
    "torch.poisson_log full=False": losses.poisson_nll_loss,
    "torch.poisson_log full=True": partial(losses.poisson_nll_loss, full=True),
    "torch.poisson_rate": partial(losses.poisson_nll_loss, log_input=False),
    "torch.gaussian full=False": partial(losses.gaussian_nll_loss, eps=0.25),
    "torch.gaussian full=True": partial(losses.gaussian_nll_loss, eps=0.25, full=True),
    "torch.binary": partial(losses.binary_cross_entropy_with_logits, pos_weight=WEIGHTS),
    "torch.cross_entropy plain": losses.cross_entropy,
    "torch.cross_entropy weights": partial(losses.cross_entropy, class_weights=WEIGHTS),
    "torch.cross_entropy ignore": partial(losses.cross_entropy, ignore_index=2),
    "torch.cross_entropy smooth": partial(losses.cross_entropy, label_smoothing=0.1),
    "torch.cross_entropy all": partial(
        losses.cross_entropy, class_weights=WEIGHTS, ignore_index=2, label_smoothing=0.1
    ),
    "torch.margin_ranking": partial(losses.margin_ranking_loss, margin=0.5),
    "torch.hinge_embedding": partial(losses.hinge_embedding_loss, margin=1.5),
    "torch.cosine_embedding": partial(losses.cosine_embedding_loss, margin=0.1),
    "torch.multi_margin p=1": partial(
        losses.multiclass_margin_loss, p=1, margin=0.75, class_weights=WEIGHTS
    ),
    "torch.multi_margin p=2": partial(
        losses.multiclass_margin_loss, p=2, margin=0.75, class_weights=WEIGHTS
    ),
    "torch.multilabel_margin": losses.multilabel_margin_loss,
    "torch.multilabel_soft_margin": partial(
        losses.multilabel_soft_margin_loss, class_weights=WEIGHTS
    ),
    "keras.mae": last_mean(losses.absolute_error),
    "keras.mape": last_mean(losses.absolute_percentage_error),
    "keras.msle": last_mean(losses.squared_log_error),
    "keras.poisson": last_mean(losses.poisson_nll_loss, log_input=False, eps=1e-7),
    "keras.squared_hinge": last_mean(losses.squared_hinge_loss),
    "keras.categorical_hinge": losses.categorical_hinge_loss,
    "keras.cross_entropy": losses.cross_entropy,
    "keras.focal gamma=0.5": partial(losses.categorical_focal_loss, gamma=0.5, alpha=WEIGHTS),
    "keras.focal gamma=2.0": partial(losses.categorical_focal_loss, alpha=WEIGHTS),
    "keras.tversky": partial(  # Keras exchanges alpha and beta
        losses.tversky_loss, alpha=0.7, beta=0.3, smooth=1e-7, axis=1
    ),
    "keras.jaccard": partial(losses.iou_loss, smooth=1e-7, axis=1),
    "keras.circle": partial(losses.circle_loss, gamma=2.0, margin=0.25),
}


def deviations(name, dtype):
    """Returns the largest errors of losses and gradients, relative for values above 1."""
    prefix = len(name) + 1
    stored = {key[prefix:]: a for key, a in ARRAYS.items() if key.startswith(f"{name}/")}
    grads = {key[2:]: stored.pop(key) for key in list(stored) if key.startswith("d_")}
    expected, cotangents = stored.pop("loss"), jnp.asarray(stored.pop("cotangents"), dtype)
    fixed = {key: jnp.asarray(a) for key, a in stored.items() if key not in grads}
    variables = {key: jnp.asarray(stored[key], dtype) for key in grads}

    @jax.jit
    def value_and_grads(variables, fixed):
        found, pull = jax.vjp(lambda variables: REFERENCES[name](**variables, **fixed), variables)
        return found, pull(cotangents)[0]

    found, pulled = value_and_grads(variables, fixed)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    return deviation(found, expected), max(deviation(pulled[key], grads[key]) for key in grads)


def deviation(found, expected):
    return float(np.max(np.abs(np.asarray(found) - expected) / np.maximum(np.abs(expected), 1)))


def test_every_stored_case_is_compared():
    assert set(REFERENCES) == {name.rpartition("/")[0] for name in ARRAYS}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", REFERENCES)
def test_losses_and_gradients_equal_the_reference(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        assert max(deviations(name, dtype)) < 1e-6
