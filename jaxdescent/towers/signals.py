"""Signals: the effects of past updates on the loss that train the hyperparameters.

`one_step` is the published method: G = (dU/dh)^T g, the effect of the last update's hyperparameters
on the current loss. Their effect on later steps, through the optimizer's memory, is not counted.

`eligibility_trace` counts the effect of all past updates on the current loss, with less weight for
older updates. With one step alone, the learning rate becomes too small if batches are noisy
(short-horizon bias). A trace avoids that, but can make the learning rate too large for an optimizer
that normalizes its updates. Neither signal is safe for every optimizer.

Source: K. Chandra, A. Xie, J. Ragan-Kelley, E. Meijer, "Gradient Descent: The Ultimate
Optimizer", NeurIPS 2022, arXiv:1909.13371; for one rate, A. G. Baydin et al., "Online
Learning Rate Adaptation with Hypergradient Descent", ICLR 2018, arXiv:1703.04782; traces,
A. Sharifnassab, S. Salehkaleybar, R. Sutton, "MetaOptimize", 2024, arXiv:2402.02342; the
bias, Y. Wu et al., ICLR 2018, arXiv:1803.02021.
"""

from typing import Any, NamedTuple

from jaxdescent import validation


class OneStep(NamedTuple):
    """The signal `one_step`."""


class EligibilityTrace(NamedTuple):
    """The signal `eligibility_trace`.

    Attributes:
      decay: factor by which the weight of an update's effect is multiplied in each later step.
    """

    decay: float


def one_step() -> OneStep:
    """Returns the signal that counts the effect of the last update on the present loss.

    Example:
      >>> import optax, jaxdescent as jd
      >>> tx = jd.hypergradient(
      ...     optax.sgd, optax.sgd(1e-2), tune={"learning_rate": 0.1}, signal=jd.one_step()
      ... )
    """
    return OneStep()


def eligibility_trace(decay: Any, /) -> EligibilityTrace:
    """Returns the signal that counts the discounted effect of all past updates on the loss.

    It needs the general method. Beside that method's buffers, the state holds one buffer of the
    parameters' size for each tuned name. Tuned values must be numbers, or numbers per leaf.

    Args:
      decay: in [0, 1]; 0 is equal to `one_step`, and 1 does not discount.

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
