"""The trained network of a run, to predict with. The data of the run is not needed.

from experiments.studies.train import load_network
network = load_network("runs/train/2026-01-31T12-00-00")
network("new.csv")                 # or arrays in the units of the data that it was trained on
"""

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from flax import nnx

from experiments import runner, tasks
from experiments.data import Corpus, Dataset, csv_file
from experiments.data.description import from_description
from experiments.data.files import File
from experiments.data.tokenizer import Tokenizer, from_dict
from experiments.runner.run_folder import RunError, newest_run
from experiments.studies.train.saved_runs import read_description
from experiments.studies.train.settings import SERIES, Settings
from experiments.studies.train.training import DATA_SET, TOKENIZER, model_config

BATCH = 500


def usage(folder: Path, step: int) -> str:
    """Returns a note that says how to use the network of a run, which is of a step."""
    return (
        f"Use the network of step {step:,} in Python: from experiments.studies.train import "
        f"load_network; network = load_network({str(folder)!r}); network(inputs)"
    )


def load_network(folder: str | os.PathLike[str], *, index: int = 0) -> "SavedNetwork":
    """Loads a network of a finished or unfinished run of `train`, for predictions.

    It has the parameters that the test score of the run is of: those with the best validation loss,
    averaged with `--self-tuning` and with `--optimizer schedule_free`, with their statistics of
    batch normalization; the winner of a run with `--agents`.

    Args:
      folder: of the run; "last" is the newest run of `train` in the folder `runs`.
      index: number of the network, from 0, in a run with several `--seeds`.

    Raises:
      RunError: the folder is not a run of `train`, or does not have such a network.
      CheckpointError: there is no readable checkpoint.
    """
    folder = Path(folder).expanduser()
    if folder == Path("last"):
        folder = newest_run(Settings.runs, "train")
    settings = runner.saved_settings(Settings, read_description(folder))
    count = 1 if settings.agents else settings.seeds
    if not 0 <= index < count:
        raise RunError(f"index must be in [0, {count}), the networks of {folder}, got {index}")
    task = _task_without_data(settings, folder)
    graph, *shapes = nnx.split(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))), nnx.Param, ...)

    def example(leaf: Any) -> np.ndarray:
        return np.zeros((count, *leaf.shape), leaf.dtype)

    names = ("params", "model_state")
    like = {name: jax.tree.map(example, each) for name, each in zip(names, shapes, strict=True)}
    saved = runner.Checkpoints(folder / "checkpoints" / SERIES).load_best(like)
    model = nnx.merge(graph, *(jax.tree.map(lambda x: x[index], saved[name]) for name in names))
    model.eval()
    return SavedNetwork(task, model)


