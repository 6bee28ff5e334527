"""Batches without replacement, one epoch at a time.

    epoch, place = divmod(step, examples // size)
    order        = a permutation drawn from (key, epoch), or from (key, id, epoch)
    batch        = the examples order[place size : (place + 1) size]

Examples that do not fill a batch at the end of an epoch are dropped, different ones in each epoch.
With a shared order the batch is gathered once for all agents of a chunk, otherwise once for each.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import chunking, validation

WHOLE_DATA = (
    "fit draws batches itself: give all examples as arrays, such as the joined batches of a "
    "loader; train on a stream in your own loop with jd.magd"
)
"""Remedy for an iterator in place of data."""


class Batches(NamedTuple):
    """Assignment of examples to steps.

    Attributes:
      examples: number of examples.
      size: examples in a batch; None to take all of them in every step.
      shared: whether all agents see the same batch.
    """

    examples: int
    size: int | None
    shared: bool

    def empty_order(self, agents: int) -> jax.Array:
        """Returns zeros of the shape of `order` for this number of agents."""
        if self.size is None:
            return jnp.zeros(0, jnp.int32)
        return jnp.zeros(self.examples if self.shared else (agents, self.examples), jnp.int32)

    def order(
        self, old: jax.Array, key: jax.Array, ids: jax.Array, step: jax.Array, first: jax.Array
    ) -> jax.Array:
        """Returns the order of a step's epoch; it is drawn in the epoch's first step.

        Args:
          old: the order of the step before.
          key: the random key of all orders.
          ids: i32[agents].
          step: i32[].
          first: bool[], True if there is no step before, so that an order must be drawn.

        Returns:
          i32[examples], or i32[agents, examples] with an order for each agent, or i32[0] if every
          batch has all examples.
        """
        if self.size is None:
            return old
        per_epoch = self.examples // self.size

        def draw(key: jax.Array) -> jax.Array:
            key = jax.random.fold_in(key, step // per_epoch)
            return jax.random.permutation(key, jnp.arange(self.examples, dtype=jnp.int32))

        def draw_all() -> jax.Array:
            if self.shared:
                return draw(key)
            return jax.vmap(lambda number: draw(jax.random.fold_in(key, number)))(ids)

        return jax.lax.cond(first | (step % per_epoch == 0), draw_all, lambda: old)

    def batch(self, data: Any, order: jax.Array, step: jax.Array) -> Any:
        """Returns a step's batch, arrays [size, ...], or [agents, size, ...] if `axis` is 0."""
        if self.size is None:
            return data
        place = step % (self.examples // self.size) * self.size
        return chunking.take(data, jax.lax.dynamic_slice_in_dim(order, place, self.size, -1))

    @property
    def axis(self) -> int | None:
        """The batch's axis of agents, or None if agents share it."""
        return None if self.shared or self.size is None else 0


def make_batches(data: Any, size: int | None, data_order: str) -> Batches:
    """Returns the batches of a tree of examples.

    Raises:
      ValueError: there are no examples, leaves disagree on their number, or an argument is out of
        its range.
    """
    check_batches(size, data_order)
    leaves = jax.tree_util.tree_leaves_with_path(data)
    counts = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else 0 for _, leaf in leaves}
    if len(counts) != 1 or 0 in counts:
        shapes = [f"{jnp.shape(leaf)} at data{jax.tree_util.keystr(path)}" for path, leaf in leaves]
        more = f", ... in {len(shapes)} leaves" if len(shapes) > 4 else ""
        shown = "shapes " + ", ".join(shapes[:4]) + more if shapes else "no arrays"
        raise ValueError(
            "data must have the same leading axis of at least one example in every leaf, got "
            f"{shown}"
        )
    (examples,) = counts
    if size is not None:
        validation.integer_in("batch_size", size, 1)
        if size > examples:
            raise ValueError(
                f"batch_size must be an integer in [1, {examples}], got {size}; data has "
                f"{examples} examples, and None takes all of them in every step"
            )
    return Batches(examples, size, data_order == "shared")


def check_batches(size: int | None, data_order: str) -> None:
    """Raises ValueError if an argument is out of the range that holds for any data."""
    if isinstance(size, (jax.Array, np.ndarray, list, tuple)):
        raise ValueError(
            "batch_size must be one integer, which all agents share, got "
            f"{validation.shown(size)}; fit once for each batch size"
        )
    if size is not None:
        validation.integer_in("batch_size", size, 1)
    if data_order not in ("shared", "per_agent"):
        raise ValueError(f"data_order must be 'shared' or 'per_agent', got {data_order!r}")
