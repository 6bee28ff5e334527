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

Methods that keep a network able to learn:

    l2_init, shrink_and_perturb, continual_shrink_and_perturb, perturbed_descent, upgd
                           regularization and noise
    continual_backprop, redo
                           replace hidden units, which a HiddenLayer names
    elementwise_adam       Adam with a count for each weight, for units that are replaced
    dormant_units, effective_rank, threshold_rank
                           measurements of hidden activations
"""

from jaxdescent.streaming.counts import (
    Count,
)
from jaxdescent.streaming.examples import (
    InvalidExampleError,
)
from jaxdescent.streaming.loop import (
    LoopState,
    OnlineLoop,
    Record,
    Skipped,
    online_loop,
)
from jaxdescent.streaming.metrics import (
    Metric,
    Outcomes,
    accuracy,
    f1,
    mean_loss,
)
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
from jaxdescent.streaming.scaler import (
    Scaler,
    StandardScalerState,
    standard_scaler,
)
from jaxdescent.streaming.sources import (
    Chunk,
    chunks,
    csv_examples,
    with_previous_labels,
)

__all__ = [
    "Chunk",
    "ContinualBackpropState",
    "Count",
    "ElementwiseAdamState",
    "HiddenLayer",
    "InvalidExampleError",
    "L2InitState",
    "LoopState",
    "Metric",
    "OnlineLoop",
    "Outcomes",
    "Record",
    "RedoState",
    "Scaler",
    "Skipped",
    "StandardScalerState",
    "UnitStatistics",
    "UpgdState",
    "accuracy",
    "chunks",
    "continual_backprop",
    "continual_shrink_and_perturb",
    "csv_examples",
    "dormant_units",
    "effective_rank",
    "elementwise_adam",
    "f1",
    "l2_init",
    "mean_loss",
    "online_loop",
    "perturbed_descent",
    "redo",
    "shrink_and_perturb",
    "standard_scaler",
    "threshold_rank",
    "upgd",
    "with_previous_labels",
]


def __dir__() -> list[str]:
    return __all__
