"""The benchmark of deterministic logistic regression counts every gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.benchmarks import logistic_gradients as benchmark


@pytest.fixture(scope="module")
def problem():
    """Returns a small regression that the constants were not chosen on."""
    with jax.enable_x64(True):
        examples = benchmark.like_a1a(3, n=300)[:, :20]
        return benchmark.regression("small", examples, 0.02, developed=False)


def test_the_least_loss_is_a_minimum(problem):
    with jax.enable_x64(True):
        found = optax.lbfgs()
        w = jnp.zeros(20)
        state = found.init(w)

        def objective(w):
            return benchmark.loss(w, problem.examples, problem.l2)

        @jax.jit
        def step(w, state):
            value, grads = jax.value_and_grad(objective)(w)
            keywords = {"value": value, "grad": grads, "value_fn": objective}
            updates, state = found.update(grads, state, w, **keywords)
            return optax.apply_updates(w, updates), state

        for _ in range(60):
            w, state = step(w, state)
        assert float(objective(w)) == pytest.approx(problem.least, abs=1e-13)
    assert problem.gap(np.log(2)) == pytest.approx(1.0)


def test_generated_sets_have_the_shape_of_a1a():
    examples = benchmark.like_a1a(0, n=200)
    assert examples.shape == (200, 124)
    signs = examples[:, 0]
    assert {*np.abs(examples).ravel()} == {0.0, 1.0}
    np.testing.assert_array_equal(np.abs(examples).sum(axis=1), 15)  # 14 attributes and intercept
    assert 0.1 < np.mean(signs > 0) < 0.5


def test_every_gradient_counts_until_the_gap_is_met(problem):
    with jax.enable_x64(True):
        rate = 1.0
        w, used = jnp.zeros(20), 0
        value_and_grad = jax.jit(jax.value_and_grad(benchmark.loss))
        while True:
            value, grads = value_and_grad(w, problem.examples, problem.l2)
            used += 1
            if problem.gap(value) <= benchmark.TOLERANCE:
                break
            w = w - rate * grads
        sgd = benchmark.with_transformation(lambda rate, _: optax.sgd(rate), (rate, 1e-3, 1e6))
        assert sgd(problem) == used  # the best of the grid
        slow = benchmark.with_transformation(lambda rate, _: optax.sgd(rate), (1e-6,))
        assert slow(problem) == benchmark.LIMIT + 1
        assert benchmark.shown(slow(problem)) == ">2000"


def test_line_searches_count(problem, monkeypatch):
    evaluations = []
    plain = benchmark.loss

    def counted(w, examples, l2):
        jax.debug.callback(lambda: evaluations.append(1))
        return plain(w, examples, l2)

    with jax.enable_x64(True):
        monkeypatch.setattr(benchmark, "loss", counted)
        used = benchmark.with_optax_lbfgs(problem)
        jax.effects_barrier()
    # One further evaluation is of the loss at the start, without its gradient.
    assert len(evaluations) == used + 1


def test_online_scaled_needs_fewer_gradients_than_lbfgs():
    with jax.enable_x64(True):
        examples = benchmark.like_a1a(3, n=400)
        problem = benchmark.regression("rare levels", examples, 0.0, developed=False)
        ours, theirs, osgm = (
            benchmark.METHODS[name](problem) for name in ("online_scaled", "L-BFGS 10", "OSGM-Best")
        )
    assert 3 * ours < theirs < osgm


def test_the_summary_compares_with_lbfgs():
    counts = np.full((3, len(benchmark.METHODS)), 40)
    counts[:, 1] = [20, 40, 80]
    sentence = benchmark.summary(counts, "all sets")[0]
    assert sentence == (
        "all sets, L-BFGS 20: median 40 gradients, L-BFGS 10 40; ratio 1.00 (median), 1.00 "
        "(geometric mean); fewer on 1, more on 1 of 3 sets; 0 not reached."
    )


def test_the_published_criterion_is_absolute_and_starts_at_length_1(problem):
    published = problem._replace(published=True)
    assert np.linalg.norm(published.start) == pytest.approx(1.0)
    np.testing.assert_array_equal(problem.start, 0.0)
    grads = np.full(20, 1e-4 / 300)  # the sum over 300 examples is at the tolerance
    assert published.reached(np.log(2), 0.999 * grads)
    assert not published.reached(problem.least, 1.001 * grads)
    assert not published.reached(problem.least, np.nan * grads)
    assert problem.reached(problem.least, grads)
    assert not problem.reached(np.nan, grads)
