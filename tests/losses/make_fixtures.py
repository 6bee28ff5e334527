"""Creates references.npz: losses and gradients of PyTorch and Keras, for float64 inputs.

    pip install numpy torch keras && python tests/losses/make_fixtures.py

Run it in a separate environment; no other part of the project needs these packages. Each case
holds its inputs (rounded to float32), `loss`, and the gradients of sum(cotangents * loss), named
after the inputs. The file records the package versions. Keras computes some sums in float32 even
for float64 inputs, hence the small exponents in its circle loss.
"""

import os
import zlib
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from torch.nn import functional

PLACE = Path(__file__).parent / "references.npz"
ROWS, CLASSES = 6, 5
arrays = {"versions": np.array(f"torch {torch.__version__}, keras {keras.__version__}")}


def case(name, loss, **inputs):
    """Stores a loss, and its gradients with respect to the inputs that are floats."""
    made = {}
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for argument, make in inputs.items():
        made[argument] = make(rng)
        if np.issubdtype(made[argument].dtype, np.floating):
            made[argument] = made[argument].astype(np.float32).astype(np.float64)
    tensors = {k: torch.tensor(v) for k, v in made.items()}
    leaves = {k: v.requires_grad_() for k, v in tensors.items() if v.is_floating_point()}
    value = loss(**tensors)
    cotangents = rng.normal(size=value.shape).astype(np.float32).astype(np.float64)
    grads = torch.autograd.grad((torch.tensor(cotangents) * value).sum(), list(leaves.values()))
    for argument, array in made.items():
        small = array.dtype if array.dtype == bool else np.int8
        floating = np.issubdtype(array.dtype, np.floating)
        arrays[f"{name}/{argument}"] = array.astype(np.float32 if floating else small)
    arrays[f"{name}/loss"] = value.detach().numpy()
    arrays[f"{name}/cotangents"] = cotangents.astype(np.float32)
    for argument, grad in zip(leaves, grads, strict=True):
        arrays[f"{name}/d_{argument}"] = grad.numpy()


def normal(*shape, scale=1.0):
    return lambda rng: scale * rng.normal(size=shape)


def uniform(*shape, low=0.0, high=1.0):
    return lambda rng: rng.uniform(low, high, size=shape)


def counts(*shape):
    return lambda rng: rng.poisson(3.0, size=shape)


def integers(*shape, high=CLASSES):
    return lambda rng: rng.integers(high, size=shape)


def signs(*shape):
    return lambda rng: 2 * rng.integers(2, size=shape) - 1


def bits(*shape):
    return lambda rng: rng.integers(2, size=shape).astype(bool)


FLAT, GRID = (12,), (ROWS, CLASSES)
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 0.25, 3.0], dtype=torch.float64)
none = {"reduction": "none"}


def one_hot(labels):
    return functional.one_hot(labels, CLASSES).double()


pair = {"predictions": normal(*FLAT), "targets": normal(*FLAT)}
case(
    "torch.l1",
    lambda predictions, targets: functional.l1_loss(predictions, targets, **none),
    **pair,
)
for full in (False, True):
    case(
        f"torch.poisson_log full={full}",
        lambda predictions, targets, full=full: functional.poisson_nll_loss(
            predictions, targets.double(), full=full, **none
        ),
        predictions=normal(*FLAT),
        targets=counts(*FLAT),
    )
    case(
        f"torch.gaussian full={full}",
        lambda predictions, targets, variances, full=full: functional.gaussian_nll_loss(
            predictions, targets, variances, full=full, eps=0.25, **none
        ),
        predictions=normal(*FLAT),
        targets=normal(*FLAT),
        variances=uniform(*FLAT),
    )
case(
    "torch.poisson_rate",
    lambda predictions, targets: functional.poisson_nll_loss(
        predictions, targets.double(), log_input=False, **none
    ),
    predictions=uniform(*FLAT, high=4.0),
    targets=counts(*FLAT),
)
case(
    "torch.binary",
    lambda logits, labels: functional.binary_cross_entropy_with_logits(
        logits, labels, pos_weight=WEIGHTS, **none
    ),
    logits=normal(*GRID, scale=3),
    labels=uniform(*GRID),
)
for name, options in {
    "plain": {},
    "weights": {"weight": WEIGHTS},
    "ignore": {"ignore_index": 2},
    "smooth": {"label_smoothing": 0.1},
    "all": {"weight": WEIGHTS, "ignore_index": 2, "label_smoothing": 0.1},
}.items():
    case(
        f"torch.cross_entropy {name}",
        lambda logits, labels, options=options: functional.cross_entropy(
            logits, labels, **options, **none
        ),
        logits=normal(*GRID, scale=3),
        labels=integers(ROWS),
    )
