"""Low-rank fine-tuning of a transformer that a run of `train` has saved, on another text.

The text has the tokenizer of the run. One grid, constant learning rates of Adam, is compared with
self-tuning; weights do not decay, as there are few and the changes start at zero.
"""

from functools import partial
from pathlib import Path
from typing import Any, cast

import optax
from flax import nnx

from experiments import data, methods, runner, tasks
from experiments.data import Corpus
from experiments.data.corpus import from_file
from experiments.data.tokenizer import Tokenizer
from experiments.models.counting import parameter_count
from experiments.models.low_rank import LowRank
from experiments.models.transformer import Transformer
from experiments.runner.run_folder import RunError
from experiments.studies.language import optimizers
from experiments.studies.language.settings import EVALUATED, Settings
from experiments.studies.train import load_network
from experiments.tasks import ModelConfig

METHODS = "adam", "self_tuning"


def recipe(folder: Path, settings: Settings) -> methods.Recipe:
    """Returns the recipe of fine-tuning.

    Args:
      folder: of the run.
      settings: with the text and the rank.

    Raises:
      RunError: the folder is not a run of `train` with a transformer.
      DataError: the text is missing, or has a character that the run's tokenizer does not have.
      ValueError: the data is not a text.
    """
    network = load_network(folder)
    model = network.model
    if not isinstance(model, Transformer):
        raise RunError(f"--fine-tune must be a run of train with a transformer, got {folder}")
    corpus = _corpus(settings, cast(Tokenizer, network.task.tokenizer))
    task = tasks.text(corpus, ModelConfig("transformer"), model.context)

    def build(rngs: Any) -> LowRank:
        return LowRank(model, settings.rank, rngs=rngs)

    full = settings.scale == "full"
    return methods.Recipe(
        title=f"{network.task.name} to {corpus.name}, rank {settings.rank}",
        task=task._replace(build=build),
        steps=2_000 if full else 500,
        batch_size=16 if full else 8,
        seed=settings.seed,
        adam=partial(optimizers.adamw, weight_decay=0.0),
        methods=METHODS,
        max_count=None if full else EVALUATED,
    )


def _corpus(settings: Settings, tokenizer: Tokenizer) -> Corpus:
    name = settings.fine_tune_on
    if kind := tasks.file_kind(name):
        found = from_file(name, tokenizer=tokenizer) if kind == "text" else None
    else:
        is_text = data.entry(name).kind == "text"
        found = data.load(name, settings.data_dir, tokenizer=tokenizer) if is_text else None
    if found is None:
        raise ValueError(f"--fine-tune-on must be a text, got {name}; choose another")
    return cast(Corpus, found)


def note(recipe: methods.Recipe) -> str:
    """Returns a note with the number of trained weights."""
    build: Any = recipe.task.build
    trained = parameter_count(build(nnx.Rngs(0)))
    return f"{recipe.title}: {trained:,} weights are trained."


def loss_before(recipe: methods.Recipe) -> float:
    """Returns the test loss of the saved network on the text, in nats per token."""
    task = recipe.task
    trainer = runner.trainer(task.build, task.batch_of, task.scores, optax.identity())
    state = trainer.start(recipe.keys)
    starts = tasks.subsample(task.test.evaluation_indices, recipe.max_count)
    scores = trainer.evaluate(state.params, state.model_state, task.test.arrays, starts)
    return float(scores["loss"].mean())
