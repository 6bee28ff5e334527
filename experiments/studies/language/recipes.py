"""The texts of the study and how they are trained.

nanoGPT's settings for Tiny Shakespeare are its own: the last tenth of the text is the validation
part, and there is no test part. Published validation losses are 1.88 for the CPU setting, after
2,000 steps of 12 windows, and 1.4697 for the GPU setting (A. Karpathy, nanoGPT, 2022, README).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

from experiments import data, methods, tasks
from experiments.data import Corpus, DataError
from experiments.studies.language import fine_tuning, optimizers
from experiments.studies.language.samples import sampler
from experiments.studies.language.settings import EVALUATED, Settings
from experiments.tasks import ModelConfig

WITHOUT_SGD = (
    *("adam", "adam_cosine", "prodigy", "schedule_free"),
    *("self_tuning", "agents", "agents_unpruned"),
)
ONCE = ("prodigy", "schedule_free", "self_tuning")
"""Methods that train once, for tasks on which a grid takes hours."""
ONLY_AT_FULL = ("nanogpt_gpu", "gpt2")
PUBLISHED = {"nanogpt": 1.88, "nanogpt_gpu": 1.4697}
"""Validation losses of nanoGPT, by task."""


def recipes(settings: Settings) -> tuple[list[methods.Recipe], list[str]]:
    """Returns the recipes, and a note on each task that is left out.

    With `--fine-tune`, the recipe is low-rank fine-tuning of the saved run.
    """
    if settings.fine_tune:
        recipe = fine_tuning.recipe(settings.fine_tune, settings)
        return [dataclasses.replace(recipe, keep=sampler(recipe.task, settings.seed))], []
    found, notes = [], []
    for name in settings.tasks:
        if name in ONLY_AT_FULL and settings.scale != "full":
            notes.append(f"{name} was left out: it is trained at scale full only.")
            continue
        try:
            recipe = RECIPES[name](settings)
        except DataError as error:
            notes.append(f"{name} was left out: {error}")
            continue
        found.append(dataclasses.replace(recipe, keep=sampler(recipe.task, settings.seed)))
        if name in PUBLISHED:
            notes.append(
                f"{recipe.title}: all losses are of the last tenth of the text, which nanoGPT "
                f"validates on. Published: {PUBLISHED[name]}."
            )
    return found, notes


def _topics(settings: Settings) -> methods.Recipe:
    return _small(settings, "Python topics, characters", "python_topics")


def _topics_bytes(settings: Settings) -> methods.Recipe:
    return _small(settings, "Python topics, bytes", "python_topics", "byte", methods=ONCE)


def _topics_pairs(settings: Settings) -> methods.Recipe:
    return _small(settings, "Python topics, byte pairs", "python_topics", "byte_pair", methods=ONCE)


def _shakespeare(settings: Settings) -> methods.Recipe:
    title = "Tiny Shakespeare, characters"
    return _small(settings, title, "tinyshakespeare", methods=WITHOUT_SGD)


def _war_and_peace(settings: Settings) -> methods.Recipe:
    return _small(settings, "War and Peace, characters", "war_and_peace", methods=ONCE)


def _small(
    settings: Settings, title: str, name: str, tokenizer: str = "character", **options: Any
) -> methods.Recipe:
    """Returns the recipe of a transformer of size 0.1M; at scale full of size 0.8M."""
    full = settings.scale == "full"
    model = ModelConfig("transformer", size="0.8M" if full else "0.1M")
    task = tasks.load(name, model, data_dir=settings.data_dir, tokenizer=tokenizer)
    return methods.Recipe(
        title=title,
        task=task,
        steps=5_000 if full else 500,
        batch_size=16 if full else 8,
        seed=settings.seed,
        adam=optimizers.adamw,
        max_count=None if full else EVALUATED,
        **options,
    )


def _nanogpt(settings: Settings) -> methods.Recipe:
    recipe = methods.Recipe(
        title="nanoGPT's CPU setting",
        task=_nanogpt_task(settings, ModelConfig("transformer", size="0.8M")),
        steps=2_000,
        batch_size=12,
        seed=settings.seed,
        adam=optimizers.adamw,
        published={"published schedule": optimizers.published(2_000)},
    )
    names = WITHOUT_SGD if settings.scale == "full" else ("self_tuning",)
    return dataclasses.replace(recipe, methods=names)


def _nanogpt_gpu(settings: Settings) -> methods.Recipe:
    model = ModelConfig("transformer", size="11M", dropout=0.2)
    return methods.Recipe(
        title="nanoGPT's GPU setting",
        task=_nanogpt_task(settings, model),
        steps=5_000,
        batch_size=64,
        evaluations=20,
        seed=settings.seed,
        adam=optimizers.adamw,
        methods=ONCE,
        published={"published schedule": optimizers.published(5_000)},
    )


def _gpt2(settings: Settings) -> methods.Recipe:
    model = ModelConfig("transformer", size="124M", dropout=0.1)
    task = tasks.load(
        "war_and_peace", model, data_dir=settings.data_dir, tokenizer="byte_pair",
        vocabulary_size=8_192,
    )  # fmt: skip
    steps = 2_000
    schedule = optimizers.published(steps, b2=0.95, peak=6e-4, low=6e-5)
    return methods.Recipe(
        title="War and Peace, 124M parameters",
        task=task,
        steps=steps,
        batch_size=8,
        evaluations=20,
        seed=settings.seed,
        adam=optimizers.adamw,
        methods=("self_tuning",),
        published={"nanoGPT's schedule": schedule},
    )


def _nanogpt_task(settings: Settings, model: ModelConfig) -> tasks.Task:
    """Returns Tiny Shakespeare with nanoGPT's validation part in place of a test part."""
    text = data.load("tinyshakespeare", settings.data_dir, validation=0.1, test=0.0)
    task = tasks.text(cast(Corpus, text), model)
    return task._replace(test=task.validation)


RECIPES: dict[str, Callable[[Settings], methods.Recipe]] = {
    "topics": _topics,
    "topics_bytes": _topics_bytes,
    "topics_pairs": _topics_pairs,
    "shakespeare": _shakespeare,
    "war_and_peace": _war_and_peace,
    "nanogpt": _nanogpt,
    "nanogpt_gpu": _nanogpt_gpu,
    "gpt2": _gpt2,
}
