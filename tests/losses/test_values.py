"""Derived values of single losses, and their relations to optax and to each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import mean_pinball_loss

from jaxdescent import losses
from tests.losses.cases import CLASSES, ROWS, WEIGHTS

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(3 * RNG.normal(size=(ROWS, CLASSES)), jnp.float32)
LABELS = RNG.integers(CLASSES, size=ROWS)
ONE_HOT = jax.nn.one_hot(LABELS, CLASSES)
A, B = jnp.asarray(RNG.normal(size=(2, 8)), jnp.float32)


def close(found, expected, tolerance=1e-6):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.95])
def test_the_quantile_loss_equals_scikit_learn(quantile):
    ours = jnp.mean(losses.quantile_loss(A, B, quantile))
    close(ours, mean_pinball_loss(np.asarray(B), np.asarray(A), alpha=quantile))


@pytest.mark.parametrize("quantile", [0.25, 0.8])
def test_the_quantile_loss_is_minimized_by_the_quantile(quantile):
    targets = jnp.arange(101.0)
    mean = jax.vmap(lambda p: jnp.mean(losses.quantile_loss(jnp.full(101, p), targets, quantile)))
    assert jnp.argmin(mean(targets)) == round(100 * quantile)


def test_each_entry_of_the_last_axis_can_have_its_own_quantile():
    errors = jnp.ones((2, 3))
    close(losses.quantile_loss(0 * errors, errors, [0.1, 0.5, 0.9]), [[0.1, 0.5, 0.9]] * 2)


def test_the_poisson_loss_is_minimized_by_the_logarithm_of_the_count():
    targets = jnp.array([1.0, 2.0, 30.0])
    slope = jax.grad(lambda p: jnp.sum(losses.poisson_nll_loss(p, targets)))(jnp.log(targets))
    close(slope, jnp.zeros(3), 1e-5)


def test_the_full_poisson_loss_is_the_negative_log_probability():
    counts = np.array([2.0, 5.0, 20.0])
    expected = -jax.scipy.stats.poisson.logpmf(counts, 4.0)
    found = losses.poisson_nll_loss(jnp.full(3, np.log(4.0)), counts, full=True)
    np.testing.assert_allclose(found, expected, atol=1 / (12 * 2))  # Stirling's next term


def test_the_exponential_continues_as_its_tangent():
    def loss(p):
        return losses.poisson_nll_loss(p, jnp.zeros(()))

    close(loss(jnp.float32(50)), np.exp(50), 1e-5)
    slopes = jax.vmap(jax.grad(loss))(jnp.array([60.0, 100.0, 1e4]))
    assert np.all(slopes == slopes[0])
    assert slopes[0] > 1e25


def test_the_full_gaussian_loss_is_the_negative_log_density():
    found = losses.gaussian_nll_loss(A, B, jnp.full(8, 2.0), full=True)
    close(found, -jax.scipy.stats.norm.logpdf(B, A, np.sqrt(2)), 1e-5)


def test_a_variance_of_zero_has_a_gradient():
    def loss(v):
        return losses.gaussian_nll_loss(jnp.zeros(()), jnp.ones(()), v, eps=0.1)

    close(loss(0.0), 0.5 * (np.log(0.1) + 10))
    close(jax.grad(loss)(0.0), 0.5 * (10 - 100), 1e-5)
    close(jax.jit(loss)(-1e9), loss(0.0))


def test_percentages_of_tiny_targets_are_relative_to_eps():
    close(losses.absolute_percentage_error(1.0, 0.0, eps=0.5), 200.0)


def test_negative_values_are_clipped_to_0_in_a_log_error():
    close(losses.squared_log_error(jnp.array([-5.0]), jnp.array([np.e - 1])), [1.0])


def test_without_options_the_cross_entropies_equal_optax():
    expected = optax.losses.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS)
    close(losses.cross_entropy(LOGITS, LABELS), expected)
    close(losses.categorical_focal_loss(LOGITS, LABELS, gamma=0.0, alpha=1.0), expected)
    expected = optax.losses.sigmoid_binary_cross_entropy(LOGITS, ONE_HOT)
    close(losses.binary_cross_entropy_with_logits(LOGITS, ONE_HOT), expected)
    close(
        losses.multilabel_soft_margin_loss(LOGITS, ONE_HOT, class_weights=WEIGHTS),
        jnp.mean(WEIGHTS * expected, axis=-1),
    )


def test_label_smoothing_is_the_cross_entropy_of_smooth_labels():
    smooth = optax.losses.smooth_labels(ONE_HOT, 0.3)
    expected = optax.losses.softmax_cross_entropy(LOGITS, smooth)
    close(losses.cross_entropy(LOGITS, LABELS, label_smoothing=0.3), expected)


def test_the_z_loss_is_the_square_of_the_normalizer():
    difference = losses.cross_entropy(LOGITS, LABELS, z_loss=0.5) - losses.cross_entropy(
        LOGITS, LABELS
    )
    close(difference, 0.5 * jax.nn.logsumexp(LOGITS, axis=-1) ** 2, 2e-6)
    shifted = jax.grad(lambda x: losses.cross_entropy(LOGITS[0] + x, LABELS[0], z_loss=0.5))(0.0)
    close(shifted, jax.nn.logsumexp(LOGITS[0]), 1e-5)  # the cross entropy ignores a shift


def test_a_common_offset_does_not_reduce_precision():
    steps = jnp.round(LOGITS * 64) / 64  # 1e4 + steps is exact
    assert np.all(losses.cross_entropy(steps + 1e4, LABELS) == losses.cross_entropy(steps, LABELS))


@pytest.mark.parametrize("ignored", [-100, 0])
def test_an_ignored_label_equals_a_mask(ignored):
    labels = np.where(np.arange(ROWS) % 2, LABELS, ignored)
    poisoned = jnp.where((labels == ignored)[:, None], jnp.nan, LOGITS)
    options = {"class_weights": WEIGHTS, "label_smoothing": 0.1, "z_loss": 0.1}

    def total(logits, **more):
        found = losses.cross_entropy(logits, labels, **options, **more)
        return jnp.sum(found), found

    ignoring = jax.grad(total, has_aux=True)(poisoned, ignore_index=ignored)
    masking = jax.grad(total, has_aux=True)(poisoned, where=labels != ignored)
    for found, expected in zip(ignoring, masking, strict=True):
        np.testing.assert_array_equal(found, expected)
    both = losses.cross_entropy(
        LOGITS, labels, ignore_index=ignored, where=np.arange(ROWS) != 1, **options
    )
    assert both[1] == 0
    assert both[3] == masking[1][3]


def weighted_mean(logits, labels, weights, ignored, smoothing):
    """Returns PyTorch's mean, example by example in float64."""
    total = divisor = 0.0
    for x, y in zip(np.reshape(logits, (-1, CLASSES)), np.ravel(labels), strict=True):
        if y == ignored:
            continue
        log_p = np.float64(x) - np.log(np.sum(np.exp(np.float64(x))))
        total -= (1 - smoothing) * weights[y] * log_p[y]
        total -= smoothing / CLASSES * np.sum(weights * log_p)
        divisor += weights[y]
    return total / divisor


