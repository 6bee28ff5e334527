"""Descent on a stream: test, then train, one example at a time, while the world may drift.

A *learner* is an optax transformation with a guarantee for every sequence of losses. Most take the
gradient of the loss, as in `tx.update(grads, state, params)`:

    online_gradient_descent  the step sizes of its regret bounds
    adagrad_norm             one step size, from the norm of all gradients
    ftrl_proximal            a step size per coordinate, and weights that are exactly 0
    coin_betting             no learning rate and no diameter
    ader                     many step sizes at once, for a minimum that moves

Others take the gradient of a scalar prediction, and its error:
`tx.update(prediction_grads, state, params, error=error)`. With `discount` and `trace_decay` they
also learn predictions of discounted sums.

    obgd                     a step that cannot overshoot
    intentional              a step that moves the prediction by a fraction of its error
    swift_td                 linear models: a learned and bounded step size per feature

    regret                   regret against fixed and moving comparators, and the bounds on it
"""

from jaxdescent.streaming import regret
from jaxdescent.streaming.learners.adagrad_norm import AdagradNormState, adagrad_norm
from jaxdescent.streaming.learners.ader import AderState, ader
from jaxdescent.streaming.learners.coin_betting import CoinBettingState, coin_betting
from jaxdescent.streaming.learners.ftrl_proximal import FtrlProximalState, ftrl_proximal
from jaxdescent.streaming.learners.gradient_descent import (
    OnlineGradientDescentState,
    online_gradient_descent,
)
from jaxdescent.streaming.learners.intentional import IntentionalState, intentional
from jaxdescent.streaming.learners.obgd import ObgdState, obgd
from jaxdescent.streaming.learners.swift_td import SwiftTdState, swift_td

__all__ = [
    "AdagradNormState",
    "AderState",
    "CoinBettingState",
    "FtrlProximalState",
    "IntentionalState",
    "ObgdState",
    "OnlineGradientDescentState",
    "SwiftTdState",
    "adagrad_norm",
    "ader",
    "coin_betting",
    "ftrl_proximal",
    "intentional",
    "obgd",
    "online_gradient_descent",
    "regret",
    "swift_td",
]


def __dir__() -> list[str]:
    return __all__
