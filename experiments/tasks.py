"""Tasks: a data set with a model, its losses and the way to make a batch.

classification   cross entropy, and accuracy in percent
regression       squared error of standardized targets
text             cross entropy of the next token, in nats per token
series           squared error of the standardized values that follow a window
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments import data
from experiments.data import Corpus, DataError, Dataset, Split, csv_table, npz_file
from experiments.data.corpus import from_file
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
      arrays: the data, on the host.
      examples: the number of examples, which have indices 0 to `examples` - 1.
      evaluation_indices: `i64[m]`, the examples to evaluate on.
    """

    arrays: Any
    examples: int
    evaluation_indices: np.ndarray


class Task(NamedTuple):
    """A model, a data set and the scores of the one on the other.

    Attributes:
      name: of the data set.
      build: Called as `build(rngs)` with `nnx.Rngs`; returns the model.
      pick: Called as `pick(arrays, indices)`, on the host or in a compiled program; returns
        examples as they are stored.
      prepare: Called as `prepare(examples)` in a compiled program; returns a batch.
      scores: Called as `scores(model, batch, key)`; returns the scores of each example by name.
      predict: Called as `predict(model, inputs)` with inputs as they are stored; returns the
        probabilities of the classes, f32[n, classes], or the values in the units of the targets,
        f32[n, values]. For tokens i32[n, time] it returns the probabilities of the next token.
      train, validation, test: the examples; a part may be empty.
      replacement: True if batches are drawn with replacement rather than epoch by epoch.
      convolutional: True if the model consists mostly of convolutions.
      source: of the data.
      tokenizer: of a text; otherwise `None`.
      baseline: name of a prediction without a model, and its scores on the test part, as of a
        model; `None` for a text.
      dataset: the labels or values, their names and their normalization; `None` for a text.
    """

    name: str
    build: Callable[[nnx.Rngs], nnx.Module]
    pick: Callable[[Any, Any], Any]
    prepare: Callable[[Any], Any]
    scores: Scores
    predict: Callable[[Any, Any], jax.Array]
    train: Part
    validation: Part
    test: Part
    replacement: bool
    convolutional: bool
    source: str
    tokenizer: Tokenizer | None = None
    baseline: tuple[str, dict[str, float]] | None = None
    dataset: Dataset | None = None

    @property
    def advice(self) -> tuple[str, ...]:
        """Sentences about what should be changed in a user's table or in its use."""
        return self.dataset.advice if self.dataset else ()

    @property
    def side_by_side(self) -> Literal["vmap", "map"]:
        """The fastest way to train several networks in one program.

        `vmap` over networks turns convolutions into grouped convolutions, which are slower than
        one network after another.
        """
        return "map" if self.convolutional else "vmap"

    def digest(self) -> str:
        """Returns the SHA-256 of all examples; it does not depend on the format of the files."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(
            [part.arrays for part in (self.train, self.validation, self.test)]
        ):
            digest.update(np.ascontiguousarray(leaf).tobytes())
        return digest.hexdigest()

    def batch_of(self, arrays: Any, indices: jax.Array) -> Any:
        """Returns a batch of arrays on the device."""
        return self.prepare(self.pick(arrays, indices))


def subsample(indices: np.ndarray, max_count: int | None) -> np.ndarray:
    """Returns at most `max_count` of the indices, evenly spaced."""
    if max_count is None or len(indices) <= max_count:
        return indices
    return indices[np.linspace(0, len(indices) - 1, max_count).astype(int)]


class ModelConfig(NamedTuple):
    """A model and its options; the data determines inputs and outputs.

    By default, `None`, an option has the model's default value. Options that the model does not
    have (see `MODEL_OPTIONS`) must be left at `None`.

    Attributes:
      name: one of `MODELS`.
      size: of a transformer, one of `transformer.SIZES`; by default "0.1M".
      width: of hidden layers; by default 128.
      depth: number of hidden layers; 6n + 2 for a residual network.
      dropout: probability, in [0, 1); by default 0.
      positions: of a transformer, "learned" (the default) or "rotary".
      bias: True if a transformer has biases; by default it does not.
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
        """Raises ValueError if an option is set that the model does not have."""
        allowed = MODEL_OPTIONS.get(self.name, ())
        for name in ("size", "width", "depth", "dropout", "positions", "bias"):
            value = getattr(self, name)
            if value is not None and allowed and name not in allowed:
                raise ValueError(
                    f"--{name} must be left out with {self.name}, which takes "
                    f"{', '.join(allowed)}, got {value}"
                )


