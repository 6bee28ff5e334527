"""Class weights against imbalance: a loss in which each class counts the same.

    w_c = n / (classes * n_c)

Here n is the number of training examples and n_c of them are of class c; the mean weight of a
training example is 1. Without weights, a network on a set with 74% positive examples gains by
calling too many examples positive. With them, its log-odds are those for a set with equal classes:
its ranking may improve, but its probabilities are too low for the frequent class, until they are
recalibrated.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tasks import Task


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns the weight of each class, f32[classes].

    Args:
      labels: i32[n], of training examples.
      classes: the number of classes.

    Raises:
      ValueError: a class has no example.

    Example:
      >>> class_weights(np.array([0, 1, 1, 1]), 2)
      array([2.       , 0.6666667], dtype=float32)
    """
    counts = np.bincount(labels, minlength=classes)
    if counts.min() == 0:
        raise ValueError(
            f"labels must have examples of all {classes} classes, got none of {counts.argmin()}"
        )
    return (len(labels) / (classes * counts)).astype(np.float32)


def balanced(task: Task) -> Task:
    """Returns the task with weighted cross entropy as its loss.

    The scores also have the cross entropy without weights, as "unweighted_loss".

    Args:
      task: a classification task.

    Raises:
      ValueError: the task is not a classification, or a class has no training example.

    Example:
      >>> from experiments import tasks
      >>> task = balanced(tasks.load("breast_cancer", tasks.ModelConfig("mlp")))
      >>> task.name
      'breast_cancer'
    """
    classes = task.dataset.classes if task.dataset else 0
    if not classes:
        raise ValueError(f"task must be a classification, got {task.name}")
    weights = class_weights(task.train.arrays.targets, classes)

    def scores(model: Any, batch: Any, key: jax.Array | None) -> dict[str, jax.Array]:
        found = task.scores(model, batch, key)
        weighted = jnp.asarray(weights)[batch.targets] * found["loss"]
        return {**found, "loss": weighted, "unweighted_loss": found["loss"]}

    return task._replace(scores=scores)
