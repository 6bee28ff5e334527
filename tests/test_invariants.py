"""Properties of every transformation of the package, alone and inside wrappers."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from optax.contrib import _common_test as contrib_tests

from tests.transformations import OSCILLATING, PROBES, SCALAR_STATES, TRANSFORMATIONS, make

every_transformation = pytest.mark.parametrize("name", TRANSFORMATIONS)

PARAMS = {"w": np.linspace(-1.0, 1.0, 12).reshape(4, 3), "b": np.full(3, 0.5)}
INPUTS = np.random.default_rng(0).normal(size=(20, 8, 4))


def parameters(dtype=jnp.float32):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), PARAMS)


def inputs(steps=20, dtype=jnp.float32):
    return jnp.asarray(INPUTS[:steps], dtype)


def loss(params, batch):
    predicted = jnp.tanh(batch @ params["w"] + params["b"])
    return jnp.mean((predicted - jnp.sin(batch[..., 1:])) ** 2)


def step(tx, params, state, batch):
    value, grads = jax.value_and_grad(loss)(params, batch)
    updates, state = tx.update(grads, state, params, value=value)
    return optax.apply_updates(params, updates), state


def train(tx, params, batches):
    """Returns the parameters and state after one step per batch, in one scan."""

    def body(carry, batch):
        return (step(tx, *carry, batch), None)

    return jax.lax.scan(body, (params, tx.init(params)), batches)[0]


@functools.cache
def compiled_training(name):
    """Returns a compiled function of 20 batches to parameters and states after each step."""

    @jax.jit
    def trained(params, batches):
        tx = make(name)

        def body(carry, batch):
            carry = step(tx, *carry, batch)
            return carry, carry

        return jax.lax.scan(body, (params, tx.init(params)), batches)[1]

    return trained


def reference(name, params=None, batches=None):
    """Returns the parameters and state of a transformation without wrappers, as the reference."""
    batches = inputs() if batches is None else batches
    missing = len(inputs()) - len(batches)
    filled = jnp.pad(batches, ((0, missing), (0, 0), (0, 0)))
    steps = compiled_training(name)(parameters() if params is None else params, filled)
    return jax.tree.map(lambda x: x[len(batches) - 1], steps)


def assert_close(tree, other, tolerance=1e-5):
    chex.assert_trees_all_close(tree, other, rtol=tolerance, atol=tolerance)


# optax's tests of its contributed optimizers, except for
# - schedules as learning rates: here, learning rates are initial values;
# - float32, in which all tests below train;
# - the parabolas of a vector and of a matrix, whose sum is the mixed tensor target.
BODIES = [
    ("accepts extra args, compiles once", "test_optimizers_accept_extra_args", {"wrap": False}),
    *[
        (
            f"converges on {target.__name__[7:]}",
            "test_optimizers",
            {"target": target, "dtype": "float32"},
        )
        for target in (
            contrib_tests._setup_rosenbrock,
            contrib_tests._setup_mixed_tensor_target,
        )
    ],
    ("inject_hyperparams", "test_optimizers_can_be_wrapped_in_inject_hyperparams", {}),
    ("preserves bfloat16", "test_preserve_dtype", {"dtype": "bfloat16"}),
    ("accumulates bfloat16", "test_gradient_accumulation", {"dtype": "bfloat16"}),
    *[
        (f"stable {dtype.__name__}", "test_state_shape_dtype_shard_stability", {"dtype": dtype})
        for dtype in (jnp.float16, jnp.bfloat16, jnp.float64)
    ],
]


@pytest.mark.parametrize(
    ("name", "body", "kwargs"),
    [
        pytest.param(name, body, kwargs, id=f"{name}-{title}")
        for name in TRANSFORMATIONS
        for title, body, kwargs in BODIES
        # The last parameters of these need not converge.
        if not (name in OSCILLATING and "target" in kwargs)
    ],
)
def test_passes_optax_contrib_body(name, body, kwargs, monkeypatch):
    monkeypatch.setattr(contrib_tests, "_get_opt_factory", lambda _: TRANSFORMATIONS[name][0])
    generated = vars(contrib_tests.ContribTest)
    method = next(f for n, f in generated.items() if re.fullmatch(body + r"\d+", n)).__wrapped__
    method(
        contrib_tests.ContribTest(),
        opt_name="momo",  # optax passes the value to its updates
        opt_kwargs=TRANSFORMATIONS[name][1],
        wrapper_name=None,
        wrapper_kwargs=None,
        **kwargs,
    )


@every_transformation
def test_jit_and_scan_equal_eager_steps(name):
    tx = make(name)
    params, state = parameters(), tx.init(parameters())
    for batch in inputs(4):
        params, state = step(tx, params, state, batch)
    assert_close((params, state), reference(name, batches=inputs(4)))


@every_transformation
def test_compiles_once_for_all_states(name):
    tx = make(name)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def traced(params, state, batch):
        return step(tx, params, state, batch)

    params, state = parameters(), jax.jit(tx.init)(parameters())
    for batch in inputs(5):
        params, state = traced(params, state, batch)


@every_transformation
def test_vmap_over_agents_equals_separate_training(name):
    tx = make(name)
    agents = jax.tree.map(lambda x: jnp.stack([x, 2 * x, -x]), parameters())
    together = jax.jit(jax.vmap(functools.partial(train, tx), in_axes=(0, None)))(agents, inputs())
    for i in range(3):
        one = functools.partial(jax.tree.map, lambda x, i=i: x[i])
        assert_close(reference(name, one(agents)), one(together))


@every_transformation
def test_state_can_be_donated(name):
    tx = make(name)
    donating = jax.jit(functools.partial(step, tx), donate_argnums=(0, 1))
    params, state = parameters(), tx.init(parameters())
    for batch in inputs(3):
        params, state = donating(params, state, batch)
    assert_close((params, state), reference(name, batches=inputs(3)))


@every_transformation
def test_shard_map_over_the_batch_equals_training_on_one_device(name):
    tx = make(name)
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))

    @jax.jit
    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(P(), P(), P("batch")), out_specs=(P(), P())
    )
    def sharded_step(params, state, batch):
        def global_loss(p, x):
            return jax.lax.pmean(loss(p, x), "batch")

        value, grads = jax.value_and_grad(global_loss)(params, batch)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    # With the sharding of the step's results, which would compile it a second time otherwise.
    start = parameters(), tx.init(parameters())
    params, state = jax.device_put(start, NamedSharding(mesh, P()))
    for batch in inputs(5):
        params, state = sharded_step(params, state, batch)
    assert_close((params, state), reference(name, batches=inputs(5)))


@every_transformation
def test_sharded_parameters_keep_their_sharding_and_equal_training_on_one_device(name):
    tx = make(name)
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = {"w": NamedSharding(mesh, P("model")), "b": NamedSharding(mesh, P())}
    params = jax.device_put(parameters(), sharding)
    trained, state = jax.jit(functools.partial(train, tx))(params, inputs())
    assert trained["w"].sharding.is_equivalent_to(sharding["w"], 2)
    assert_close((trained, state), reference(name))


@every_transformation
def test_works_inside_chain_masked_and_partition(name):
    tx = make(name)
    alone = reference(name)[0]
    chained = optax.chain(optax.identity(), tx)
    assert_close(train(chained, parameters(), inputs())[0], alone)

    masked = optax.masked(tx, {"w": True, "b": True})
    assert_close(train(masked, parameters(), inputs())[0], alone)

    grouped = optax.partition(
        {"trained": tx, "frozen": optax.set_to_zero()}, {"w": "trained", "b": "frozen"}
    )
    trained = train(grouped, parameters(), inputs())[0]
    np.testing.assert_array_equal(trained["b"], parameters()["b"])
    assert float(jnp.max(jnp.abs(trained["w"] - parameters()["w"]))) > 1e-5


@every_transformation
def test_multi_steps_takes_steps_on_the_mean_gradient(name):
    tx = make(name)
    doubled = jnp.repeat(inputs(10), 2, axis=0)
    wrapped = optax.MultiSteps(tx, every_k_schedule=2)
    assert_close(train(wrapped, parameters(), doubled)[0], reference(name, batches=inputs(10))[0])


@every_transformation
def test_apply_if_finite_skips_a_non_finite_step(name):
    tx = make(name)
    bad = inputs(5).at[2].set(jnp.nan)
    good = jnp.delete(inputs(5), 2, axis=0)
    wrapped = optax.apply_if_finite(tx, max_consecutive_errors=3)
    params, state = train(wrapped, parameters(), bad)
    assert int(state.total_notfinite) in (0, 1)  # some transformations skip the batch themselves
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(params))
    if int(state.total_notfinite):
        assert_close(params, reference(name, batches=good)[0])


@every_transformation
def test_trains_a_model_through_nnx_optimizer(name):
    tx = make(name)
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    def as_params(module):
        return {"w": module.kernel[...], "b": module.bias[...]}

    start = as_params(model)

    @nnx.jit
    def nnx_step(model, optimizer, batch):
        value, grads = nnx.value_and_grad(lambda m: loss(as_params(m), batch))(model)
        optimizer.update(model, grads, value=value)

    for batch in inputs():
        nnx_step(model, optimizer, batch)
    assert_close(as_params(model), reference(name, start)[0])


@every_transformation
def test_init_accepts_shape_dtype_structs(name):
    tx = make(name)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), parameters())
    chex.assert_trees_all_equal_shapes_and_dtypes(tx.init(shapes), tx.init(parameters()))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@every_transformation
def test_half_precision_parameters_train_and_keep_their_dtype(name, dtype):
    tx = make(name)
    params, state = jax.jit(functools.partial(train, tx))(parameters(dtype), inputs(20, dtype))
    chex.assert_trees_all_equal_dtypes(params, parameters(dtype))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, tx.init(parameters(dtype)))
    assert_close(jax.tree.map(jnp.float32, params), reference(name)[0], 0.05)


@every_transformation
def test_float64_agrees_with_float32(name):
    single = reference(name)[0]
    with jax.enable_x64(True):
        double, state = train(make(name), parameters(jnp.float64), inputs(20, jnp.float64))
        floats = {x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.inexact)}
        assert floats <= {jnp.dtype("float64")}
        double = jax.tree.map(np.asarray, double)
    assert_close(single, double, 1e-4)


@pytest.mark.parametrize("name", [row for row in TRANSFORMATIONS if row not in SCALAR_STATES])
def test_map_params_finds_the_leaves_shaped_like_parameters(name):
    tx = make(name)
    state = tx.init(parameters())
    marked = optax.tree.map_params(tx, jnp.ones_like, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(marked, state)
    changed = [
        bool(jnp.any(a != b)) for a, b in zip(*map(jax.tree.leaves, (marked, state)), strict=True)
    ]
    assert any(changed)


@every_transformation
def test_a_checkpoint_preserves_the_state(name, tmp_path):
    _, state = reference(name, batches=inputs(3))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        restored = checkpointer.restore(tmp_path / "state", abstract)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    chex.assert_trees_all_equal(restored, state)


@every_transformation
def test_lowers_for_every_platform(name):
    tx, platforms = make(name), ("cpu", "cuda", "tpu")
    params, state, batch = parameters(), tx.init(parameters()), inputs(1)[0]
    exported = jax.export.export(jax.jit(functools.partial(step, tx)), platforms=platforms)
    assert exported(params, state, batch).platforms == platforms


@pytest.mark.parametrize("name", [row for row in TRANSFORMATIONS if row not in PROBES])
def test_no_second_pass_through_the_model(name):
    def products(tx):
        """Counts products of matrices, but for the 4 x 4 of `towers.applied`."""
        arguments = parameters(), tx.init(parameters()), inputs(1)[0]
        lowered = jax.jit(functools.partial(step, tx)).lower(*arguments)
        texts = lowered.as_text(), lowered.compile().as_text()
        patterns = r"stablehlo\.dot_general .*-> (.*)", r"= (f32\[.*\])\S* dot\("
        found = [re.findall(pattern, text) for pattern, text in zip(patterns, texts, strict=True)]
        return [sum("4x4x" not in x and "[4,4]" not in x for x in shapes) for shapes in found]

    found = products(make(name))
    assert found == products(optax.adam(1e-3))
    assert min(found) > 0
