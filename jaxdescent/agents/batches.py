"""Which examples a step sees: batches without replacement, an epoch at a time.

    epoch, place = divmod(step, examples // size)
    order        = a permutation drawn from (key, epoch), or from (key, id, epoch)
    batch        = the examples order[place size : (place + 1) size]

The examples that are left over at the end of an epoch, fewer than a batch, are not seen in it;
others are left over in the next. An order that all agents share has a batch gathered once for
all that descend side by side; with an order of its own each agent gathers its batch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import chunking, validation


class Batches(NamedTuple):
    """How examples are dealt out.

    Attributes:
      examples: how many there are.
      size: of a batch; None for all of them, every step.
      shared: whether all agents see the same batch.
    """

    examples: int
    size: int | None
    shared: bool

    def no_order(self, agents: int) -> jax.Array:
        """Where an order will be, for that many agents; see `order`."""
        if self.size is None:
            return jnp.zeros(0, jnp.int32)
        return jnp.zeros(self.examples if self.shared else (agents, self.examples), jnp.int32)

    def order(
        self, old: jax.Array, key: jax.Array, ids: jax.Array, step: jax.Array, first: jax.Array
    ) -> jax.Array:
        """The order of the epoch to which a step belongs, drawn where one begins.

        Args:
          old: the order for the step before.
          key: of all orders.
          ids: i32[agents].
          step: i32[].
          first: bool[], whether `old` is none.

        Returns:
          i32[examples], or i32[agents, examples] if the agents share none, or i32[0] if there is
          no order.
        """
        if self.size is None:
            return old
        per_epoch = self.examples // self.size

        def drawn(key: jax.Array) -> jax.Array:
            key = jax.random.fold_in(key, step // per_epoch)
            return jax.random.permutation(key, jnp.arange(self.examples, dtype=jnp.int32))

        def new() -> jax.Array:
            if self.shared:
                return drawn(key)
            return jax.vmap(lambda number: drawn(jax.random.fold_in(key, number)))(ids)

        return jax.lax.cond(first | (step % per_epoch == 0), new, lambda: old)

    def batch(self, data: Any, order: jax.Array, step: jax.Array) -> Any:
        """A step's batch: a tree of arrays [size, ...], or [agents, size, ...]; see `axis`."""
        if self.size is None:
            return data
        place = step % (self.examples // self.size) * self.size
        return chunking.take(data, jax.lax.dynamic_slice_in_dim(order, place, self.size, -1))

    @property
    def axis(self) -> int | None:
        """The batch's axis of agents."""
        return None if self.shared or self.size is None else 0


def batches(data: Any, size: int | None, data_order: str) -> Batches:
    """How these examples are dealt out.

    Raises:
      ValueError: there are no examples, leaves disagree about their number, or an argument is
        out of its range.
    """
    check_batches(size, data_order)
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(data)]
    counts = {shape[0] if shape else 0 for shape in shapes}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            "data must have the same leading axis of at least one example in every leaf, got "
            f"shapes {shapes}"
        )
    (examples,) = counts
    if size is not None:
        validation.integer_in("batch_size", size, 1, examples)
    return Batches(examples, size, data_order == "shared")


def check_batches(size: int | None, data_order: str) -> None:
    """Raises ValueError if an argument is out of its range, whatever the data."""
    if size is not None:
        validation.integer_in("batch_size", size, 1)
    if data_order not in ("shared", "per_agent"):
        raise ValueError(f"data_order must be 'shared' or 'per_agent', got {data_order!r}")
