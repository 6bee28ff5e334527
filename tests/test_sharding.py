"""State that is sharded like the parameters, and the communication that a step adds."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxdescent as jd
from jaxdescent import sharding

RATE = {"learning_rate": 1e-3}
SPECS = {"first": P(None, "fsdp"), "bias": P("fsdp"), "second": P("fsdp", None)}
TRANSFORMATIONS = {
    "adam": optax.adam(1e-3),
    "tower": jd.hypergradient(optax.adam, optax.adam(0.05), tune=RATE),
    "tower of sgd": jd.hypergradient(optax.sgd, optax.adam(0.05), tune=RATE),
    "height 2": jd.hypergradient(
        optax.adam,
        jd.hypergradient(optax.adam, optax.adam(0.05), tune={"learning_rate": 0.05}),
        tune=RATE,
    ),
    "self-tuning": jd.self_tuning(optax.adam),
    "average": jd.with_average(optax.adam(1e-3)),
    "restart": jd.restart_on_divergence(optax.adam(1e-3)),
    "schedule-free": optax.contrib.schedule_free_adamw(1e-3),
    "prodigy": optax.contrib.prodigy(),
    "chain": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
}


def mesh_of(kind=AxisType.Auto):
    return jax.make_mesh((2, 2), ("data", "fsdp"), axis_types=(kind,) * 2)


def sharded_params(mesh):
    params = {
        "first": jnp.linspace(-1.0, 1.0, 8 * 4096).reshape(8, 4096),
        "bias": jnp.linspace(0.0, 1.0, 4096),
        "second": jnp.linspace(-0.1, 0.1, 4096 * 2).reshape(4096, 2),
    }
    shardings = {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}
    return jax.device_put(params, shardings)


def loss(params, batch):
    hidden = jnp.tanh(batch @ params["first"] / 8 + params["bias"])
    return jnp.mean((hidden @ params["second"] - batch[:, :2]) ** 2)


def elementwise_loss(params, batch):
    """A loss whose terms need no communication, which explicit axes would have to be told about."""
    target = jnp.sin(jnp.sum(batch))
    return sum(jnp.sum((x - target) ** 2 * (1 + x**2)) for x in params.values()) / 4096


def step_of(tx, loss=loss):
    tx = optax.with_extra_args_support(tx)

    def step(params, state, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    return step


def collectives(tx, mesh):
    """Returns the collectives of the compiled step, each as its operation and its shapes."""
    params = sharded_params(mesh)
    state = jax.jit(tx.init, out_shardings=jd.state_shardings(tx, params))(params)
    batch = jax.device_put(jnp.ones((4, 8)), NamedSharding(mesh, P("data")))
    shardings = jax.tree.map(lambda x: x.sharding, (params, state))
    compiled = jax.jit(step_of(tx), donate_argnums=(0, 1), out_shardings=shardings)
    text = compiled.lower(params, state, batch).compile().as_text()
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    return [
        (kind, re.findall(r"\w+\[([\d,]*)\]", shapes))
        for shapes, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text)
    ]


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_state_of_the_shape_of_a_parameter_has_its_sharding(name):
    mesh = mesh_of()
    params, tx = sharded_params(mesh), TRANSFORMATIONS[name]
    shapes = jax.tree.leaves(jax.eval_shape(tx.init, params))
    found = jax.tree.leaves(jd.state_shardings(tx, params))
    like = {params[key].shape: spec for key, spec in SPECS.items()}
    assert sum(shape.shape in like for shape in shapes) >= len(SPECS)
    for shape, sharded in zip(shapes, found, strict=True):
        wanted = NamedSharding(mesh, like.get(shape.shape, P()))
        assert sharded.mesh == mesh
        assert sharded.is_equivalent_to(wanted, len(shape.shape)), shape


def test_shardings_need_neither_arrays_nor_an_automatic_mesh():
    mesh = mesh_of(AxisType.Explicit)
    params = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), sharded_params(mesh)
    )
    found = jd.state_shardings(TRANSFORMATIONS["tower"], params)
    assert found.previous.new_state[0].mu["second"].spec == P("fsdp", None)
    assert found.skipped.spec == P()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"w": jnp.ones(2)}, "params must have a NamedSharding in each leaf, got SingleDevice"),
        ({"w": np.ones(2)}, "params must have a NamedSharding in each leaf, got None"),
    ],
)
def test_parameters_without_a_mesh_are_refused(params, message):
    with pytest.raises(TypeError, match=message):
        jd.state_shardings(optax.adam(1e-3), params)


def test_parameters_on_two_meshes_or_on_none_are_refused():
    other = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    params = sharded_params(mesh_of()) | {
        "more": jax.device_put(jnp.ones(4), NamedSharding(other, P()))
    }
    with pytest.raises(ValueError, match="params must be on one mesh, got 2 meshes"):
        jd.state_shardings(optax.adam(1e-3), params)
    with pytest.raises(ValueError, match="params must be on one mesh, got 0 meshes"):
        jd.state_shardings(optax.adam(1e-3), {})
    with pytest.raises(TypeError, match="tx"):
        jd.state_shardings(optax.adam, sharded_params(mesh_of()))


@pytest.mark.parametrize(
    ("name", "plain", "added"),
    [
        ("tower", optax.adam(1e-3), 1),
        ("tower of sgd", optax.sgd(1e-3), 1),
        ("height 2", optax.adam(1e-3), 1),
        # One of two in the range test or after it, and the length of the update.
        ("self-tuning", optax.adam(1e-3), 3),
    ],
)
def test_a_step_adds_one_sum_of_a_few_numbers(name, plain, added, several_devices):
    mesh = mesh_of()
    before, after = collectives(plain, mesh), collectives(TRANSFORMATIONS[name], mesh)
    assert len(after) == len(before) + added
    large = [shape for _, shapes in before for shape in shapes if shape]
    for kind, shapes in after:
        few = [shape for shape in shapes if shape not in large]
        assert not few or kind == "all-reduce"
        assert set(few) <= {"", "64"}  # numbers, and the coordinates of `applied.few`


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("name", ["tower", "self-tuning"])
def test_training_on_a_mesh_equals_training_on_one_device(name, kind, several_devices):
    batches = jax.random.normal(jax.random.key(0), (30, 4, 8))
    tx, mesh = TRANSFORMATIONS[name], mesh_of(kind)

    def train(params, state, batches):
        def body(carry, batch):
            return step_of(tx, elementwise_loss)(*carry, batch), None

        return jax.lax.scan(body, (params, state), batches)[0]

    params = sharded_params(mesh)
    local = jax.tree.map(np.asarray, params)
    expected, expected_state = jax.jit(train)(local, tx.init(local), batches)
    if kind is AxisType.Auto:
        state = jax.jit(tx.init, out_shardings=jd.state_shardings(tx, params))(params)
        found, state = jax.jit(train)(params, state, batches)
    else:
        with jax.set_mesh(mesh):
            found, state = jax.jit(train)(params, jax.jit(tx.init)(params), batches)
    for name, spec in SPECS.items():
        assert found[name].sharding.is_equivalent_to(NamedSharding(mesh, spec), found[name].ndim)
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
    rates = [jd.get_hyperparams(s)[0]["learning_rate"] for s in (state, expected_state)]
    np.testing.assert_allclose(*rates, rtol=1e-4)


def test_a_changed_update_is_noticed_in_a_sharded_array(several_devices):
    """Coordinates are read from arrays that are sharded by type, too."""
    with jax.set_mesh(mesh_of(AxisType.Explicit)):
        array = jax.device_put(jnp.arange(4096.0), P("fsdp"))
        found = jax.jit(lambda x: sharding.at(x, np.array([0, 7, 4095])))(array)
        assert found.tolist() == [0, 7, 4095]
        tx = jd.hypergradient(optax.sgd, optax.adam(0.05), tune=RATE)
        state = jax.jit(tx.init)(array)
        for _ in range(3):
            updates, state = jax.jit(tx.update)(array, state, array)
            array = optax.apply_updates(array, 0.5 * updates)
    assert int(state.altered) == 2


def test_arrays_belong_to_one_device_under_shard_map(several_devices):
    seen = []

    def body(x):
        seen.append(sharding.may_be_partitioned(x))
        return x

    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    jax.shard_map(body, mesh=mesh, in_specs=P("x"), out_specs=P("x"))(jnp.ones(4))
    assert seen == [False]
    assert sharding.may_be_partitioned(jnp.ones(4))
