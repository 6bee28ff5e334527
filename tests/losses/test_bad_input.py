"""Bad arguments raise an error that names the argument, its value and the allowed range."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent import losses

GRID = jnp.zeros((2, 3))
LABELS = np.array([0, 2])
BITS = np.zeros((2, 3))
SIGNS = np.ones((2, 3))
EYE = jnp.eye(2)

REFUSED = {
    "quantile": [
        (losses.quantile_loss, (GRID, GRID, q), "in (0, 1)", q) for q in (0.0, 1.0, -0.5, 1.5)
    ],
    "eps": [
        (
            lambda eps: losses.absolute_percentage_error(GRID, GRID, eps=eps),
            (0.0,),
            "(0, inf)",
            0.0,
        ),
        (lambda eps: losses.poisson_nll_loss(GRID, GRID, eps=eps), (-1.0,), "(0, inf)", -1.0),
        (lambda eps: losses.gaussian_nll_loss(GRID, GRID, GRID, eps=eps), (0,), "(0, inf)", 0),
    ],
    "targets": [
        (losses.poisson_nll_loss, (GRID, GRID - 1), "at least 0", -1.0),
        (losses.squared_hinge_loss, (GRID, BITS), "-1 or 1", 0.0),
        (losses.tversky_loss, (GRID, GRID + 2), "in [0, 1]", 2.0),
    ],
    "predictions": [
        (
            lambda p: losses.poisson_nll_loss(p, GRID, log_input=False),
            (GRID - 2,),
            "at least 0",
            -2.0,
        ),
        (losses.tversky_loss, (GRID - 3, GRID), "in [0, 1]", -3.0),
        (losses.iou_loss, (GRID + np.nan, GRID), "in [0, 1]", np.nan),
    ],
    "variances": [(losses.gaussian_nll_loss, (GRID, GRID, GRID - 1), "at least 0", -1.0)],
    "pos_weight": [
        (lambda w: losses.binary_cross_entropy_with_logits(GRID, BITS, pos_weight=w), (w,), *text)
        for w, text in (
            (-1.0, ("in [0, inf)", -1.0)),
            (np.ones(2), ("a number or have shape (3,)", "(2,)")),
        )
    ],
    "class_weights": [
        (lambda w: losses.cross_entropy(GRID, LABELS, class_weights=w), (w,), *text)
        for w, text in (
            (np.ones(4), ("shape (3,)", "(4,)")),
            (1.0, ("shape (3,)", "()")),
            (np.array([1.0, -2.0, 0.0]), ("in [0, inf)", -2.0)),
            (np.array([1.0, np.inf, 0.0]), ("finite", "array([ 1., inf,  0.])")),
        )
    ],
    "alpha": [
        (lambda a: losses.categorical_focal_loss(GRID, LABELS, alpha=a), (-0.5,), "[0, inf)", -0.5),
        (lambda a: losses.tversky_loss(GRID, GRID, alpha=a), (-0.5,), "[0, inf)", -0.5),
    ],
    "beta": [(lambda b: losses.tversky_loss(GRID, GRID, beta=b), (-1,), "[0, inf)", -1)],
    "smooth": [(lambda s: losses.iou_loss(GRID, GRID, smooth=s), (-1,), "[0, inf)", -1)],
    "gamma": [
        (lambda g: losses.categorical_focal_loss(GRID, LABELS, gamma=g), (-1.0,), "[0, inf)", -1.0),
        (lambda g: losses.circle_loss(EYE, LABELS, gamma=g), (-1.0,), "[0, inf)", -1.0),
    ],
    "margin": [
        (lambda m: losses.multiclass_margin_loss(GRID, LABELS, margin=m), (-1,), "[0, inf)", -1),
        (lambda m: losses.multilabel_margin_loss(GRID, BITS, margin=m), (-1,), "[0, inf)", -1),
        (lambda m: losses.margin_ranking_loss(GRID, GRID, SIGNS, margin=m), (-1,), "[0, inf)", -1),
        (lambda m: losses.hinge_embedding_loss(GRID, SIGNS, margin=m), (-1,), "[0, inf)", -1),
        (lambda m: losses.cosine_embedding_loss(EYE, EYE, [1, 1], margin=m), (2,), "[-1, 1]", 2),
        (lambda m: losses.circle_loss(EYE, LABELS, margin=m), (-0.1,), "[0, 1]", -0.1),
    ],
    "p": [
        (lambda p: losses.multiclass_margin_loss(GRID, LABELS, p=p), (p,), "1 or 2", p)
        for p in (0, 3, 1.5)
    ],
    "label_smoothing": [
        (lambda s: losses.cross_entropy(GRID, LABELS, label_smoothing=s), (1.1,), "[0, 1]", 1.1)
    ],
    "z_loss": [(lambda z: losses.cross_entropy(GRID, LABELS, z_loss=z), (-1.0,), "[0, inf)", -1.0)],
    "order": [(losses.margin_ranking_loss, (GRID, GRID, BITS), "-1 or 1", 0.0)],
    "labels": [
        (losses.hinge_embedding_loss, (GRID, BITS), "-1 or 1", 0.0),
        (losses.cosine_embedding_loss, (EYE, EYE, np.array([1, 0])), "-1 or 1", 0),
        (losses.multilabel_margin_loss, (GRID, BITS + 0.5), "0 or 1", 0.5),
        (losses.multilabel_soft_margin_loss, (GRID, BITS + 3), "in [0, 1]", 3.0),
        (losses.binary_cross_entropy_with_logits, (GRID, BITS - 1), "in [0, 1]", -1.0),
        *[
            (loss, (GRID, np.array([0, label])), "in [0, 3)", label)
            for loss in (
                losses.cross_entropy,
                losses.categorical_focal_loss,
                losses.categorical_hinge_loss,
                losses.multiclass_margin_loss,
            )
            for label in (3, -1)
        ],
    ],
    "embeddings": [(losses.circle_loss, (jnp.zeros(2), LABELS), "[examples, coordinates]", "(2,)")],
}


@pytest.mark.parametrize(
    ("name", "loss", "given", "allowed", "got"),
    [(name, *case) for name, cases in REFUSED.items() for case in cases],
)
def test_bad_values_are_refused_by_name(name, loss, given, allowed, got):
    message = f"{name} must .*{re.escape(allowed)}.*got .*{re.escape(str(got))}"
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        loss(*given)


@pytest.mark.parametrize("labels", [np.zeros(2), np.array([True, False])])
@pytest.mark.parametrize(
    "loss", [losses.cross_entropy, losses.multiclass_margin_loss, losses.circle_loss]
)
def test_labels_that_are_not_integers_are_a_type_error(loss, labels):
    with pytest.raises(TypeError, match=r"labels must be integers, got dtype (float32|bool)"):
        loss(EYE, labels)


def test_complex_predictions_are_a_type_error():
    with pytest.raises(TypeError, match="predictions must be real, got dtype complex64"):
        losses.absolute_error(GRID + 1j, GRID)


def test_ignore_index_must_be_in_the_range_of_the_labels_dtype():
    with pytest.raises(TypeError, match=r"ignore_index must be an integer, got 1\.0"):
        losses.cross_entropy(GRID, LABELS, ignore_index=1.0)
    with pytest.raises(ValueError, match=r"ignore_index must be in \[0, 255\].*got -100"):
        losses.cross_entropy(GRID, LABELS.astype(np.uint8), ignore_index=-100)


def test_concrete_labels_are_checked_during_differentiation():
    def loss(logits):
        return jnp.sum(losses.cross_entropy(logits, np.array([0, 3])))

    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\), got 3"):
        jax.grad(loss)(GRID)


def test_a_label_of_an_excluded_class_is_refused():
    where = np.array([[True, True, False], [True, True, True]])
    losses.cross_entropy(GRID, np.array([1, 2]), where=where)
    with pytest.raises(ValueError, match="labels must be of classes that where includes, got 2"):
        losses.cross_entropy(GRID, np.array([2, 2]), where=where)


@pytest.mark.parametrize(
    "loss",
    [
        losses.cross_entropy,
        losses.categorical_focal_loss,
        losses.categorical_hinge_loss,
        losses.multiclass_margin_loss,
    ],
)
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.int8])
def test_a_bad_label_in_compiled_code_has_loss_nan_and_gradient_0(loss, dtype):
    labels = jnp.array([0, -1, 3, 2, 1], dtype)
    where = jnp.full((5, 3), True).at[4, 1].set(False)
    scores = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    compiled = jax.jit(lambda scores, labels: loss(scores, labels, where=where))
    found, pull = jax.vjp(lambda scores: compiled(scores, labels), scores)
    np.testing.assert_array_equal(np.isnan(found), [False, True, True, False, True])
    (grads,) = pull(jnp.ones(5))
    assert np.all(np.isfinite(grads))
    assert np.all(grads[jnp.array([1, 2, 4])] == 0)


def test_settings_may_be_traced():
    logits = jnp.array([[1.0, 2.0]])
    labels = jnp.array([0])
    tuned = {
        "cross_entropy": ("label_smoothing", "z_loss"),
        "categorical_focal_loss": ("gamma", "alpha"),
        "multiclass_margin_loss": ("margin",),
    }
    for name, settings in tuned.items():
        loss = getattr(losses, name)
        for setting in settings:

            def total(x, loss=loss, setting=setting):
                return jnp.sum(loss(logits, labels, **{setting: x}))

            slope = jax.jit(jax.grad(total))(0.5)
            assert abs(slope - (total(0.51) - total(0.49)) / 0.02) < 1e-2
            assert abs(slope) > 1e-3