case(
    "torch.margin_ranking",
    lambda first, second, order: functional.margin_ranking_loss(
        first, second, order, margin=0.5, **none
    ),
    first=normal(*FLAT),
    second=normal(*FLAT),
    order=signs(*FLAT),
)
case(
    "torch.hinge_embedding",
    lambda distances, labels: functional.hinge_embedding_loss(
        distances, labels, margin=1.5, **none
    ),
    distances=uniform(*FLAT, high=3.0),
    labels=signs(*FLAT),
)
case(
    "torch.cosine_embedding",
    lambda first, second, labels: functional.cosine_embedding_loss(
        first, second, labels, margin=0.1, **none
    ),
    first=normal(4 * ROWS, CLASSES),
    second=normal(4 * ROWS, CLASSES),
    labels=signs(4 * ROWS),
)
for p in (1, 2):
    case(
        f"torch.multi_margin p={p}",
        lambda scores, labels, p=p: functional.multi_margin_loss(
            scores, labels, p=p, margin=0.75, weight=WEIGHTS, **none
        ),
        scores=normal(*GRID),
        labels=integers(ROWS),
    )


def multilabel_margin(scores, labels):
    indices = torch.full(labels.shape, -1)
    for row, present in zip(indices, labels, strict=True):
        row[: present.sum()] = present.nonzero()[:, 0]
    return functional.multilabel_margin_loss(scores, indices, **none)


case("torch.multilabel_margin", multilabel_margin, scores=normal(*GRID), labels=bits(*GRID))
case(
    "torch.multilabel_soft_margin",
    lambda logits, labels: functional.multilabel_soft_margin_loss(
        logits, labels.double(), weight=WEIGHTS, **none
    ),
    logits=normal(*GRID),
    labels=bits(*GRID),
)

# Keras returns means over the last axis for losses of elements.
grids = {"predictions": normal(*GRID), "targets": normal(*GRID)}
for name, loss in {
    "mae": keras.losses.mean_absolute_error,
    "msle": keras.losses.mean_squared_logarithmic_error,
}.items():
    case(
        f"keras.{name}",
        lambda predictions, targets, loss=loss: loss(targets, predictions),
        **grids,
    )
case(
    "keras.mape",
    lambda predictions, targets: keras.losses.mean_absolute_percentage_error(targets, predictions),
    predictions=uniform(*GRID, low=-2.0, high=-0.5),  # no cancellation in 100 p / t^2
    targets=uniform(*GRID, low=-2.0, high=-0.5),
)
case(
    "keras.poisson",
    lambda predictions, targets: keras.losses.poisson(targets, predictions),
    predictions=uniform(*GRID, high=4.0),
    targets=counts(*GRID),
)
case(
    "keras.squared_hinge",
    lambda predictions, targets: keras.losses.squared_hinge(targets, predictions),
    predictions=normal(*GRID),
    targets=signs(*GRID),
)
case(
    "keras.categorical_hinge",
    lambda scores, labels: keras.losses.categorical_hinge(one_hot(labels), scores),
    scores=normal(*GRID),
    labels=integers(ROWS),
)
case(
    "keras.cross_entropy",
    lambda logits, labels: keras.losses.sparse_categorical_crossentropy(
        labels, logits, from_logits=True
    ),
    logits=normal(*GRID, scale=3),
    labels=integers(ROWS),
)
for gamma in (0.5, 2.0):
    case(
        f"keras.focal gamma={gamma}",
        lambda logits, labels, gamma=gamma: keras.losses.categorical_focal_crossentropy(
            one_hot(labels), logits, alpha=WEIGHTS, gamma=gamma, from_logits=True
        ),
        logits=normal(*GRID),
        labels=integers(ROWS),
    )
for name, alpha, beta in (("tversky", 0.3, 0.7), ("jaccard", 1.0, 1.0)):
    case(
        f"keras.{name}",
        lambda predictions, targets, alpha=alpha, beta=beta: keras.losses.tversky(
            targets, predictions, alpha=alpha, beta=beta, axis=1
        ),
        predictions=uniform(*GRID),
        targets=bits(*GRID),
    )
case(
    "keras.circle",
    lambda embeddings, labels: keras.losses.circle(
        labels, functional.normalize(embeddings, dim=1), gamma=2.0, margin=0.25
    ),
    embeddings=normal(2 * ROWS, CLASSES),
    labels=integers(2 * ROWS, high=3),
)

np.savez_compressed(PLACE, **arrays)
print(arrays["versions"], len(arrays), "arrays,", PLACE.stat().st_size, "bytes")
