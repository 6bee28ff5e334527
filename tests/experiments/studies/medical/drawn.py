"""Labels and scores for the tests of the medical study."""

import numpy as np


def draw(seed, *, positives=23, negatives=17, decimals=1):
    """Returns shuffled labels and scores; few decimals make ties within and between classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(positives + negatives) < positives
    scores = rng.normal(size=len(labels)) + 1.2 * labels
    order = rng.permutation(len(labels))
    return labels[order].astype(int), scores[order].round(decimals)
