"""Streams: models that are tested and trained one example at a time, while the data changes.

loop = jd.streaming.online_loop(predict, loss, optimizer, features=9, num_classes=2)
state = loop.init(params)
for chunk in jd.streaming.chunks(source, 1024):
    state, record = loop.run(state, chunk)

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
"""

from jaxdescent.streaming.counts import Count
from jaxdescent.streaming.examples import InvalidExampleError
from jaxdescent.streaming.loop import LoopState, OnlineLoop, Record, Skipped, online_loop
from jaxdescent.streaming.metrics import Metric, Outcomes, accuracy, f1, mean_loss
from jaxdescent.streaming.scaler import Scaler, StandardScalerState, standard_scaler
from jaxdescent.streaming.sources import Chunk, chunks, csv_examples, with_previous_labels

__all__ = [
    "Chunk",
    "Count",
    "InvalidExampleError",
    "LoopState",
    "Metric",
    "OnlineLoop",
    "Outcomes",
    "Record",
    "Scaler",
    "Skipped",
    "StandardScalerState",
    "accuracy",
    "chunks",
    "csv_examples",
    "f1",
    "mean_loss",
    "online_loop",
    "standard_scaler",
    "with_previous_labels",
]


def __dir__() -> list[str]:
    return __all__