MODEL_OPTIONS = {
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
    model: ModelConfig,
    *,
    data_dir: Path | None = None,
    tokenizer: str | None = None,
    vocabulary_size: int | None = None,
    context: int | None = None,
    window: int | None = None,
    target: str | None = None,
    kind: Literal["classification", "regression"] | None = None,
    ignore: Sequence[str] = (),
) -> Task:
    """Loads a data set or a user's file and returns its task.

    Args:
      name: one of `data.NAMES`, or a path that ends in one of `FILES`.
      model: the model.
      data_dir: folder of the data files; by default the environment variable `JAXDESCENT_DATA`.
      tokenizer: of a text: "character" (the default), "byte" or "byte_pair".
      vocabulary_size: of byte pairs; by default 1,024.
      context: tokens that a language model sees; by default its size's, or 64.
      window: rows that a forecast sees; by default 20.
      target: of a table, the column to predict.
      kind: of a user's data, "classification" or "regression"; by default from the targets.
      ignore: of a table, columns that are not used.

    Raises:
      DataError: the data is missing or has unexpected content.
      ValueError: the data set is unknown, or the model does not fit it.

    Example:
      >>> task = load("digits", ModelConfig("mlp"))
      >>> task.train.examples, task.validation.examples, task.test.examples
      (1078, 359, 360)
    """
    model.check()
    file = file_kind(name)
    content = file or data.entry(name).kind
    of_text = {"tokenizer": tokenizer, "vocabulary_size": vocabulary_size}
    owners = {
        "a text": ({**of_text, "context": context}, content == "text"),
        "a series": ({"window": window}, content == "series"),
        "a .csv file": ({"target": target, "ignore": ignore or None}, file == "table"),
        "a .csv or .npz file": ({"task": kind}, file in ("table", "arrays")),
    }
    for owner, (flags, allowed) in owners.items():
        for flag, value in flags.items():
            if value is not None and not allowed:
                shown = flag.replace("_", "-")
                raise ValueError(f"--{shown} must be left out with {name}, which is not {owner}")
    if content == "text":
        options: Any = {flag: value for flag, value in of_text.items() if value is not None}
        if file:
            return text(from_file(name, **options), model, context)
        return text(cast(Corpus, data.load(name, data_dir, **options)), model, context)
    if file == "table":
        return supervised(csv_table.load(name, target, task=kind, ignore=ignore), model)
    if file == "arrays":
        return supervised(npz_file.load(name, task=kind), model)
    loaded: Any = data.load(name, data_dir)
    if content == "series":
        windows = data.windows(loaded, window or 20)
        last = windows.test.inputs[:, -1:, loaded.columns.index("Close")]
        errors = (last - windows.test.targets) / windows.target_std
        return supervised(windows, model)._replace(
            baseline=("last value", {"loss": float(np.mean(errors**2))})
        )
    return supervised(loaded, model)


FILES = {
    "text": (".txt", ".txt.gz"),
    "table": csv_table.SUFFIXES,
    "arrays": npz_file.SUFFIXES,
}
"""The ends of the names of a user's files, by content."""


def file_kind(name: str) -> str | None:
    """Returns the content of a user's file, a key of `FILES`; `None` for the name of a data set.

    Raises:
      ValueError: the name is neither.
    """
    lower = name.lower()
    kind = next((kind for kind, ends in FILES.items() if lower.endswith(ends)), None)
    if kind is None and Path(name).suffix:
        ends = ", ".join(end for each in FILES.values() for end in each)
        raise ValueError(
            f"--data must be the name of a data set or a file that ends in {ends}, got {name!r}"
        )
    return kind


