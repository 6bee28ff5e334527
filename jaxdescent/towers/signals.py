"""Signals: how the loss reaches the hyperparameters.

`one_step` is the published method: G = (dU/dh)^T g, the effect that the last update's
hyperparameters had on the loss right after it. What it did to later steps, through the
optimizer's memory, is not counted.

Source: K. Chandra, A. Xie, J. Ragan-Kelley, E. Meijer, "Gradient Descent: The Ultimate
Optimizer", NeurIPS 2022, arXiv:1909.13371; for one rate, A. G. Baydin et al., "Online
Learning Rate Adaptation with Hypergradient Descent", ICLR 2018, arXiv:1703.04782.
"""

from typing import NamedTuple


class OneStep(NamedTuple):
    """The signal of one step; it has no settings."""


def one_step() -> OneStep:
    """The effect of the previous update's hyperparameters on the present loss.

    Example:
      >>> import optax, jaxdescent as jd
      >>> tx = jd.hypergradient(
      ...     optax.sgd, optax.sgd(1e-2), tune={"learning_rate": 0.1}, signal=jd.one_step()
      ... )
    """
    return OneStep()