@pytest.mark.parametrize(
    ("weights", "ignored", "smoothing"),
    [(None, None, 0.0), (WEIGHTS, -100, 0.0), (WEIGHTS, 2, 0.2), (None, 0, 0.2)],
)
def test_the_mean_cross_entropy_divides_by_the_weights_of_the_labels(weights, ignored, smoothing):
    labels = np.where(np.arange(ROWS) % 3, LABELS, LABELS if ignored is None else ignored)
    options = {"class_weights": weights, "ignore_index": ignored, "label_smoothing": smoothing}
    numbers = np.ones(CLASSES) if weights is None else weights
    expected = weighted_mean(LOGITS, labels, numbers, ignored, smoothing)
    for shape in ((ROWS,), (1, 2, 3)):  # examples, or pixels
        pixels = jnp.reshape(LOGITS, (*shape, CLASSES)), labels.reshape(shape)
        close(losses.mean_cross_entropy(*pixels, **options), expected, 1e-5)

    def mean(logits):
        return losses.mean_cross_entropy(logits, labels, **options)

    step = 1e-2 * jnp.ones(CLASSES).at[0].set(-1)
    change = weighted_mean(LOGITS + step, labels, numbers, ignored, smoothing) - weighted_mean(
        LOGITS - step, labels, numbers, ignored, smoothing
    )
    close(2 * jnp.vdot(jax.grad(mean)(LOGITS), step + 0 * LOGITS), change, 1e-5)


