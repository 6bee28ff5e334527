"""Text that a trained network continues, beyond its context.

The prompt and what follows it are half a context each. The later half is the next prompt, so that
one compiled program continues a text without end.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import methods, tasks
from experiments.data.tokenizer import Tokenizer
from experiments.models.low_rank import LowRank
from experiments.models.sampling import sample

ROUNDS = 6
KEPT = "sample"


def sampler(task: tasks.Task, seed: int = 0) -> Callable[[Any, Any], dict[str, np.ndarray]]:
    """Returns a function for `Recipe.keep`, which samples from the first network.

    Args:
      task: of a text; the prompt is the beginning of its test part.
      seed: of the draws.
    """

    def keep(params: Any, model_state: Any) -> dict[str, np.ndarray]:
        model: Any = task.build(nnx.Rngs(0))
        for state in params, model_state:
            nnx.update(model, jax.tree.map(lambda leaf: leaf[0], state))
        if isinstance(model, LowRank):
            model = model.merged()
        prompt = jnp.asarray(task.test.arrays[: model.context // 2], jnp.int32)
        return {KEPT: continued(model, prompt, ROUNDS, jax.random.key(seed))[None]}

    return keep


def continued(model: Any, prompt: jax.Array, rounds: int, key: jax.Array) -> np.ndarray:
    """Returns a prompt and its continuation by `rounds` times its length.

    Args:
      model: a language model with a context of at least two prompts.
      prompt: i32[p].
      rounds: the number of times that p tokens are sampled.
      key: random key.

    Returns:
      i32[(1 + rounds) p].
    """
    length, parts = len(prompt), [prompt]
    for number in range(rounds):
        own = jax.random.fold_in(key, number)
        parts.append(sample(model, parts[-1][None], length=length, key=own)[0, length:])
    return np.concatenate(parts)


def sample_notes(contests: Sequence[methods.Contest]) -> list[str]:
    """Returns a note for each recipe, with a text by its best method."""
    notes = []
    for contest in contests:
        best = min(contest.trained.values(), key=lambda each: each.selected.means.min())
        tokens = best.selected.kept[KEPT][0]
        start = len(tokens) // (ROUNDS + 1)
        tokenizer = cast(Tokenizer, contest.recipe.task.tokenizer)
        prompt, text = (tokenizer.decode(part) for part in (tokens[:start], tokens[start:]))
        notes.append(f"{contest.recipe.title}, {best.title}: {prompt!r} is continued by {text!r}.")
    return notes
