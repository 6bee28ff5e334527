"""Batches of examples in shuffled order, epoch after epoch, prefetched by grain.

A stream yields chunks of indices. Either the arrays are on the device and the compiled step gathers
from them, or the stream gathers on the host, in grain's thread, while the device processes the
previous chunk. The order depends only on the seed and the position, so an iterator that is restored
from a saved state continues with the next example, for any chunk size.

This module shuffles a whole epoch at a time. Grain shuffles one example at a time in Python, which
for a batch of hundreds takes longer than the step of a small network.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import grain
import numpy as np


class Batches:
    """An endless stream of batches for several seeds, each with its own order.

    Args:
      examples: the number of examples.
      batch_size: examples per batch. An incomplete batch at the end of an epoch is dropped; as
        every epoch has a new order, its examples appear in other epochs.
      seeds: seeds of the orders, one per network.
      replacement: whether to sample every batch with replacement, for data sets that are too long
        to shuffle, such as all windows of a text.
      gather: called with indices, i64[steps, seeds, batch_size]; returns the chunk to yield.

    Raises:
      ValueError: a batch is larger than an epoch, or there are no seeds.

    Example:
      >>> stream = Batches(6, 3, seeds=[0]).chunks(steps=2)
      >>> epoch = next(stream)
      >>> epoch.shape, sorted(epoch.ravel().tolist())
      ((2, 1, 3), [0, 1, 2, 3, 4, 5])
      >>> state = stream.get_state()
      >>> following = next(stream)
      >>> stream.set_state(state)
      >>> bool((next(stream) == following).all())
      True
      >>> stream.close()
    """

    def __init__(
        self,
        examples: int,
        batch_size: int,
        *,
        seeds: Sequence[int],
        replacement: bool = False,
        gather: Callable[[np.ndarray], Any] | None = None,
    ):
        if not 1 <= batch_size <= examples:
            raise ValueError(f"batch_size must be in [1, {examples}], got {batch_size}")
        if not len(seeds) or not all(0 <= seed < 2**64 for seed in seeds):
            raise ValueError(f"seeds must be numbers in [0, 2**64), at least one, got {seeds}")
        self.examples, self.batch_size = examples, batch_size
        self.per_epoch = examples // batch_size
        self._seeds, self._replacement, self._gather = list(seeds), replacement, gather
        # Every batch of an epoch needs the epoch's order.
        self._order = lru_cache(maxsize=2 * len(self._seeds))(self._shuffled)

    def chunks(self, steps: int) -> grain.DatasetIterator:
        """Iterates over chunks of `steps` batches: i32[steps, seeds, batch_size], or gathered.

        The iterator has `get_state`, `set_state` and `close`.
        """
        reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        return iter(grain.MapDataset.source(_Chunks(self, steps)).to_iter_dataset(reading))

    def chunk(self, number: int, steps: int) -> Any:
        """Returns a chunk by its number, from 0."""
        positions = range(number * steps, (number + 1) * steps)
        indices = np.stack(
            [[self._batch(seed, position) for seed in self._seeds] for position in positions]
        )
        return indices.astype(np.int32) if self._gather is None else self._gather(indices)

    def _batch(self, seed: int, position: int) -> np.ndarray:
        if self._replacement:
            return _random(seed, position).integers(self.examples, size=self.batch_size)
        epoch, place = divmod(position, self.per_epoch)
        return self._order(seed, epoch)[place * self.batch_size : (place + 1) * self.batch_size]

    def _shuffled(self, seed: int, epoch: int) -> np.ndarray:
        return _random(seed, epoch).permutation(self.examples)


def data_seeds(seed: int, networks: int, steps_before: int = 0) -> list[int]:
    """Returns a seed of the data order for each network, distinct across runs.

    Args:
      seed: of the run.
      networks: the number of networks.
      steps_before: the number of steps that earlier runs trained the initial parameters for, so
        that a run that continues another one has an order of its own.
    """
    sequence = np.random.SeedSequence([seed, steps_before])
    return [int(each) for each in sequence.generate_state(networks, np.uint64)]


def _random(seed: int, position: int) -> np.random.Generator:
    # NumPy would convert a list of large integers to floats.
    key = np.array([seed, position], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


class _Chunks:
    """A data source of chunks for grain."""

    def __init__(self, batches: Batches, steps: int):
        self._batches, self._steps = batches, steps

    def __len__(self) -> int:
        return 2**48  # practically endless; positions fit into int64

    def __getitem__(self, index: int) -> Any:
        return self._batches.chunk(int(index), self._steps)
