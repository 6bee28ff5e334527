"""Signals: how the loss reaches the hyperparameters.

`one_step` is the published method: G = (dU/dh)^T g, the effect that the last update's
hyperparameters had on the loss right after it. What it did to later steps, through the
optimizer's memory, is not counted.

`trace` counts the effect of all past updates on today's loss, the older the less. A rate
that is judged by one step alone is small where batches are noisy (short-horizon bias); one
that is judged by the whole way is not, and may be too large for an optimizer that brings
its own normalization. Neither is safe for every optimizer.

Source: K. Chandra, A. Xie, J. Ragan-Kelley, E. Meijer, "Gradient Descent: The Ultimate
Optimizer", NeurIPS 2022, arXiv:1909.13371; for one rate, A. G. Baydin et al., "Online
Learning Rate Adaptation with Hypergradient Descent", ICLR 2018, arXiv:1703.04782; traces,
A. Sharifnassab, S. Salehkaleybar, R. Sutton, "MetaOptimize", 2024, arXiv:2402.02342; the
bias, Y. Wu et al., ICLR 2018, arXiv:1803.02021.
"""

from typing import Any, NamedTuple

from jaxdescent import validation


class OneStep(NamedTuple):
    """The signal of one step; it has no settings."""


class EligibilityTrace(NamedTuple):
    """The signal of all past steps.

    Attributes:
      decay: how much of a step's effect is left a step later.
    """

    decay: float


def one_step() -> OneStep:
    """The effect of the previous update's hyperparameters on the present loss.

    Example:
      >>> import optax, jaxdescent as jd
      >>> tx = jd.hypergradient(
      ...     optax.sgd, optax.sgd(1e-2), tune={"learning_rate": 0.1}, signal=jd.one_step()
      ... )
    """
    return OneStep()


def eligibility_trace(decay: Any, /) -> EligibilityTrace:
    """The effect of all past updates' hyperparameters on the present loss, discounted.

    The state holds a buffer like the parameters for every tuned name, beside those of the
    general method, which it needs. Tuned values must be numbers, or numbers per leaf.

    Args:
      decay: in [0, 1]; 0 is `one_step`, 1 forgets nothing.

    Raises:
      ValueError: `decay` is out of range.

    Example:
      >>> import optax, jaxdescent as jd
      >>> signal = jd.eligibility_trace(0.9)
      >>> tx = jd.hypergradient(
      ...     optax.sgd, optax.sgd(1e-2), tune={"learning_rate": 0.1}, signal=signal
      ... )
    """
    return EligibilityTrace(validation.number_in("decay", decay, 0.0, 1.0))
