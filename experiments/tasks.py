"""Tasks: a data set with a model, a loss and what a batch is.

classification   cross entropy and accuracy in percent
regression       squared error, of targets at mean 0 and spread 1
text             cross entropy of the next token, in nats a token
series           squared error of the values that follow a window, likewise scaled
"""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments import data
from experiments.data import Corpus, DataError, Dataset, Split, corpus
from experiments.data.tokenizer import Tokenizer
from experiments.models.cnn import CNN
from experiments.models.mlp import MLP
from experiments.models.recurrent import Recurrent
from experiments.models.resnet import ResNet
from experiments.models.tcn import TCN
from experiments.models.transformer import Transformer, TransformerConfig
from experiments.runner.training import Scores

MODELS = ("mlp", "cnn", "resnet", "transformer", "lstm", "gru", "tcn")


class Part(NamedTuple):
    """Training, validation or test examples.

    Attributes:
      arrays: what a batch is made from, on the host.
      examples: how many indices there are.
      judged: i64[m], the indices that an evaluation takes.
    """

    arrays: Any
    examples: int
    judged: np.ndarray


class Task(NamedTuple):
    """What is trained, on what, and how it is judged.

    Attributes:
      name: of the data set.
      build: makes the model from `nnx.Rngs`.
      pick: from `(arrays, indices)` to examples as they are stored; on the host or inside
        a compiled program.
      prepare: from examples to a batch, inside a compiled program.
      scores: of each example of a batch.
      train, validation, test: the examples; a part may have none.
      replacement: whether batches are drawn at random rather than epoch by epoch.
      convolutional: whether the model is mostly convolutions, which want other programs.
      source: where the data is from.
      tokenizer: of a text.
      baseline: a forecast without a model: its name and its loss on the test part.
    """

    name: str
    build: Callable[[nnx.Rngs], nnx.Module]
    pick: Callable[[Any, Any], Any]
    prepare: Callable[[Any], Any]
    scores: Scores
    train: Part
    validation: Part
    test: Part
    replacement: bool
    convolutional: bool
    source: str
    tokenizer: Tokenizer | None = None
    baseline: tuple[str, float] | None = None

    @property
    def side_by_side(self) -> Literal["vmap", "map", "unrolled"]:
        """How several networks are trained: what XLA does well with.

        A batch of networks turns convolutions into grouped ones, which are slower than one
        network after another; and on a CPU a convolution in a loop is several times slower than
        outside (`experiments.benchmarks.runner`, "scan").
        """
        if not self.convolutional:
            return "vmap"
        return "unrolled" if jax.default_backend() == "cpu" else "map"

    def digest(self) -> str:
        """SHA-256 of all examples, of whatever they are read from."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(
            [part.arrays for part in (self.train, self.validation, self.test)]
        ):
            digest.update(np.ascontiguousarray(leaf).tobytes())
        return digest.hexdigest()

    def batch_of(self, arrays: Any, indices: jax.Array) -> Any:
        """A batch from arrays on the device."""
        return self.prepare(self.pick(arrays, indices))


def spread(indices: np.ndarray, most: int | None) -> np.ndarray:
    """At most so many of the indices, evenly spread."""
    if most is None or len(indices) <= most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, most).astype(int)]


class Shape(NamedTuple):
    """How a model is made, beside what the data says.

    What is None is as the model has it; what a model does not take must be None.

    Attributes:
      name: one of `MODELS`.
      size: of a transformer, one of `transformer.SIZES`; "0.1M".
      width: of hidden layers; 128.
      depth: hidden layers; of a residual network 6n + 2.
      dropout: in [0, 1); 0.
      positions: of a transformer, "learned" (the default) or "rotary".
      bias: whether a transformer has biases; it has none.
      dtype: of the computation; parameters are float32.
    """

    name: str
    size: str | None = None
    width: int | None = None
    depth: int | None = None
    dropout: float | None = None
    positions: str | None = None
    bias: bool | None = None
    dtype: Any = None

    def check(self) -> None:
        """Raises ValueError for something that the model does not take."""
        taken = TAKEN.get(self.name, ())
        for name in ("size", "width", "depth", "dropout", "positions", "bias"):
            value = getattr(self, name)
            if value is not None and taken and name not in taken:
                raise ValueError(
                    f"--{name} must be left out with {self.name}, which takes "
                    f"{', '.join(taken)}, got {value}"
                )


TAKEN = {
    "mlp": ("width", "depth"),
    "cnn": ("dropout",),
    "resnet": ("depth",),
    "transformer": ("size", "dropout", "positions", "bias"),
    "lstm": ("width", "depth", "dropout"),
    "gru": ("width", "depth", "dropout"),
    "tcn": ("width", "depth", "dropout"),
}


def load(
    name: str,
    shape: Shape,
    *,
    data_dir: Path | None = None,
    tokenizer: str | None = None,
    vocabulary_size: int | None = None,
    context: int | None = None,
    window: int | None = None,
) -> Task:
    """A task by the name of its data, or by the path of a text file.

    Args:
      name: one of `data.NAMES`, or a path that ends in .txt or .txt.gz.
      shape: the model.
      data_dir: the folder of data files; None for the environment's `JAXDESCENT_DATA`.
      tokenizer: of a text: "character" (the default), "byte" or "byte_pair".
      vocabulary_size: of byte pairs; 1,024.
      context: tokens that a model of text sees; None for its size's, or 64.
      window: rows that a forecast sees; 20.

    Raises:
      DataError: the data is missing, or is not what it should be.
      ValueError: there is no such data, or the model is for other data.

    Example:
      >>> task = load("digits", Shape("mlp"))
      >>> task.train.examples, task.validation.examples, task.test.examples
      (1078, 359, 360)
    """
    shape.check()
    text_file = name.endswith((".txt", ".txt.gz"))
    kind = "text" if text_file else data.entry(name).kind
    of_text = {"tokenizer": tokenizer, "vocabulary_size": vocabulary_size}
    for owner, flags in (("text", {**of_text, "context": context}), ("series", {"window": window})):
        for flag, value in flags.items():
            if value is not None and kind != owner:
                shown = flag.replace("_", "-")
                raise ValueError(f"--{shown} must be left out with {name}, which is no {owner}")
    if kind == "text":
        options: Any = {flag: value for flag, value in of_text.items() if value is not None}
        if text_file:
            return _text(corpus.from_file(name, **options), shape, context)
        return _text(cast(Corpus, data.load(name, data_dir, **options)), shape, context)
    loaded: Any = data.load(name, data_dir)
    if kind == "series":
        windows = data.windows(loaded, window or 20)
        last = windows.test.inputs[:, -1:, loaded.columns.index("Close")]
        errors = (last - windows.test.targets) / windows.target_std
        return supervised(windows, shape)._replace(
            baseline=("last value", float(np.mean(errors**2)))
        )
    return supervised(loaded, shape)


def supervised(dataset: Dataset, shape: Shape) -> Task:
    """The task of a data set with labels or values."""
    shape.check()
    inputs = dataset.train.inputs.shape[1:]
    outputs = dataset.classes or dataset.train.targets.shape[-1]
    build, series = _network(shape, dataset.name, inputs, outputs)

    def pick(arrays: Split, indices: Any) -> Split:
        return Split(arrays.inputs[indices], arrays.targets[indices])

    def scores(model: Any, batch: Split, key: jax.Array | None) -> dict[str, jax.Array]:
        outputs = _call(model, batch.inputs, key)
        outputs = outputs[:, -1] if series else outputs
        if not dataset.classes:
            return {"loss": jnp.mean((outputs - batch.targets) ** 2, -1)}
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, batch.targets)
        return {"loss": losses, "accuracy": 100.0 * (outputs.argmax(-1) == batch.targets)}

    parts = [
        Part(
            Split(*map(np.ascontiguousarray, part)), len(part.targets), np.arange(len(part.targets))
        )
        for part in (dataset.train, dataset.validation, dataset.test)
    ]
    return Task(
        dataset.name,
        build,
        pick,
        dataset.normalized,
        scores,
        *parts,
        replacement=False,
        convolutional=shape.name in ("cnn", "resnet", "tcn"),
        source=dataset.source,
    )


def _network(
    shape: Shape, name: str, inputs: tuple[int, ...], outputs: int
) -> tuple[Callable[[nnx.Rngs], nnx.Module], bool]:
    """Makes the model; whether it has an output for each time, of which the last counts."""
    images, times = len(inputs) == 3, len(inputs) == 2
    dropout, dtype = shape.dropout or 0.0, shape.dtype
    if shape.name == "mlp":
        sizes = [int(np.prod(inputs)), *[shape.width or 128] * (shape.depth or 1), outputs]
        return lambda rngs: _Flat(MLP(sizes, dtype=dtype, rngs=rngs)), False
    if shape.name == "cnn" and images:
        return (
            lambda rngs: CNN(inputs, classes=outputs, dropout=dropout, dtype=dtype, rngs=rngs),
            False,
        )
    if shape.name == "resnet" and images:
        resnet = partial(ResNet, shape.depth or 20, channels=inputs[-1], classes=outputs)
        return lambda rngs: resnet(dtype=dtype, rngs=rngs), False
    if shape.name in ("lstm", "gru") and times:
        recurrent = partial(Recurrent, shape.width or 128, shape.depth or 1, cell=shape.name)
        features = {"features": inputs[-1], "outputs": outputs}
        return lambda rngs: recurrent(**features, dropout=dropout, dtype=dtype, rngs=rngs), True
    if shape.name == "tcn" and times:
        channels = [shape.width or 128] * (shape.depth or 4)
        tcn = partial(TCN, inputs[-1], channels, outputs, kernel=3, dropout=dropout)
        return lambda rngs: tcn(dtype=dtype, rngs=rngs), True
    raise ValueError(f"model {shape.name!r} does not take {name}, whose inputs are {inputs}")


class _Flat(nnx.Module):
    """A model of what an example holds, in one axis."""

    def __init__(self, model: nnx.Module):
        self.model = model

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.model(x.reshape(len(x), -1))


def _text(text: Corpus, shape: Shape, context: int | None) -> Task:
    vocabulary, dropout = text.tokenizer.vocabulary_size, shape.dropout or 0.0
    if shape.name == "transformer":
        given = {"dropout": shape.dropout, "positions": shape.positions, "bias": shape.bias}
        given["context"] = context
        changes = {name: value for name, value in given.items() if value is not None}
        config = TransformerConfig.of_size(shape.size or "0.1M", vocabulary, **changes)
        context = config.context
        build: Any = lambda rngs: Transformer(config, dtype=shape.dtype, rngs=rngs)
    elif shape.name in ("lstm", "gru"):
        context = context or 64
        recurrent = partial(Recurrent, shape.width or 128, shape.depth or 2, cell=shape.name)
        build = lambda rngs: recurrent(
            vocabulary=vocabulary, dropout=dropout, dtype=shape.dtype, rngs=rngs
        )
    else:
        raise ValueError(
            f"model {shape.name!r} does not take {text.name}, a text; transformer, lstm and gru do"
        )
    length = context + 1  # the targets are the inputs, one token later

    def pick(tokens: Any, starts: Any) -> Any:
        return tokens[starts[..., None] + np.arange(length)]

    def prepare(tokens: jax.Array) -> jax.Array:
        return tokens.astype(jnp.int32)

    def scores(model: Any, batch: jax.Array, key: jax.Array | None) -> dict[str, jax.Array]:
        logits = _call(model, batch[:, :-1], key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:])
        return {"loss": losses.mean(-1)}

    def part(tokens: np.ndarray, title: str) -> Part:
        if 0 < len(tokens) < length:
            raise DataError(
                f"{text.name}: its {title} part of {len(tokens)} tokens is too short, expected "
                f"at least {length} for a context of {context}; choose a shorter one"
            )
        starts = max(len(tokens) - length + 1, 0)
        return Part(tokens, starts, np.arange(0, starts, context))

    return Task(
        text.name,
        build,
        pick,
        prepare,
        scores,
        part(text.train, "training"),
        part(text.validation, "validation"),
        part(text.test, "test"),
        replacement=True,
        convolutional=False,
        source=text.source,
        tokenizer=text.tokenizer,
    )


def _call(model: Any, inputs: jax.Array, key: jax.Array | None) -> jax.Array:
    """The model's outputs; those that have dropout take a key."""
    takes_key = isinstance(model, (CNN, Recurrent, TCN, Transformer))
    return model(inputs, key=key) if takes_key else model(inputs)
