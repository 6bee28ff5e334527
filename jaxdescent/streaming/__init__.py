"""Streams: models that are tested and trained one example at a time, while the data changes.

    loop = jd.streaming.online_loop(predict, loss, optimizer, features=9, num_classes=2)
    state = loop.init(params)
    for chunk in jd.streaming.chunks(source, 1024):
        state, record = loop.run(state, chunk)

The loop, its sources and its metrics:

    online_loop            the compiled test-then-train loop
    chunks                 chunks of fixed length from arrays, a file or an iterator
    csv_examples           the examples of a CSV file, compressed or not
    with_previous_labels   adds labels that have arrived to the features
    standard_scaler        features by their running mean and standard deviation
    accuracy, mean_loss, f1
                           prequential metrics: of all examples, of a window, or fading
    Chunk, Outcomes, Metric, Scaler
                           the protocols, for sources, metrics and scalers of your own
    OnlineLoop, LoopState, Record, Skipped, Count
                           the loop, its state, and the results of a chunk
    InvalidExampleError    an example that the settings refuse

A *learner* is an optax transformation with a guarantee for every sequence of losses. Most take the
gradient of the loss:

    online_gradient_descent
                           the step sizes of its regret bounds
    adagrad_norm           one step size, from the norm of all gradients
    ftrl_proximal          a step size per coordinate, and weights that are exactly 0
    coin_betting           no learning rate and no diameter
    ader                   many step sizes at once, for a minimum that moves

Others take the gradient of a scalar prediction, and its error, as in
`tx.update(prediction_grads, state, params, error=error)`. With `discount` and `trace_decay` they
also learn predictions of discounted sums:

    obgd                   a step that cannot overshoot
    intentional            a step that moves the prediction by a fraction of its error
    swift_td               linear models: a learned and bounded step size per feature

    regret                 regret against fixed and moving comparators, and the bounds on it

Drift detectors tell when the values of a stream change:

    adwin                  the means of two parts of an adaptive window differ
    page_hinkley           sums of deviations from the mean
    ddm                    the error rate rises above its lowest
    kswin                  the distribution in a window changes
    Detector, Detection    the protocol, and the outcome of an update

Reactions change an optimizer after an alarm, given as `update(..., drift=detection.drift)`:

    react_to_drift         an optimizer with reactions
    reset_statistics       initialize the optimizer again
    raise_learning_rate    larger updates for a while
    restart_average        begin the average of the parameters again
    forget                 move the parameters back to the first ones
    Reaction, ReactionState
                           the protocol, and the state of such an optimizer

Methods that keep a network able to learn:

    l2_init, shrink_and_perturb, continual_shrink_and_perturb, perturbed_descent, upgd
                           regularization and noise
    continual_backprop, redo
                           replace hidden units, which a HiddenLayer names
    elementwise_adam       Adam with a count for each weight, for units that are replaced
    dormant_units, effective_rank, threshold_rank
                           measurements of hidden activations
"""

from jaxdescent.streaming import regret
from jaxdescent.streaming.counts import Count
from jaxdescent.streaming.detectors.adwin import AdwinState, adwin
from jaxdescent.streaming.detectors.ddm import DDMState, ddm
from jaxdescent.streaming.detectors.detector import Detection, Detector
from jaxdescent.streaming.detectors.kswin import KSWINState, kswin
from jaxdescent.streaming.detectors.page_hinkley import PageHinkleyState, page_hinkley
from jaxdescent.streaming.examples import InvalidExampleError
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
from jaxdescent.streaming.loop import OnlineLoop, online_loop
from jaxdescent.streaming.loop_state import LoopState, Record, Skipped
from jaxdescent.streaming.metrics import Metric, Outcomes, accuracy, f1, mean_loss
from jaxdescent.streaming.plasticity import (
    ContinualBackpropState,
    ElementwiseAdamState,
    HiddenLayer,
    L2InitState,
    RedoState,
    UnitStatistics,
    UpgdState,
    continual_backprop,
    continual_shrink_and_perturb,
    dormant_units,
    effective_rank,
    elementwise_adam,
    l2_init,
    perturbed_descent,
    redo,
    shrink_and_perturb,
    threshold_rank,
    upgd,
)
from jaxdescent.streaming.reactions import (
    Reaction,
    ReactionState,
    forget,
    raise_learning_rate,
    react_to_drift,
    reset_statistics,
    restart_average,
)
from jaxdescent.streaming.scaler import Scaler, StandardScalerState, standard_scaler
from jaxdescent.streaming.sources import Chunk, chunks, csv_examples, with_previous_labels

__all__ = [
    "AdagradNormState",
    "AderState",
    "AdwinState",
    "Chunk",
    "CoinBettingState",
    "ContinualBackpropState",
    "Count",
    "DDMState",
    "Detection",
    "Detector",
    "ElementwiseAdamState",
    "FtrlProximalState",
    "HiddenLayer",
    "IntentionalState",
    "InvalidExampleError",
    "KSWINState",
    "L2InitState",
    "LoopState",
    "Metric",
    "ObgdState",
    "OnlineGradientDescentState",
    "OnlineLoop",
    "Outcomes",
    "PageHinkleyState",
    "Reaction",
    "ReactionState",
    "Record",
    "RedoState",
    "Scaler",
    "Skipped",
    "StandardScalerState",
    "SwiftTdState",
    "UnitStatistics",
    "UpgdState",
    "accuracy",
    "adagrad_norm",
    "ader",
    "adwin",
    "chunks",
    "coin_betting",
    "continual_backprop",
    "continual_shrink_and_perturb",
    "csv_examples",
    "ddm",
    "dormant_units",
    "effective_rank",
    "elementwise_adam",
    "f1",
    "forget",
    "ftrl_proximal",
    "intentional",
    "kswin",
    "l2_init",
    "mean_loss",
    "obgd",
    "online_gradient_descent",
    "online_loop",
    "page_hinkley",
    "perturbed_descent",
    "raise_learning_rate",
    "react_to_drift",
    "redo",
    "regret",
    "reset_statistics",
    "restart_average",
    "shrink_and_perturb",
    "standard_scaler",
    "swift_td",
    "threshold_rank",
    "upgd",
    "with_previous_labels",
]


def __dir__() -> list[str]:
    return __all__
