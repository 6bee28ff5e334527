"""Optimizers of language models: AdamW whose weight decay acts on matrices only.

Embeddings are matrices; biases and the scales of normalization layers are not. nanoGPT's schedule
of step t is

    peak (t + 1) / (warmup + 1)                                             for t < warmup
    low + (peak - low) (1 + cos(pi (t - warmup) / (steps - warmup))) / 2    until t = steps

Source: A. Karpathy, nanoGPT (2022), `configure_optimizers` and `get_lr`.
"""

from functools import partial
from typing import Any

import jax
import optax

CLIP = 1.0


def matrices(params: Any) -> Any:
    """Returns a tree with True for the leaves that have two or more axes.

    Example:
      >>> import jax.numpy as jnp
      >>> matrices({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)})
      {'bias': False, 'kernel': True}
    """
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


adamw = partial(optax.adamw, b2=0.99, weight_decay=0.1, mask=matrices)
"""Called as `adamw(learning_rate=..., weight_decay=...)`; by default with nanoGPT's decay, 0.1."""


def published_schedule(
    steps: int, *, peak: float = 1e-3, low: float = 1e-4, warmup: int = 100
) -> optax.Schedule:
    """Returns nanoGPT's schedule of the learning rate.

    Example:
      >>> round(float(published_schedule(2_000)(1_050)), 6)
      0.00055
    """
    return optax.warmup_cosine_decay_schedule(peak / (warmup + 1), peak, warmup, steps, low)


def published(steps: int, *, b2: float = 0.99, **schedule: Any) -> optax.GradientTransformation:
    """Returns nanoGPT's optimizer: `adamw` with clipped gradients and `published_schedule`."""
    rate = published_schedule(steps, **schedule)
    return optax.chain(optax.clip_by_global_norm(CLIP), adamw(rate, b2=b2))