def test_a_mask_an_ignored_label_and_a_weight_of_0_are_left_out_of_the_mean_cross_entropy():
    keep = np.array([True, True, False, True, True, True])
    labels = np.where(np.arange(ROWS) == 4, -100, LABELS)
    poisoned = LOGITS.at[2].set(jnp.nan).at[4].set(jnp.inf)
    found = losses.mean_cross_entropy(
        poisoned, labels, class_weights=WEIGHTS, ignore_index=-100, where=keep, z_loss=0.5
    )
    left = [0, 1, 3, 5]
    expected = weighted_mean(LOGITS[jnp.array(left)], LABELS[left], WEIGHTS, None, 0.0)
    penalty = np.mean(np.log(np.sum(np.exp(np.float64(LOGITS[jnp.array(left)])), -1)) ** 2) / 2
    close(found, expected + penalty, 1e-5)
    no_weight = jax.value_and_grad(
        lambda x: losses.mean_cross_entropy(x, LABELS, class_weights=np.zeros(CLASSES))
    )(LOGITS)
    assert all(np.all(leaf == 0) for leaf in no_weight)
    assert losses.mean_cross_entropy(LOGITS, LABELS, where=~keep & keep) == 0
    invalid = jax.jit(losses.mean_cross_entropy)(LOGITS, labels)
    assert np.isnan(invalid)


INF = np.inf


def test_a_logit_of_minus_infinity_rules_a_class_out():
    x, y = jnp.array([[1.0, -INF, 0.5]]), np.array([0])
    two = np.log1p(np.exp(-0.5))  # the cross entropy of the two classes that are left
    close(losses.cross_entropy(x, y), [two])
    close(losses.cross_entropy(x, np.array([1])), [INF])
    close(losses.categorical_focal_loss(x, np.array([1])), [INF])
    expected = [[np.log1p(np.exp(-1.0)), 0.0, np.log1p(np.exp(0.5))]]
    close(losses.binary_cross_entropy_with_logits(x, [[1.0, 0.0, 0.0]]), expected)
    close(losses.multilabel_soft_margin_loss(x, [[1.0, 0.0, 0.0]]), [np.mean(expected)])
    close(losses.multiclass_margin_loss(x, y), [0.5 / 3])
    close(losses.multilabel_margin_loss(x, [[1, 0, 0]]), [0.5 / 3])
    close(losses.categorical_hinge_loss(x, y), [0.5])
    weights = jnp.array([1.0, 0.0, 1.0])  # a weight of 0 excludes a class from the smoothing
    smooth = losses.cross_entropy(x, y, class_weights=weights, label_smoothing=0.3)
    close(smooth, [0.7 * two + 0.3 / 3 * (2 * two + 0.5)])


