"""Properties of every model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.models.dropout import Dropout
from tests.experiments.models import zoo

every_model = pytest.mark.parametrize("name", zoo.MODELS)
with_dropout = pytest.mark.parametrize("name", zoo.DROPOUT)


@every_model
def test_products_are_bfloat16_and_outputs_float32(name):
    x = zoo.MODELS[name][1]
    half = zoo.built(name, dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(half.state)} == {jnp.dtype("float32")}
    products, activations, delicate = set(), set(), set()
    jaxpr = jax.make_jaxpr(zoo.forward, static_argnums=0)(*half, x).jaxpr
    for equation in zoo.equations(jaxpr):
        operand, *_ = equation.invars or [None]
        match equation.primitive.name:
            case "dot_general" | "conv_general_dilated":
                products |= {str(each.aval.dtype) for each in equation.invars}
            case "max" | "erf" if operand.aval.ndim > 1:
                activations.add(str(operand.aval.dtype))
            case "exp" | "rsqrt" | "logistic" | "tanh" | "reduce_sum":
                delicate.add(str(operand.aval.dtype))
    assert products == {"bfloat16"}
    assert activations <= {"bfloat16"}
    assert delicate <= {"float32"}


@every_model
def test_bfloat16_is_close_to_float32(name):
    x = zoo.MODELS[name][1]
    full = zoo.output(zoo.built(name), x)
    half = zoo.output(zoo.built(name, dtype=jnp.bfloat16), x)
    assert full.dtype == half.dtype == jnp.float32
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(half, full, atol=0.03 * np.abs(full).max())


@every_model
def test_every_parameter_has_a_finite_gradient_that_is_not_zero(name):
    graph, state = zoo.built(name)
    params, rest = nnx.split_state(state, nnx.Param, ...)

    def loss(params, x):
        return jnp.square(nnx.merge(graph, params, rest, copy=True)(x) - 1).mean()

    grads = jax.jit(jax.grad(loss))(params, zoo.MODELS[name][1])
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.all(np.isfinite(np.asarray(grad))), path
        assert np.any(np.asarray(grad)), path


@every_model
def test_models_with_equal_arguments_share_a_compiled_program(name):
    x = zoo.MODELS[name][1]
    one = zoo.output(zoo.built(name), x)
    programs = zoo.run._cache_size()
    two = zoo.output(zoo.built(name, seed=1), x)
    assert zoo.run._cache_size() == programs
    assert not np.allclose(one, two)


@every_model
def test_stacked_models_equal_separate_models(name):
    x = zoo.MODELS[name][1]
    alone = [zoo.built(name, seed) for seed in (0, 1)]
    every = jax.jit(jax.vmap(lambda state: zoo.forward(alone[0].graph, state, x)))
    both = every(zoo.stacked(*(split.state for split in alone)))
    for i, split in enumerate(alone):
        zoo.assert_row(both, i, zoo.run(*split, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("registry", "name"), [(r, name) for r in ("MODELS", "DROPOUT") for name in getattr(zoo, r)]
)
def test_a_model_owns_parameters_and_statistics_only(registry, name):
    model = zoo.built(name, registry=registry).merge()
    kinds = {type(leaf) for _, leaf in nnx.iter_graph(model) if isinstance(leaf, nnx.Variable)}
    assert kinds == ({nnx.Param, nnx.BatchStat} if name == "resnet" else {nnx.Param})


@every_model
@pytest.mark.parametrize("dtype", [jnp.int32, "bf17", 16])
def test_a_dtype_that_is_not_floating_raises(name, dtype):
    with pytest.raises(ValueError, match=r"dtype must be None or a floating dtype.*, got "):
        zoo.shape_of(zoo.MODELS[name][0], dtype=dtype)


@with_dropout
def test_dropout_draws_from_the_key_of_the_call(name):
    x = zoo.DROPOUT[name][1]
    split = zoo.built(name, registry="DROPOUT")
    first, again, other = (zoo.output(split, x, key=zoo.KEYS[i]) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@with_dropout
def test_every_layer_uses_its_own_dropout_key(name, monkeypatch):
    x = zoo.DROPOUT[name][1]
    split = zoo.built(name, registry="DROPOUT")
    used, dropout = [], Dropout.__call__

    def recorded(self, x, key):
        used.append(jax.random.key_data(key))
        return dropout(self, x, key)

    @jax.jit
    def keys():
        zoo.forward(*split, x, key=zoo.KEYS[0])
        return used

    monkeypatch.setattr(Dropout, "__call__", recorded)
    different = {tuple(key.tolist()) for key in keys()}
    assert len(different) == len(zoo.shapes_drawn(split, x))


@with_dropout
def test_dropout_without_a_key_raises_in_training_and_is_off_in_evaluation(name):
    x = zoo.DROPOUT[name][1]
    model = zoo.built(name, registry="DROPOUT").merge()
    with pytest.raises(ValueError, match=r"key must be given.*0\.5, got None.*model\.eval\(\)"):
        jax.eval_shape(model, x)
    model.eval()
    jax.eval_shape(model, x)
    assert zoo.shapes_drawn(zoo.Split(*nnx.split(model)), x) == []


@with_dropout
@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_a_dropout_rate_out_of_range_raises(name, dropout):
    with pytest.raises(ValueError, match=r"dropout must be "):
        zoo.shape_of(zoo.DROPOUT[name][0], dropout=dropout)
