"""Losses per token, per character and in bits, so that tokenizers can be compared on one text.

    nats per character = nats per token / (characters per token),  bits = nats / ln 2

Characters per token are of the tokens that an evaluation predicts. The baselines have closed forms:
the uniform distribution has ln(vocabulary) nats per token; the unigram distribution has the
frequencies of the training part, with one more of each token so that none is impossible.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from experiments import methods, runner, tasks
from experiments.data.tokenizer import Tokenizer

COLUMNS = ("text", "method", "nats/token", "characters/token", "nats/character", "bits/character")
NOTES = (
    "The table per character is of the test part, the end of the text; each window of a context is "
    "predicted from its own beginning. All tokenizers of a text divide it at the same characters. "
    "'uniform' and 'unigram' predict without a context: all tokens alike, and by their "
    "frequencies in the training part.",
)


def results(
    contests: Sequence[methods.Contest], others: Mapping[str, float]
) -> tuple[runner.Table, dict[str, Any]]:
    """Returns the table of all recipes and methods, and bits per character by recipe and method.

    Args:
      contests: the contests.
      others: further test losses by name, for every recipe.
    """
    rows, values = [], {}
    for contest in contests:
        title, tokens = contest.recipe.title, predicted_tokens(contest.recipe)
        density = characters_per_token(_tokenizer(contest.recipe), tokens)
        losses = baselines(contest.recipe, tokens) | dict(others)
        losses |= {each.title: each.loss for each in contest.trained.values()}
        values[title] = {name: bits_per_character(loss, density) for name, loss in losses.items()}
        rows += [_row(title, name, loss, density) for name, loss in losses.items()]
    return runner.Table(COLUMNS, rows, "Losses per character"), values


def _row(title: str, name: str, loss: float, density: float) -> tuple[str, ...]:
    numbers = loss, density, loss / density, bits_per_character(loss, density)
    return title, name, *(f"{number:.4f}" for number in numbers)


def bits_per_character(nats_per_token: float, characters_per_token: float) -> float:
    """Converts a loss.

    Example:
      >>> bits_per_character(np.log(256), 2.0)  # tokens of 8 bits for 2 characters each
      4.0
    """
    return float(nats_per_token / np.log(2) / characters_per_token)


def predicted_tokens(recipe: methods.Recipe) -> np.ndarray:
    """Returns the tokens of the test part that an evaluation predicts, integers [n]."""
    part = recipe.task.test
    starts = tasks.subsample(part.evaluation_indices, recipe.max_count)
    return recipe.task.pick(part.arrays, starts)[:, 1:].ravel()


def characters_per_token(tokenizer: Tokenizer, tokens: np.ndarray) -> float:
    """Returns the mean number of characters that begin in a token.

    Example:
      >>> from experiments.data.tokenizer import Bytes
      >>> characters_per_token(Bytes(), Bytes().encode("né"))  # three bytes
      0.6666666666666666
    """
    return float(tokenizer.lengths[tokens].mean())


def baselines(recipe: methods.Recipe, tokens: np.ndarray) -> dict[str, float]:
    """Returns the losses of predictions without a context, in nats per token."""
    size = _tokenizer(recipe).vocabulary_size
    counts = 1 + np.bincount(recipe.task.train.arrays, minlength=size)
    unigram = -np.log(counts / counts.sum())
    return {"uniform": float(np.log(size)), "unigram": float(unigram[tokens].mean())}


def _tokenizer(recipe: methods.Recipe) -> Tokenizer:
    return cast(Tokenizer, recipe.task.tokenizer)  # a text has one
