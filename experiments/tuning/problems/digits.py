"""Normalized digits on the device."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.data import digits


def load(*, classes: range = range(10), quarter_turns: int = 0) -> tuple[Any, Any]:
    """Returns the training examples and the held-out ones: pairs f32[n, 64] and i32[n].

    Args:
      classes: the digits to select; they are labeled from 0.
      quarter_turns: by 90 degrees each, of all images.
    """
    data = digits.load()

    def selected(*parts: Any) -> Any:
        pairs = [data.normalized(part) for part in parts]
        x, y = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
        x = np.rot90(x.reshape(len(x), 8, 8), quarter_turns, axes=(1, 2)).reshape(len(x), 64)
        chosen = np.isin(y, classes)
        return jnp.asarray(x[chosen]), jnp.asarray(y[chosen] - classes.start)

    return selected(data.train), selected(data.validation, data.test)