@pytest.mark.parametrize(
    ("row", "label", "expected"),
    [
        ([INF, 0.0], 0, 0.0),
        ([INF, 0.0], 1, INF),
        ([INF, INF, 0.0], 1, np.log(2)),
        ([-INF, -INF], 0, np.log(2)),
        ([-INF, 3.0], 1, 0.0),
    ],
)
def test_equal_logits_have_equal_probabilities_even_if_they_are_infinite(row, label, expected):
    row, label = jnp.array([row]), np.array([label])
    for loss in (losses.cross_entropy, losses.mean_cross_entropy):
        value, slope = jax.value_and_grad(lambda x: jnp.sum(loss(x, label)))(row)  # noqa: B023
        close(value, expected)
        assert np.all(np.isfinite(slope))
    features = jnp.ones((1, 1))
    value, slopes = jax.value_and_grad(losses.linear_cross_entropy, (0, 1))(
        features, jnp.zeros(row.shape), label, bias=row[0]
    )
    close(value, expected)
    assert all(np.all(np.isfinite(slope)) for slope in slopes)


def test_an_infinite_normalizer_has_an_infinite_z_loss_without_nan():
    for row in ([INF, 0.0], [-INF, -INF]):
        value, slope = jax.value_and_grad(
            lambda x: jnp.sum(losses.cross_entropy(x, np.array([0]), z_loss=0.1))
        )(jnp.array([row]))
        assert value == INF
        assert not np.any(np.isnan(slope))


def test_rates_and_variances_may_be_0_or_infinite():
    rates, counts = jnp.array([-INF, -INF, INF, INF]), jnp.array([0.0, 2.0, 0.0, 2.0])
    close(losses.poisson_nll_loss(rates, counts), [0.0, INF, INF, INF])
    close(losses.poisson_nll_loss(jnp.exp(rates), counts, log_input=False)[2:], [INF, INF])
    found = losses.gaussian_nll_loss(jnp.zeros(1), jnp.ones(1), jnp.array([INF]))
    close(found, [INF])


def test_the_gaussian_loss_scales_errors_before_it_squares_them():
    found = losses.gaussian_nll_loss(jnp.zeros(1), jnp.array([3e25]), jnp.array([1e36]))
    close(found, [0.5 * np.log(1e36) + 0.5 * (3e7) ** 2], 1e-5)
    small = losses.gaussian_nll_loss(
        jnp.zeros(1), jnp.array([1e-25]), jnp.ones(1) * 1e-36, eps=1e-38
    )
    close(small, [0.5 * np.log(1e-36) + 0.5 * (1e-7) ** 2], 1e-5)


@pytest.mark.parametrize("variance", [1e-30, 1e37])
def test_the_gradient_of_the_gaussian_loss_is_finite_at_small_and_large_variances(variance):
    def loss(v):
        return losses.gaussian_nll_loss(jnp.zeros(1), jnp.array([1e-20]), v, eps=1e-38)[0]

    slope = jax.grad(loss)(jnp.array([variance]))
    np.testing.assert_allclose(slope * variance, [(1 - 1e-40 / variance) / 2], rtol=1e-4)


@pytest.mark.parametrize("p", [1, 2])
def test_a_class_of_weight_0_has_margin_loss_and_gradient_0_at_infinite_scores(p):
    def loss(x):
        return losses.multiclass_margin_loss(
            x, np.array([0]), p=p, class_weights=jnp.array([0.0, 1.0])
        )[0]

    value, slope = jax.value_and_grad(loss)(jnp.array([[-INF, 1.0]]))
    assert value == 0
    close(slope, np.zeros((1, 2)))


def test_the_focal_loss_at_probability_one_half_is_a_quarter_of_the_cross_entropy():
    found = losses.categorical_focal_loss(jnp.zeros((1, 2)), np.array([0]), gamma=2.0, alpha=1.0)
    close(found, [np.log(2) / 4])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_the_focal_loss_at_probability_1_has_value_and_gradient_0(gamma):
    def loss(x):
        return losses.categorical_focal_loss(x, np.array(0), gamma=gamma)

    value, slope = jax.value_and_grad(loss)(jnp.array([1e4, -1e4, 0.0]))
    assert value == 0
    assert np.all(slope == 0)


