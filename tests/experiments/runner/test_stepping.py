"""A program is compiled once and runs from any initial carry."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from experiments import runner

RNG = np.random.default_rng(0)


def test_a_program_compiles_once():
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def advance(carry, index, constant):
        return carry + constant, {"seen": carry, "index": index}

    program = runner.Program(advance, jnp.zeros(()), steps_per_chunk=10, constants=(10.0,))
    for start in (0.0, 5.0):
        carry = jnp.asarray(start)
        for index in range(3):
            carry, metrics, seconds = program(carry, index)
            assert float(metrics["seen"]) == start + 10 * index
            assert int(metrics["index"]) == index
            assert seconds > 0


def test_a_program_donates_its_carry():
    program = runner.Program(lambda carry, _: (carry * 2, ()), jnp.ones(8), steps_per_chunk=1)
    start = jnp.ones(8)
    program(start, 0)
    assert start.is_deleted()


def test_metrics_are_numpy_arrays():
    program = runner.Program(lambda carry, i: (carry, {"i": i}), jnp.ones(()), steps_per_chunk=1)
    _, metrics, _ = program(jnp.ones(()), 3)
    assert type(metrics["i"]) is np.ndarray


def test_examples_may_be_shapes():
    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    feed = jax.ShapeDtypeStruct((3,), jnp.int32)
    program = runner.Program(lambda c, f: (c + f, ()), shape, steps_per_chunk=1, feed=feed)
    carry, _, _ = program(jnp.ones(3), np.arange(3, dtype=np.int32))
    assert carry.tolist() == [1, 2, 3]


def power(carry, feed, matrix):
    """Multiplies by a matrix and by a number of the feed in each step."""
    return jax.lax.scan(lambda c, x: (x * (c @ matrix), {"sum": c.sum()}), carry, feed)


def test_a_chunk_is_computed_and_its_flops_are_counted():
    start, matrix, feed = np.ones((2, 3)), RNG.normal(size=(3, 3)), RNG.normal(size=6)
    start, matrix, feed = (array.astype(np.float32) for array in (start, matrix, feed))
    program = runner.Program(power, start, steps_per_chunk=6, feed=feed, constants=(matrix,))
    carry, metrics, _ = program(jnp.asarray(start), feed)
    expected, sums = np.float64(start), []
    for number in feed:
        sums.append(expected.sum())
        expected = number * (expected @ matrix)
    np.testing.assert_allclose(carry, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["sum"], sums, rtol=1e-5)
    assert type(metrics["sum"]) is np.ndarray
    assert program.flops.dense == 6 * 2 * (2 * 3 * 3)
