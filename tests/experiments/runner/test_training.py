"""Training steps and evaluations equal NumPy computations, for one network and several."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxdescent as jd
from experiments import runner
from experiments.models.resnet import ResNet

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(11, 3))
TARGETS = RNG.normal(size=11)
ARRAYS = INPUTS.astype(np.float32), TARGETS.astype(np.float32)
RATE = 0.1


def batch_of(arrays, indices):
    return arrays[0][indices], arrays[1][indices]


def squared_errors(model, batch, key):
    return {"loss": (model(batch[0])[:, 0] - batch[1]) ** 2}


def linear(rngs, dtype=jnp.float32):
    return nnx.Linear(3, 1, param_dtype=dtype, dtype=dtype, rngs=rngs)


class Normed(nnx.Module):
    """Linear layers before and after batch normalization."""

    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.last = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.norm(self.first(x))))


class OnlyNorm(nnx.Module):
    """Batch normalization of the inputs, whose statistics NumPy can compute."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(3, momentum=0.9, epsilon=0.0, rngs=rngs)

    def __call__(self, x):
        return self.norm(x)


def keys_of(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def indices(steps, n, batch, examples=11, seed=0):
    """Returns batches of distinct examples, i32[steps, n, batch]."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(examples)[:batch] for _ in range(steps * n)]
    return np.reshape(drawn, (steps, n, batch)).astype(np.int32)


def select(state, index):
    """Returns the state of one network."""
    return jax.tree.map(lambda leaf: leaf[index : index + 1], state)


def assert_close(found, expected, **tolerance):
    jax.tree.map(
        partial(np.testing.assert_allclose, **tolerance),
        without_keys(found),
        without_keys(expected),
    )


def without_keys(tree):
    """Returns the tree with integer arrays in place of typed keys."""

    def key_data(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(key_data, tree)


@pytest.mark.parametrize("accumulate", [1, 2, 5])
def test_steps_equal_gradient_descent_in_numpy(accumulate):
    chosen = indices(steps=4, n=1, batch=10)
    with jax.enable_x64(True):
        build = partial(linear, dtype=jnp.float64)
        train = runner.trainer(
            build, batch_of, squared_errors, optax.sgd(RATE), accumulate=accumulate
        )
        state = train.start(keys_of(1))
        w, b = (np.array(state.params[name][0]) for name in ("kernel", "bias"))
        state, found = jax.jit(train.chunk)(state, chosen, (INPUTS, TARGETS))
        after = jax.device_get((state.params["kernel"][0], state.params["bias"][0]))
    losses = []
    for batch in chosen[:, 0]:
        error = (INPUTS[batch] @ w)[:, 0] + b - TARGETS[batch]
        losses.append(np.mean(error**2))
        w = w - RATE * 2 * INPUTS[batch].T @ error[:, None] / 10
        b = b - RATE * 2 * error.mean()
    assert after[0].dtype == np.float64
    np.testing.assert_allclose(after[0], w, rtol=1e-12)
    np.testing.assert_allclose(after[1], b, rtol=1e-12)
    np.testing.assert_allclose(found[:, 0], losses, rtol=1e-12)


def test_gradient_accumulation_equals_the_whole_batch():
    def trained(accumulate):
        train = runner.trainer(
            linear, batch_of, squared_errors, optax.adam(RATE), accumulate=accumulate
        )
        return jax.jit(train.chunk)(train.start(keys_of(2)), indices(4, 2, 10), ARRAYS)

    assert_close(trained(5), trained(1), rtol=2e-5)


def record_value():
    """A transformation with zero updates, whose state is the given loss."""

    def update(updates, state, params=None, *, value, **_):
        return jax.tree.map(jnp.zeros_like, updates), value

    return optax.GradientTransformationExtraArgs(lambda _: jnp.zeros(()), update)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_optimizer_receives_the_loss_of_its_batch(accumulate):
    train = runner.trainer(linear, batch_of, squared_errors, record_value(), accumulate=accumulate)
    state, losses = jax.jit(train.chunk)(train.start(keys_of(2)), indices(3, 2, 4), ARRAYS)
    np.testing.assert_array_equal(state.opt_state, losses[-1])
    assert (losses > 0).all()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_batch_statistics_and_evaluation_equal_numpy(accumulate):
    def scores(model, batch, _):
        return {"loss": model(batch[0]).sum(-1)}

    train = runner.trainer(OnlyNorm, batch_of, scores, optax.set_to_zero(), accumulate=accumulate)
    chosen = indices(steps=3, n=2, batch=8)
    state, _ = jax.jit(train.chunk)(train.start(keys_of(2)), chosen, ARRAYS)
    means, variances = np.zeros((2, 3)), np.ones((2, 3))
    # Batch normalization sees the parts of a batch as batches, one after another.
    for part in chosen.reshape(3, 2, accumulate, -1).swapaxes(1, 2).reshape(-1, 2, 8 // accumulate):
        means = 0.9 * means + 0.1 * INPUTS[part].mean(1)
        variances = 0.9 * variances + 0.1 * INPUTS[part].var(1)
    np.testing.assert_allclose(state.model_state["norm"]["mean"], means, atol=1e-6)
    np.testing.assert_allclose(state.model_state["norm"]["var"], variances, atol=1e-5)

    def squares(model, batch, _):
        return {"loss": (model(batch[0]) ** 2).sum(-1)}

    evaluate = runner.trainer(OnlyNorm, batch_of, squares, optax.sgd(1.0)).evaluate
    found = evaluate(state.params, state.model_state, ARRAYS, np.arange(11))
    expected = ((INPUTS - means[:, None]) ** 2 / variances[:, None]).sum(-1).mean(-1)
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-4)


def test_a_batch_that_the_optimizer_skips_leaves_no_nan_in_the_batch_statistics():
    def scores(model, batch, _):
        return {"loss": model(batch[0]).sum(-1)}

    arrays = (ARRAYS[0].copy(), ARRAYS[1])
    arrays[0][5] = np.nan
    skipping = optax.apply_if_finite(optax.set_to_zero(), 9)
    train = runner.trainer(OnlyNorm, batch_of, scores, skipping)
    batches = np.array([[0, 1, 2], [4, 5, 6], [7, 8, 9]])
    state, losses = jax.jit(train.chunk)(train.start(keys_of(1)), batches[:, None], arrays)
    assert np.isnan(losses[:, 0]).tolist() == [False, True, False]
    means = np.zeros(3)
    for part in batches[[0, 2]]:
        means = 0.9 * means + 0.1 * INPUTS[part].mean(0)
    np.testing.assert_allclose(state.model_state["norm"]["mean"][0], means, atol=1e-6)


@pytest.fixture(scope="module", params=["vmap", "map"])
def side_by_side(request):
    tx = jd.hypergradient(optax.sgd, optax.adam(0.05), tune={"learning_rate": RATE})
    return runner.trainer(Normed, batch_of, squared_errors, tx, side_by_side=request.param)


def test_networks_side_by_side_train_as_each_alone(side_by_side):
    start, chosen = side_by_side.start(keys_of(3)), indices(4, 3, 8)
    chunk = jax.jit(side_by_side.chunk)
    together, losses = chunk(start, chosen, ARRAYS)
    assert losses.shape == (4, 3)
    statistics = together.model_state["norm"]
    for index in range(3):
        single, single_losses = chunk(select(start, index), chosen[:, index : index + 1], ARRAYS)
        assert_close(select(together, index), single, rtol=2e-4, atol=1e-6)
        assert_close(losses[:, index : index + 1], single_losses, rtol=1e-5)
        assert (statistics["mean"][index] != 0).all()
    # The networks, their data and their learning rates differ.
    assert len({*np.asarray(losses).ravel().tolist()}) == 12
    assert len({*np.asarray(statistics["mean"][:, 0]).tolist()}) == 3
    rates = jd.get_hyperparams(together.opt_state)[0]["learning_rate"]
    assert len({*np.asarray(rates).tolist(), RATE}) == 4


def test_networks_side_by_side_are_evaluated_as_each_alone(side_by_side):
    state = side_by_side.start(keys_of(3))
    together = side_by_side.evaluate(state.params, state.model_state, ARRAYS, np.arange(11))
    for index in range(3):
        network = select(state, index)
        single = side_by_side.evaluate(network.params, network.model_state, ARRAYS, np.arange(11))
        assert_close(select(together, index), single, rtol=1e-5)


def test_the_initial_state_of_a_network_depends_only_on_its_key(side_by_side):
    together = side_by_side.start(keys_of(3))
    single = side_by_side.start(keys_of(3)[1:2])
    assert_close(select(together, 1), single, rtol=0)
    kernels = np.asarray(together.params["first"]["kernel"])
    assert len(np.unique(kernels.reshape(3, -1), axis=0)) == 3


def test_a_residual_network_trains_with_a_tower():
    images = RNG.normal(size=(6, 8, 8, 1)).astype(np.float32)
    labels = RNG.integers(10, size=6)

    def scores(model, batch, key):
        logits = model(batch[0])
        return {"loss": optax.softmax_cross_entropy_with_integer_labels(logits, batch[1])}

    train = runner.trainer(
        lambda rngs: ResNet(8, channels=1, rngs=rngs),
        batch_of,
        scores,
        jd.hypergradient(optax.sgd, optax.adam(0.05), tune={"learning_rate": RATE}),
        side_by_side="map",
    )
    chosen, start = indices(3, 2, 4, examples=6), train.start(keys_of(2))
    chunk = jax.jit(train.chunk)
    together, losses = chunk(start, chosen, (images, labels))
    rates = np.asarray(jd.get_hyperparams(together.opt_state)[0]["learning_rate"])
    assert (abs(np.log(rates / RATE)) > 0.01).all()
    assert rates[0] != rates[1]
    before, after = (jax.tree.leaves(state.model_state) for state in (start, together))
    assert len(after) == 2 * 7  # a mean and a variance for each of seven convolutions
    for old, new in zip(before, after, strict=True):
        assert (np.abs(new - old).max((1,)) > 1e-4).all()
    for index in range(2):
        single, single_losses = chunk(
            select(start, index), chosen[:, index : index + 1], (images, labels)
        )
        assert_close(select(together, index), single, rtol=5e-3, atol=1e-4)
        assert_close(losses[:, index : index + 1], single_losses, rtol=1e-4)


@pytest.fixture(scope="module", params=["vmap", "map"])
def evaluated(request):
    def scores(model, batch, key):
        return {
            **squared_errors(model, batch, key),
            "right": 100.0 * (model(batch[0])[:, 0] > batch[1]),
        }

    train = runner.trainer(
        linear, batch_of, scores, optax.sgd(1.0), side_by_side=request.param, evaluation_batch=4
    )
    return train, train.start(keys_of(2))


@pytest.mark.parametrize("examples", [1, 3, 4, 5, 8, 11])
def test_the_evaluation_is_a_mean_over_examples(evaluated, examples):
    train, state = evaluated
    chosen = np.arange(11)[::-1][:examples].copy()
    found = train.evaluate(state.params, state.model_state, ARRAYS, chosen)
    for index in range(2):
        kernel, bias = (np.float64(state.params[name][index]) for name in ("kernel", "bias"))
        outputs = (INPUTS[chosen] @ kernel + bias)[:, 0]
        error = np.mean((outputs - TARGETS[chosen]) ** 2)
        np.testing.assert_allclose(found["loss"][index], error, rtol=1e-5)
        right = 100 * np.mean(outputs > TARGETS[chosen])
        np.testing.assert_allclose(found["right"][index], right, rtol=1e-6)


def test_losses_belong_to_their_step_and_network():
    train = runner.trainer(linear, batch_of, squared_errors, optax.set_to_zero())
    chosen = indices(steps=6, n=2, batch=4)
    inputs = ARRAYS[0].copy()
    inputs[5] = np.nan
    _, losses = jax.jit(train.chunk)(train.start(keys_of(2)), chosen, (inputs, ARRAYS[1]))
    with_five = (chosen == 5).any(-1)
    assert {*with_five.sum(0).tolist()} & {*range(1, 6)}
    np.testing.assert_array_equal(np.isnan(losses), with_five)


@functools.cache
def noise(chunks, accumulate=1):
    """Returns losses f32[steps, 2] that are drawn from the steps' keys, and the last state."""

    def scores(model, batch, key):
        return {"loss": jax.random.normal(key, batch[1].shape)}

    train = runner.trainer(linear, batch_of, scores, optax.set_to_zero(), accumulate=accumulate)
    state, found, chunk = train.start(keys_of(2)), [], jax.jit(train.chunk)
    for steps in chunks:
        state, losses = chunk(state, indices(steps, 2, 4), ARRAYS)
        found.append(losses)
    return np.concatenate(found), state


def test_every_step_of_every_network_has_its_own_key():
    losses, state = noise((1, 1, 1, 1))
    assert len({*losses.ravel().tolist()}) == 8
    assert state.step.tolist() == [4, 4]


@pytest.mark.parametrize("chunks", [(2, 2), (4,)])
def test_random_numbers_do_not_depend_on_the_chunks(chunks):
    np.testing.assert_allclose(noise(chunks)[0], noise((1, 1, 1, 1))[0], rtol=1e-6)


def test_each_part_of_a_batch_has_its_own_key():
    losses, _ = noise((1,), accumulate=4)
    for network, key in enumerate(keys_of(2)):
        step = jax.random.fold_in(jax.random.split(key)[1], 0)
        draws = [jax.random.normal(part, (1,)) for part in jax.random.split(step, 4)]
        np.testing.assert_allclose(losses[0, network], np.mean(draws), rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_fed_examples_train_as_gathered_ones(accumulate):
    def prepare(fed):
        return fed[0], fed[1] * 1.0

    make = partial(
        runner.trainer, linear, batch_of, squared_errors, optax.adam(RATE), accumulate=accumulate
    )
    chosen = indices(3, 2, 4)
    gathering, fed = make(), make(prepare=prepare)
    start = gathering.start(keys_of(2))
    expected = jax.jit(gathering.chunk)(start, chosen, ARRAYS)
    found = jax.jit(fed.chunk)(start, (ARRAYS[0][chosen], ARRAYS[1][chosen]), None)
    assert_close(found, expected, rtol=0)


def test_training_and_evaluation_are_traced_once():
    traced = {"train": 0, "evaluate": 0}

    def scores(model, batch, key):
        traced["evaluate" if key is None else "train"] += 1
        return squared_errors(model, batch, key)

    train = runner.trainer(linear, batch_of, scores, optax.sgd(RATE))
    state = train.start(keys_of(2))
    feed = indices(2, 2, 4)
    program = runner.Program(train.chunk, state, steps_per_chunk=2, feed=feed, constants=(ARRAYS,))
    first = dict(traced)
    for seed in range(3):
        state, _, _ = program(state, indices(2, 2, 4, seed=seed))
        train.evaluate(state.params, state.model_state, ARRAYS, np.arange(4))
        # Forward and backward, of 2 steps, 2 networks, 4 examples and 3 inputs.
        assert program.flops.dense == 2 * (2 * 2 * 2 * 4 * 3)
    assert traced["train"] == first["train"]
    assert traced["evaluate"] == 1


def test_parameters_stay_float32_while_the_computation_is_bfloat16():
    class Narrow(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(3, 1, dtype=jnp.bfloat16, rngs=rngs)

        def __call__(self, x):
            return self.linear(x).astype(jnp.float32)

    train = runner.trainer(Narrow, batch_of, squared_errors, optax.adam(RATE))
    start = train.start(keys_of(1))
    program = str(jax.make_jaxpr(train.chunk)(start, indices(2, 1, 4), ARRAYS))
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert products
    assert all("bf16[" in line for line in products)
    state, losses = jax.jit(train.chunk)(start, indices(2, 1, 4), ARRAYS)
    for tree in (state.params, state.opt_state[0].mu, losses):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {np.dtype("float32")}
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("accumulate", [0, -1])
def test_accumulate_must_be_positive(accumulate):
    with pytest.raises(ValueError, match=rf"accumulate must be in \[1, inf\), got {accumulate}"):
        runner.trainer(linear, batch_of, squared_errors, optax.sgd(1.0), accumulate=accumulate)