def test_squared_and_categorical_hinge_equal_optax_except_for_the_square_and_the_zero():
    signs = np.sign(np.asarray(B))
    close(losses.squared_hinge_loss(A, signs), optax.losses.hinge_loss(A, signs) ** 2)
    above = LOGITS - jnp.min(LOGITS) + 1
    close(
        losses.categorical_hinge_loss(above, LABELS),
        optax.losses.multiclass_hinge_loss(above, LABELS)
        * (losses.categorical_hinge_loss(above, LABELS) > 0),
    )
    close(losses.categorical_hinge_loss(jnp.array([0.5, -3.0]), np.array(0)), 0.5)


def test_a_multiclass_margin_sums_over_classes_within_the_margin():
    scores, label = jnp.array([1.0, 0.5, -1.0, 2.0]), np.array(0)
    close(losses.multiclass_margin_loss(scores, label), (0.5 + 0 + 2) / 4)
    close(losses.multiclass_margin_loss(scores, label, p=2, margin=2.0), (2.25 + 0 + 9) / 4)


def test_a_multilabel_margin_of_one_label_equals_the_multiclass_margin():
    found = losses.multilabel_margin_loss(LOGITS, ONE_HOT, margin=2.0)
    close(found, losses.multiclass_margin_loss(LOGITS, LABELS, margin=2.0))


def test_ranking_is_antisymmetric_in_its_pair():
    order = np.sign(np.asarray(A))
    close(
        losses.margin_ranking_loss(A, B, order, margin=0.3),
        losses.margin_ranking_loss(B, A, -order, margin=0.3),
    )
    close(
        losses.margin_ranking_loss(A, B, order) - losses.margin_ranking_loss(A, B, -order),
        -order * (A - B),
    )