def supervised(dataset: Dataset, model: ModelConfig) -> Task:
    """Returns the task of a data set with labels or values."""
    model.check()
    inputs = dataset.train.inputs.shape[1:]
    outputs = dataset.classes or dataset.train.targets.shape[-1]
    build, call = network(model, dataset.name, inputs, outputs)

    def pick(arrays: Split, indices: Any) -> Split:
        return Split(arrays.inputs[indices], arrays.targets[indices])

    def predict(model: Any, inputs: Any) -> jax.Array:
        outputs = call(model, dataset.normalized_inputs(inputs), None)
        if dataset.classes:
            return jax.nn.softmax(outputs.astype(jnp.float32))
        return outputs * dataset.target_std + dataset.target_mean

    def scores(model: Any, batch: Split, key: jax.Array | None) -> dict[str, jax.Array]:
        outputs = call(model, batch.inputs, key)
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
        predict,
        *parts,
        replacement=False,
        convolutional=model.name in ("cnn", "resnet", "tcn"),
        source=dataset.source,
        baseline=_baseline(dataset),
        dataset=dataset,
    )


def _baseline(dataset: Dataset) -> tuple[str, dict[str, float]] | None:
    """Returns the best prediction that ignores the inputs, and its scores on the test part."""
    targets = dataset.test.targets
    if not len(targets):
        return None
    if dataset.classes:
        most = int(np.bincount(dataset.train.targets).argmax())
        label = dataset.labels[most] if dataset.labels else most
        accuracy = 100 * float(np.mean(targets == most))
        return f"most frequent class ({label})", {"accuracy": accuracy}
    errors = (targets - dataset.target_mean) / dataset.target_std
    return "mean of the training targets", {"loss": float(np.mean(errors**2))}


def network(
    model: ModelConfig, name: str, inputs: tuple[int, ...], outputs: int
) -> tuple[Callable[[nnx.Rngs], nnx.Module], Callable[[Any, Any, Any], jax.Array]]:
    """Returns functions that build and call a model.

    Args:
      model: the model.
      name: name of the data, for the error message.
      inputs: the shape of an input.
      outputs: the number of outputs.

    Returns:
      Called as `build(rngs)`, the first returns the model. Called as `call(model, inputs, key)`
      with normalized inputs and a random key of dropout or `None`, the second returns the outputs
      f32[n, outputs], of a model of sequences at the last time.

    Raises:
      ValueError: the model does not take such inputs.
    """
    build, outputs_per_time = _network(model, name, inputs, outputs)

    def call(model: Any, inputs: Any, key: jax.Array | None) -> jax.Array:
        outputs = _call(model, inputs, key)
        return outputs[:, -1] if outputs_per_time else outputs

    return build, call


def _network(
    model: ModelConfig, name: str, inputs: tuple[int, ...], outputs: int
) -> tuple[Callable[[nnx.Rngs], nnx.Module], bool]:
    """Returns the model's constructor, and True if the model has outputs at every time."""
    is_image, is_sequence = len(inputs) == 3, len(inputs) == 2
    common: dict[str, Any] = {"dtype": model.dtype}
    dropout = model.dropout or 0.0
    if model.name == "mlp":
        sizes = [int(np.prod(inputs)), *[model.width or 128] * (model.depth or 1), outputs]
        return lambda rngs: _Flat(MLP(sizes, rngs=rngs, **common)), False
    if model.name == "cnn" and is_image:
        cnn = partial(CNN, inputs, classes=outputs, dropout=dropout, **common)
        return lambda rngs: cnn(rngs=rngs), False
    if model.name == "resnet" and is_image:
        resnet = partial(ResNet, model.depth or 20, channels=inputs[-1], classes=outputs, **common)
        return lambda rngs: resnet(rngs=rngs), False
    if model.name in ("lstm", "gru") and is_sequence:
        recurrent = partial(Recurrent, model.width or 128, model.depth or 1, cell=model.name)
        sizes = {"features": inputs[-1], "outputs": outputs}
        return lambda rngs: recurrent(dropout=dropout, rngs=rngs, **sizes, **common), True
    if model.name == "tcn" and is_sequence:
        channels = [model.width or 128] * (model.depth or 4)
        tcn = partial(TCN, inputs[-1], channels, outputs, kernel=3, dropout=dropout, **common)
        return lambda rngs: tcn(rngs=rngs), True
    raise ValueError(f"model {model.name!r} does not take {name}, whose inputs are {inputs}")