class SavedNetwork:
    """A trained network that takes inputs as they are in the user's data. Use `load_network`.

    Attributes:
      task: what it was trained for.
      model: the Flax model in evaluation mode; its inputs are normalized.
      features: names of the inputs of a table; () for other data.
      labels: names of the classes; numbers for a data set without names; () for regression. For a
        text, its tokens.
    """

    def __init__(self, task: tasks.Task, model: Any):
        self.task, self.model = task, model
        dataset = task.dataset
        columns = dataset.columns if dataset else None
        self.features: tuple[str, ...] = tuple(columns.inputs) if columns else ()
        if dataset is None:
            tokenizer = cast(Tokenizer, task.tokenizer)
            tokens = range(tokenizer.vocabulary_size)
            self.labels: tuple[Any, ...] = tuple(tokenizer.decode([token]) for token in tokens)
        else:
            self.labels = dataset.labels or tuple(range(dataset.classes))

    def __call__(self, inputs: Any) -> np.ndarray:
        """Returns predictions: the labels of the most probable classes [n], or values.

        Args:
          inputs: an array [n, ...] in the units of the training data. For a network of a table also
            the path of a .csv file, or a mapping from column names to cells, such as a pandas
            DataFrame; other columns, such as the target, are not read. For a network of a text, a
            text or a list of texts to continue by a token.

        Returns:
          Values are in the units of the targets: f32[n], or f32[n, values] if there are several.

        Raises:
          ValueError: the inputs do not fit the network; the message is one line.
        """
        outputs = self._outputs(inputs)
        if self.labels:
            return np.array(self.labels)[outputs.argmax(-1)]
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def probabilities(self, inputs: Any) -> np.ndarray:
        """Returns the probabilities of the classes, f32[n, classes], in the order of `labels`.

        Args:
          inputs: as for a call.

        Raises:
          ValueError: the inputs do not fit, or the network predicts values.
        """
        if not self.labels:
            raise ValueError(
                f"probabilities need classes, but the network of {self.task.name} predicts values; "
                "call it instead"
            )
        return self._outputs(inputs)

    def _outputs(self, inputs: Any) -> np.ndarray:
        arrays = self._encode(inputs)
        parts = [arrays[start : start + BATCH] for start in range(0, len(arrays), BATCH)]
        return np.concatenate([np.asarray(self._predict(part)) for part in parts])

    @cached_property
    def _predict(self) -> Any:
        graph, state = nnx.split(self.model)

        @jax.jit
        def predict(state: Any, inputs: Any) -> jax.Array:
            return self.task.predict(nnx.merge(graph, state), inputs)

        return lambda inputs: predict(state, inputs)

    def _encode(self, inputs: Any) -> np.ndarray:
        """Returns inputs as the data set stores them, at least one."""
        dataset = self.task.dataset
        if dataset is None:
            return self._tokens(inputs)
        if dataset.columns and isinstance(inputs, (str, os.PathLike)):
            return dataset.columns.encode(csv_file.read(inputs))
        if dataset.columns and hasattr(inputs, "keys"):
            return dataset.columns.encode(_table(inputs))
        return _checked(inputs, dataset)

    def _tokens(self, texts: Any) -> np.ndarray:
        texts = [texts] if isinstance(texts, str) else [*texts]
        tokens = [cast(Tokenizer, self.task.tokenizer).encode(text) for text in texts]
        if not tokens or {len(each) for each in tokens} != {len(tokens[0]) or -1}:
            raise ValueError("inputs must be texts of one length in tokens, at least one token")
        context = getattr(self.model, "context", None) or len(tokens[0])
        return np.array(tokens, np.int32)[:, -context:]


def _table(columns: Mapping[str, Any]) -> csv_file.Table:
    """Returns the table of a mapping from column names to cells."""
    cells = {str(name): _cells(name, columns[name]) for name in columns.keys()}  # noqa: SIM118
    counts = {len(each) for each in cells.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"inputs must be columns of one length, got {sorted(counts)} cells")
    return csv_file.Table(File(Path("inputs")), range(1, 1 + counts.pop()), cells)


def _cells(name: Any, column: Any) -> list[str]:
    if isinstance(column, (str, bytes)) or not np.ndim(column):
        raise ValueError(
            f"column {name!r} must be a list of cells, got {column!r}; write [{column!r}]"
        )
    return [str(cell).strip() for cell in column]


def _checked(inputs: Any, dataset: Dataset) -> np.ndarray:
    shape, given = dataset.train.inputs.shape[1:], type(inputs).__name__
    try:
        array = np.asarray(inputs)
        if array.dtype == object and dataset.columns:
            given += " of dtype object; pass the DataFrame or a dict of columns"
        if array.dtype != dataset.train.inputs.dtype:
            with np.errstate(over="ignore", invalid="ignore"):
                array = array.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"inputs must be an array of numbers, got {given}") from error
    if shape[-1:] == (1,) and len(shape) == 3 and array.shape[1:] == shape[:-1]:
        array = array[..., None]
    if not len(array) or array.shape[1:] != shape:
        numbers = ", ".join(["n", *map(str, shape)])
        names = f": {', '.join(dataset.columns.inputs)}" if dataset.columns else ""
        raise ValueError(f"inputs must have shape [{numbers}]{names}, got {array.shape}")
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        place = tuple(map(int, wrong[0]))
        raise ValueError(
            f"inputs must be finite numbers in float32, got {array[place]} at {list(place)}; fill "
            "it in"
        )
    return array


def _task_without_data(settings: Settings, folder: Path) -> tasks.Task:
    """Returns the task of a run with parts that have no examples."""
    model = model_config(settings)
    for name in (DATA_SET, TOKENIZER):
        path = folder / name
        if not path.exists():
            continue
        saved = json.loads(path.read_text())
        if name == DATA_SET:
            return tasks.supervised(from_description(saved), model)
        empty = np.zeros(0, np.int32)
        corpus = Corpus(Path(settings.data).name, empty, empty, empty, from_dict(saved), "")
        return tasks.text(corpus, model, settings.context)
    raise RunError(f"{folder} has no {DATA_SET}, as it was made by an earlier version; train again")