def test_the_cosine_ignores_lengths_and_is_finite_at_zero():
    pairs = np.array([1, -1])
    first, second = A.reshape(2, 4), B.reshape(2, 4)
    found = losses.cosine_embedding_loss(first, second, pairs)
    close(found, losses.cosine_embedding_loss(50 * first, 0.1 * second, pairs), 1e-5)
    close(found, losses.cosine_embedding_loss(second, first, pairs))
    close(losses.cosine_embedding_loss(first, 0 * first, pairs), [1, 0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("length", [1e38, 1e20, 1e-25])
def test_long_and_short_vectors_have_the_cosines_and_circle_losses_of_unit_vectors(length, dtype):
    first, second = (x.reshape(2, 4).astype(dtype) for x in (A, B))
    pairs, labels = np.array([1, -1]), np.array([0, 0, 1, 1])

    def cosine(scale):
        return losses.cosine_embedding_loss(first * scale, second * scale, pairs)

    def circle(scale):
        vectors = jnp.concatenate([first, second]) * scale
        return losses.circle_loss(vectors, labels, gamma=2.0)

    scale = jnp.asarray(length, dtype)
    tolerance = 1e-5 if dtype == "float32" else 0.05
    close(cosine(scale), cosine(jnp.asarray(1, dtype)), tolerance)
    close(circle(scale), circle(jnp.asarray(1, dtype)), tolerance)


def test_the_gradient_of_a_cosine_is_inverse_to_the_length_and_0_at_0():
    b = jnp.array([[1.0, 1.0]])

    def loss(a):
        return losses.cosine_embedding_loss(a, b, np.array([1]))[0]

    for length in (1e20, 1.0, 1e-25):
        slope = jax.grad(loss)(jnp.array([[length, 0.0]]))
        close(slope * length, [[0.0, -np.sqrt(0.5)]], 1e-5)
    assert np.all(jax.grad(loss)(jnp.zeros((1, 2))) == 0)


def test_the_cosine_of_a_dissimilar_pair_is_penalized_above_the_margin():
    def loss(margin):
        return losses.cosine_embedding_loss(
            jnp.array([3.0, 4.0]), jnp.array([4.0, 3.0]), np.array(-1), margin=margin
        )

    close([loss(0.5), loss(0.99), loss(-1.0)], [0.46, 0.0, 1.96])


def test_the_circle_loss_equals_its_formula():
    embeddings, labels = LOGITS, np.array([0, 0, 0, 1, 1, 2])
    gamma, m = 3.0, 0.25
    units = np.asarray(embeddings, np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    s = units @ units.T
    expected = []
    for i in range(ROWS):
        p = [s[i, j] for j in range(ROWS) if j != i and labels[j] == labels[i]]
        n = [s[i, j] for j in range(ROWS) if labels[j] != labels[i]]
        pull = sum(np.exp(-gamma * max(0, 1 + m - x) * (x - 1 + m)) for x in p)
        push = sum(np.exp(gamma * max(0, x + m) * (x - m)) for x in n)
        expected.append(np.log1p(pull * push))
    close(losses.circle_loss(embeddings, labels, gamma=gamma, margin=m), expected, 1e-5)
    assert expected[-1] == 0


def test_a_batch_of_one_class_has_circle_loss_and_derivatives_0():
    def loss(x):
        return jnp.sum(losses.circle_loss(x, np.zeros(ROWS, int)))

    value, slope = jax.jit(jax.value_and_grad(loss))(LOGITS)
    _, curvature = jax.jit(lambda x: jax.jvp(jax.grad(loss), (x,), (x,)))(LOGITS)
    assert value == 0
    assert np.all(slope == 0)
    assert np.all(curvature == 0)


PIXELS = jnp.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
TRUTH = jnp.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])  # TP 1, FP 2, FN 1


def test_the_tversky_loss_counts_true_positives_false_positives_and_false_negatives():
    def tversky(a, b, s=0.0):
        return losses.tversky_loss(PIXELS, TRUTH, alpha=a, beta=b, smooth=s)

    close(tversky(0.5, 0.5), 1 - 2 / (3 + 2))  # Dice
    close(tversky(1.0, 0.0), 1 - 1 / 3)  # precision
    close(tversky(0.0, 1.0), 1 - 1 / 2)  # recall
    close(tversky(1.0, 1.0, 2.0), 1 - 3 / 6)
    close(losses.iou_loss(PIXELS, TRUTH, smooth=0.0), 1 - 1 / 4)


def test_the_tversky_loss_equals_optax_dice_loss_of_one_class():
    def classes(p):
        return jnp.stack([1 - p, p], axis=-1)[None]

    p, y = jax.nn.sigmoid(A), (B > 0).astype(jnp.float32)
    settings = {"alpha": 0.2, "beta": 0.7, "smooth": 0.5}
    per_class = optax.losses.dice_loss(
        classes(p), classes(y), apply_softmax=False, reduction="none", **settings
    )
    close(losses.tversky_loss(p, y, **settings), per_class[0, 1])


def test_empty_regions_overlap_fully():
    empty = jnp.zeros(4)
    for smooth in (0.0, 1.0):

        def loss(p, smooth=smooth):
            return losses.tversky_loss(p, empty, smooth=smooth)

        assert loss(empty) == 0
        assert np.all(np.isfinite(jax.grad(loss)(empty)))
    assert losses.iou_loss(PIXELS, TRUTH, smooth=0.0, where=np.full(6, False)) == 0


def test_the_masked_mean_is_the_mean_of_the_included_losses():
    values = jnp.array([[1.0, np.nan], [3.0, 5.0]])
    where = jnp.array([[True, False], [True, True]])
    close(losses.masked_mean(values, where), 3.0)
    close(losses.masked_mean(values, where, axis=1), [1.0, 4.0])
    close(losses.masked_mean(values[1]), 4.0)
    assert losses.masked_mean(values, ~where & where) == 0
    slope = jax.grad(lambda v: losses.masked_mean(v, where))(values)
    close(slope, np.asarray(where) / 3)
    many = jnp.ones(1000, jnp.bfloat16)
    assert losses.masked_mean(many, many > 0) == 1
    with pytest.raises(ValueError, match=r"where must have the shape \(2, 2\), got \(2,\)"):
        losses.masked_mean(values, where[0])
    with pytest.raises(TypeError, match="where must be boolean"):
        losses.masked_mean(values, values)