class _Flat(nnx.Module):
    """A model of flattened examples."""

    def __init__(self, model: nnx.Module):
        self.model = model

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.model(x.reshape(len(x), -1))


def text(corpus: Corpus, model: ModelConfig, context: int | None = None) -> Task:
    """Returns the task of a text; `context` is in tokens, by default the model's or 64."""
    vocabulary = corpus.tokenizer.vocabulary_size
    if model.name == "transformer":
        options = {
            "dropout": model.dropout,
            "positions": model.positions,
            "bias": model.bias,
            "context": context,
        }
        changes: Any = {name: value for name, value in options.items() if value is not None}
        config = TransformerConfig.of_size(model.size or "0.1M", vocabulary, **changes)
        context = config.context
        build: Any = partial(_build_transformer, config, model.dtype)
    elif model.name in ("lstm", "gru"):
        context = context or 64
        build = partial(_build_language_rnn, model, vocabulary)
    else:
        raise ValueError(
            f"model {model.name!r} does not take {corpus.name}, a text; transformer, lstm and gru "
            "do"
        )
    length = context + 1  # the targets are the inputs shifted by one token

    def pick(tokens: Any, starts: Any) -> Any:
        return tokens[starts[..., None] + np.arange(length)]

    def prepare(tokens: jax.Array) -> jax.Array:
        return tokens.astype(jnp.int32)

    def scores(model: Any, batch: jax.Array, key: jax.Array | None) -> dict[str, jax.Array]:
        logits = _call(model, batch[:, :-1], key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:])
        return {"loss": losses.mean(-1)}

    def predict(model: Any, tokens: jax.Array) -> jax.Array:
        return jax.nn.softmax(_call(model, tokens, None)[:, -1].astype(jnp.float32))

    def part(tokens: np.ndarray, title: str) -> Part:
        if 0 < len(tokens) < length:
            raise DataError(
                f"{corpus.name}: its {title} part of {len(tokens)} tokens is too short, expected "
                f"at least {length} for a context of {context}; choose a shorter one"
            )
        starts = max(len(tokens) - length + 1, 0)
        return Part(tokens, starts, np.arange(0, starts, context))

    return Task(
        corpus.name,
        build,
        pick,
        prepare,
        scores,
        predict,
        part(corpus.train, "training"),
        part(corpus.validation, "validation"),
        part(corpus.test, "test"),
        replacement=True,
        convolutional=False,
        source=corpus.source,
        tokenizer=corpus.tokenizer,
    )


def _build_transformer(config: TransformerConfig, dtype: Any, rngs: nnx.Rngs) -> Transformer:
    return Transformer(config, dtype=dtype, rngs=rngs)


def _build_language_rnn(model: ModelConfig, vocabulary: int, rngs: nnx.Rngs) -> Recurrent:
    return Recurrent(
        model.width or 128,
        model.depth or 2,
        cell=model.name,
        vocabulary=vocabulary,
        dropout=model.dropout or 0.0,
        dtype=model.dtype,
        rngs=rngs,
    )


def _call(model: Any, inputs: jax.Array, key: jax.Array | None) -> jax.Array:
    """Returns the model's outputs; models with dropout take a key."""
    takes_key = isinstance(model, (CNN, Recurrent, TCN, Transformer))
    return model(inputs, key=key) if takes_key else model(inputs)
