"""A balanced task gives each class the same share of the loss, and keeps the other scores."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from experiments import tasks
from experiments.data import Dataset, Split
from experiments.studies.medical.weighting import balanced, class_weights


def small_task(labels, classes=2):
    rng = np.random.default_rng(0)
    targets = np.array(labels, np.int32 if classes else np.float32)
    inputs = rng.normal(size=(len(targets), 4)).astype(np.float32)
    part = Split(inputs, targets if classes else targets[:, None])
    dataset = Dataset.from_parts("small", (part, part, part), classes, "drawn at random")
    return tasks.supervised(dataset, tasks.ModelConfig("mlp", width=4))


@pytest.mark.parametrize("counts", [(1, 1), (3, 9), (5, 2, 4)])
def test_the_weights_equal_scikit_learns(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    wanted = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    np.testing.assert_allclose(class_weights(labels, len(counts)), wanted, rtol=1e-6)


def test_the_loss_is_the_mean_over_classes_of_their_mean_loss():
    task = small_task([0] * 3 + [1] * 9)
    weighted = balanced(task)
    batch = task.batch_of(task.train.arrays, jnp.arange(12))
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(12, 2)), jnp.float32)
    plain = task.scores(lambda x: logits, batch, None)
    found = weighted.scores(lambda x: logits, batch, None)
    assert {*found} == {*plain, "unweighted_loss"}
    np.testing.assert_array_equal(found["unweighted_loss"], plain["loss"])
    np.testing.assert_array_equal(found["accuracy"], plain["accuracy"])
    by_class = plain["loss"][:3].mean(), plain["loss"][3:].mean()
    assert float(found["loss"].mean()) == pytest.approx(float(sum(by_class)) / 2, rel=1e-6)
    assert weighted.digest() == task.digest()


def test_tasks_without_all_classes_are_refused():
    with pytest.raises(ValueError, match="examples of all 2 classes, got none of 0"):
        balanced(small_task([1, 1, 1]))
    with pytest.raises(ValueError, match="task must be a classification, got small"):
        balanced(small_task([0.5, 1.0, 2.0], classes=0))
