"""Each epoch visits every example once, in an order of the seed and the position alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.data.batches import Batches, data_seeds


def first(batches, count):
    """The first batches one after another: i32[count, seeds, batch_size]."""
    return batches.chunk(0, count)


def closing(stream):
    """What an iterator gives, closed once it is done with, as grain has threads."""
    try:
        yield from stream
    finally:
        stream.close()


def taken(batches, steps, count):
    return [chunk for chunk, _ in zip(closing(batches.chunks(steps)), range(count), strict=False)]


SIZES = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))
SEEDS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3, unique=True)


@given(SIZES, SEEDS)
def test_no_example_comes_twice_in_an_epoch(sizes, seeds):
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


def test_whole_epochs_visit_every_example_and_cut_ones_all_of_them_in_time():
    whole = first(Batches(12, 4, seeds=[0]), 3)
    assert sorted(whole.ravel().tolist()) == [*range(12)]
    cut = first(Batches(11, 4, seeds=[0]), 2 * 8)  # three are left out of each epoch
    assert {*cut.ravel().tolist()} == {*range(11)}


def test_epochs_and_seeds_differ_in_their_order():
    orders = first(Batches(50, 50, seeds=[0, 1, 2**64 - 1, 2**64 - 2]), 5).reshape(20, 50)
    assert len({*map(tuple, orders.tolist())}) == 20


def test_a_seed_has_its_order_whoever_is_beside_it():
    alone = first(Batches(10, 3, seeds=[7]), 8)
    beside = first(Batches(10, 3, seeds=[3, 7, 5]), 8)
    np.testing.assert_array_equal(alone[:, 0], beside[:, 1])


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
def test_a_state_that_is_set_goes_on_with_the_very_next_example(
    sizes, steps, before, after, replacement
):
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

    # As in another process: nothing is shared but the state.
    again = Batches(*sizes, seeds=[0, 1], replacement=replacement).chunks(steps)
    again.set_state(state)
    np.testing.assert_array_equal(next(again), batches.chunk(before, steps))
    again.close()


def test_a_stream_is_the_chunks_in_order():
    batches = Batches(10, 3, seeds=[0])
    for number, chunk in enumerate(taken(batches, steps=2, count=6)):
        np.testing.assert_array_equal(chunk, batches.chunk(number, 2))


def test_with_replacement_every_example_is_as_likely_in_every_place():
    chunk = first(Batches(5, 5, seeds=[0], replacement=True), 2000)
    assert any(len({*batch}) < 5 for batch in chunk[:, 0].tolist())
    counts = np.stack([np.bincount(place, minlength=5) for place in chunk[:, 0].T])
    # 400 of each are expected, with a standard deviation of 18.
    assert abs(counts - 400).max() < 5 * 18


def test_gathering_is_given_the_indices_and_feeds_what_it_returns():
    values = np.arange(10) ** 2
    given_shapes = []

    def gather(indices):
        given_shapes.append(indices.shape)
        return {"squares": values[indices]}

    plain, gathered = Batches(10, 3, seeds=[0, 1]), Batches(10, 3, seeds=[0, 1], gather=gather)
    np.testing.assert_array_equal(gathered.chunk(1, 2)["squares"], plain.chunk(1, 2) ** 2)
    assert given_shapes == [(2, 2, 3)]
    for number, chunk in enumerate(taken(gathered, steps=2, count=3)):
        np.testing.assert_array_equal(chunk["squares"], plain.chunk(number, 2) ** 2)


@pytest.mark.parametrize("size", [0, -1, 11])
def test_a_batch_must_fit_into_an_epoch(size):
    with pytest.raises(ValueError, match=rf"batch_size must be in \[1, 10\], got {size}"):
        Batches(10, size, seeds=[0])


@pytest.mark.parametrize("seeds", [[], [-1], [0, 2**64]])
def test_seeds_are_what_a_generator_takes(seeds):
    with pytest.raises(ValueError, match=r"seeds must be numbers in \[0, 2\*\*64\)"):
        Batches(10, 2, seeds=seeds)


def test_networks_of_different_runs_share_no_data_order():
    assert len({seed for at in range(50) for seed in data_seeds(at, 3)}) == 150
    # A network's order does not change with those beside it.
    assert data_seeds(0, 1) == data_seeds(0, 3)[:1]
