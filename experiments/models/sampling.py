"""Samples text from a model, token by token, with a cache.

    tokens ~ softmax(logits / temperature), restricted to the top_k most likely if given

The prompt is read in one pass; then a `jax.lax.scan` reads one token per step against the cache. It
is one compiled program for all temperatures.
"""

from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import checks
from jaxdescent import validation


class Readable(Protocol):
    """A model that can be sampled: `Transformer`, or `Recurrent` with a vocabulary."""

    def start(self, batch: int, length: int | None = None) -> Any:
        """Returns a cache with room for `length` tokens."""
        ...

    def extend(self, tokens: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
        """Maps i32[batch, time] to logits f32[batch, time, vocabulary] and the cache after."""
        ...


def sample(
    model: Readable,
    prompt: jax.Array,
    *,
    length: int,
    key: jax.Array,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> jax.Array:
    """Continues a text. Dropout is off, in training mode too.

    Args:
      model: a `Transformer`, or a `Recurrent` with a vocabulary.
      prompt: i32[batch, p], p at least 1.
      length: number of new tokens; p + length is at most the model's context.
      key: random key. With JAX's default generator, a row's draws depend on its index and not
        on the other rows.
      temperature: in [0, inf); 0 takes the most likely token.
      top_k: number of most likely tokens to sample from (more if some are tied); None for all.

    Returns:
      i32[batch, p + length], the prompt and its continuation.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> from experiments.models.transformer import Transformer, TransformerConfig
      >>> model = Transformer(TransformerConfig.of_size("0.1M", 65), rngs=nnx.Rngs(0))
      >>> prompt = jnp.zeros((2, 3), int)
      >>> sample(model, prompt, length=5, key=jax.random.key(0), temperature=0.8, top_k=10).shape
      (2, 8)
    """
    prompt = jnp.asarray(prompt)
    if prompt.ndim != 2 or not prompt.size or not jnp.issubdtype(prompt.dtype, jnp.integer):
        raise ValueError(
            "prompt must be integers of shape [batch, p] with p in [1, inf), got "
            f"{prompt.dtype}{list(prompt.shape)}"
        )
    checks.integer("length", length)
    context = getattr(model, "context", None)
    if context is not None and prompt.shape[1] + length > context:
        raise ValueError(
            f"prompt and length must add up to at most {context}, the model's context, "
            f"got {prompt.shape[1]} + {length}"
        )
    if float(validation.finite_array("temperature", temperature)) < 0:
        raise ValueError(f"temperature must be in [0, inf), got {temperature!r}")
    if top_k is not None:
        checks.integer("top_k", top_k)
    graph, state = nnx.split(nnx.view(model, deterministic=True))
    scale = jnp.float32(temperature)
    return _sample(graph, state, prompt, key, scale, length=length, top_k=top_k)


@partial(jax.jit, static_argnames=("graph", "length", "top_k"))
def _sample(
    graph: Any,
    state: Any,
    prompt: jax.Array,
    key: jax.Array,
    temperature: jax.Array,
    *,
    length: int,
    top_k: int | None,
) -> jax.Array:
    model = nnx.merge(graph, state)
    batch, before = prompt.shape
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(batch))

    def step(carry: Any, position: jax.Array) -> Any:
        logits, cache = carry
        step_keys = jax.vmap(partial(jax.random.fold_in, data=position))(keys)
        tokens = jax.vmap(partial(draw, temperature=temperature, top_k=top_k))(step_keys, logits)
        tokens = tokens.astype(prompt.dtype)
        logits, cache = model.extend(tokens[:, None], cache)
        return (logits[:, -1], cache), tokens

    logits, cache = model.extend(prompt, model.start(batch, before + length))
    _, tokens = jax.lax.scan(step, (logits[:, -1], cache), jnp.arange(length))
    return jnp.concatenate([prompt, tokens.T], axis=1)


def draw(
    key: jax.Array,
    logits: jax.Array,
    *,
    temperature: jax.Array | float = 1.0,
    top_k: int | None = None,
) -> jax.Array:
    """Draws one token.

    Args:
      key: random key.
      logits: f32[vocabulary].
      temperature: in [0, inf); 0 takes the most likely token.
      top_k: number of most likely tokens to sample from (more if some are tied); None for all.

    Example:
      >>> int(draw(jax.random.key(0), jnp.array([0.0, 2.0, 1.0]), temperature=0.0))
      1
    """
    if top_k is not None and top_k < logits.size:
        least = jax.lax.top_k(logits, top_k)[0][-1]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    # Relative to the largest logit, which stays at zero for the smallest temperature.
    cooled = (logits - logits.max()) / jnp.where(temperature > 0, temperature, 1.0)
    drawn = jax.random.categorical(key, cooled)
    return jnp.where(temperature > 0, drawn, logits.argmax())
