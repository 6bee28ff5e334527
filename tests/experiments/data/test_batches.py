"""Each epoch visits every example once, in an order that depends on seed and position only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.data.batches import Batches, data_seeds


def first(batches, count):
    """Returns the first batches, i32[count, seeds, batch_size]."""
    return batches.chunk(0, count)


def closing(stream):
    """Returns the next items of a stream and closes it, which ends grain's threads."""
    try:
        yield from stream
    finally:
        stream.close()


def take(batches, steps, count):
    return [chunk for chunk, _ in zip(closing(batches.chunks(steps)), range(count), strict=False)]


SIZES = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))
SEEDS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3, unique=True)


@given(SIZES, SEEDS)
def test_no_example_is_repeated_in_an_epoch(sizes, seeds):
    examples, size = sizes
    batches = Batches(examples, size, seeds=seeds)
    per_epoch = examples // size
    chunk = first(batches, 3 * per_epoch)
    assert (chunk.shape, chunk.dtype) == ((3 * per_epoch, len(seeds), size), np.int32)
    for epoch in range(3):
        for seed in range(len(seeds)):
            seen = chunk[epoch * per_epoch : (epoch + 1) * per_epoch, seed].ravel()
            assert len({*seen.tolist()}) == per_epoch * size
            assert seen.min() >= 0
            assert seen.max() < examples


def test_epochs_visit_every_example_and_incomplete_epochs_do_so_eventually():
    whole = first(Batches(12, 4, seeds=[0]), 3)
    assert sorted(whole.ravel().tolist()) == [*range(12)]
    cut = first(Batches(11, 4, seeds=[0]), 2 * 8)  # three are dropped in each epoch
    assert {*cut.ravel().tolist()} == {*range(11)}


def test_epochs_and_seeds_differ_in_their_order():
    orders = first(Batches(50, 50, seeds=[0, 1, 2**64 - 1, 2**64 - 2]), 5).reshape(20, 50)
    assert len({*map(tuple, orders.tolist())}) == 20


def test_the_order_of_a_seed_does_not_depend_on_the_other_seeds():
    alone = first(Batches(10, 3, seeds=[7]), 8)
    together = first(Batches(10, 3, seeds=[3, 7, 5]), 8)
    np.testing.assert_array_equal(alone[:, 0], together[:, 1])


@given(SIZES, SEEDS, st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans())
def test_the_order_does_not_depend_on_the_chunks(sizes, seeds, chunks, replacement):
    batches = Batches(*sizes, seeds=seeds, replacement=replacement)
    whole = first(batches, 20)
    for steps in chunks:
        cut = [batches.chunk(number, steps) for number in range(20 // steps)]
        np.testing.assert_array_equal(np.concatenate(cut), whole[: 20 // steps * steps])


@given(
    SIZES,
    st.integers(1, 4),
    st.integers(0, 4),
    st.integers(0, 3),
    st.booleans(),
)
@settings(max_examples=10, deadline=None)  # a thread each
def test_a_restored_state_continues_with_the_next_example(sizes, steps, before, after, replacement):
    batches = Batches(*sizes, seeds=[0, 1], replacement=replacement)
    stream = batches.chunks(steps)
    for number in range(before):
        np.testing.assert_array_equal(next(stream), batches.chunk(number, steps))
    state = stream.get_state()
    for _ in range(after):
        next(stream)
    stream.set_state(state)
    np.testing.assert_array_equal(next(stream), batches.chunk(before, steps))
    stream.close()

    # As in another process, only the state is shared.
    again = Batches(*sizes, seeds=[0, 1], replacement=replacement).chunks(steps)
    again.set_state(state)
    np.testing.assert_array_equal(next(again), batches.chunk(before, steps))
    again.close()


def test_a_stream_yields_the_chunks_in_order():
    batches = Batches(10, 3, seeds=[0])
    for number, chunk in enumerate(take(batches, steps=2, count=6)):
        np.testing.assert_array_equal(chunk, batches.chunk(number, 2))


def test_with_replacement_all_examples_are_equally_likely_at_all_positions():
    chunk = first(Batches(5, 5, seeds=[0], replacement=True), 2000)
    assert any(len({*batch}) < 5 for batch in chunk[:, 0].tolist())
    counts = np.stack([np.bincount(place, minlength=5) for place in chunk[:, 0].T])
    # 400 of each are expected, with a standard deviation of 18.
    assert abs(counts - 400).max() < 5 * 18


def test_gather_gets_the_indices_and_its_result_is_yielded():
    values = np.arange(10) ** 2
    given_shapes = []

    def gather(indices):
        given_shapes.append(indices.shape)
        return {"squares": values[indices]}

    plain, gathered = Batches(10, 3, seeds=[0, 1]), Batches(10, 3, seeds=[0, 1], gather=gather)
    np.testing.assert_array_equal(gathered.chunk(1, 2)["squares"], plain.chunk(1, 2) ** 2)
    assert given_shapes == [(2, 2, 3)]
    for number, chunk in enumerate(take(gathered, steps=2, count=3)):
        np.testing.assert_array_equal(chunk["squares"], plain.chunk(number, 2) ** 2)


@pytest.mark.parametrize("size", [0, -1, 11])
def test_a_batch_must_not_exceed_an_epoch(size):
    with pytest.raises(ValueError, match=rf"batch_size must be in \[1, 10\], got {size}"):
        Batches(10, size, seeds=[0])


@pytest.mark.parametrize("seeds", [[], [-1], [0, 2**64]])
def test_seeds_out_of_range_are_refused(seeds):
    with pytest.raises(ValueError, match=r"seeds must be numbers in \[0, 2\*\*64\)"):
        Batches(10, 2, seeds=seeds)


def test_networks_of_different_runs_have_different_data_orders():
    assert len({seed for at in range(50) for seed in data_seeds(at, 3)}) == 150
    # The order of a network does not depend on the number of networks.
    assert data_seeds(0, 1) == data_seeds(0, 3)[:1]


def test_a_run_that_continues_another_one_has_its_own_seeds():
    seeds = {seed for at in range(5) for before in range(50) for seed in data_seeds(at, 3, before)}
    assert len(seeds) == 5 * 50 * 3
    assert data_seeds(7, 2, 0) == data_seeds(7, 2)
