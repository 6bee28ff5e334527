"""A plane is the same for every rescaling of a Flax layer that leaves its function unchanged."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxdescent as jd
from jaxdescent.landscape.filters import axes_within_filters

KEY = jax.random.key(3)
INPUTS = jax.random.normal(jax.random.key(1), (4, 6, 8))
TOKENS = jnp.arange(12).reshape(3, 4) % 5
RELU = jax.nn.relu


class Case(NamedTuple):
    """A network and factors, by the path of a leaf, that leave its function unchanged."""

    apply: Callable[[Any, jax.Array], jax.Array]
    params: Any
    factors: dict[str, Any]
    inputs: jax.Array = INPUTS


def filled(shapes):
    """Returns parameters of random numbers, biases and scales included; nothing is compiled."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


def of_linen(module, factors, inputs=INPUTS):
    shapes = jax.eval_shape(module.init, KEY, inputs)["params"]

    def apply(params, inputs):
        return module.apply({"params": params}, inputs)

    return Case(apply, filled(shapes), factors, inputs)


def of_nnx(make, call, factors, inputs=INPUTS):
    """Builds a case of the layers that `make` returns; `call` is given them and the inputs."""
    model = nnx.eval_shape(lambda: nnx.Dict(make(nnx.Rngs(0))))
    graph, params, rest = nnx.split(model, (nnx.Param, nnx.LoRAParam), ...)

    def concrete(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return KEY if is_key else jnp.ones(x.shape, x.dtype)

    rest = jax.tree.map(concrete, rest)

    def apply(params, inputs):
        return call(nnx.merge(graph, params, rest, copy=True), inputs)

    return Case(apply, filled(params), factors, inputs)


def chain(*modules):
    return nn.Sequential(modules)


class Attended(nn.Module):
    """Attention of an input with itself."""

    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=12, name="att")(x)


class Recurrent(nn.Module):
    """A layer, a ReLU, and a recurrent cell."""

    cell: Any

    @nn.compact
    def __call__(self, x):
        x = RELU(nn.Dense(4, name="before")(x))
        return self.cell(self.cell.initialize_carry(KEY, x.shape), x)[1]


class Pictures(nn.Module):
    """A layer, a ReLU, and a recurrent convolution."""

    @nn.compact
    def __call__(self, x):
        x = RELU(nn.Dense(4, name="before")(x))
        cell = nn.ConvLSTMCell(3, (2,), name="cell")
        return cell(cell.initialize_carry(KEY, x.shape), x)[1]


UNITS = 2.0 ** np.arange(-3, 3).reshape(1, 6) * np.array([[8.0], [1.0]])  # [heads, dim]
GROUPS = np.repeat([8.0, 0.5], 4)


def unit_factors():
    return {
        "att/query": UNITS,
        "att/key": 1 / UNITS,
        "att/value": UNITS[::-1],
        "att/out/kernel": 1 / UNITS[::-1, :, None],
    }


def layer_factors(before, after):
    return {before: 8.0, **{f"{name}/kernel": 1 / 8.0 for name in after}}


def make_nnx():
    def attention(rngs, **options):
        return nnx.MultiHeadAttention(
            num_heads=2, in_features=8, qkv_features=12, decode=False, rngs=rngs, **options
        )

    yield (
        "Linear",
        of_nnx(
            lambda rngs: {"a": nnx.Linear(8, 5, rngs=rngs), "b": nnx.Linear(5, 3, rngs=rngs)},
            lambda m, x: m["b"](RELU(m["a"](x))),
            layer_factors("a", ["b"]),
        ),
    )
    yield (
        "LinearGeneral",
        of_nnx(
            lambda rngs: {
                "a": nnx.LinearGeneral((6, 8), (3, 4), axis=(-2, -1), rngs=rngs),
                "b": nnx.LinearGeneral((3, 4), (2, 5), axis=(-2, -1), rngs=rngs),
            },
            lambda m, x: m["b"](RELU(m["a"](x))),
            layer_factors("a", ["b"]),
        ),
    )
    yield (
        "Einsum",
        of_nnx(
            lambda rngs: {
                "a": nnx.Einsum("nta,hab->nthb", (2, 8, 3), (2, 3), rngs=rngs),
                "b": nnx.Einsum("nthb,hbc->ntc", (2, 3, 4), (4,), rngs=rngs),
            },
            lambda m, x: m["b"](RELU(m["a"](x))),
            layer_factors("a", ["b"]),
        ),
    )
    yield (
        "Conv of groups",
        of_nnx(
            lambda rngs: {
                "a": nnx.Conv(8, 8, (3,), rngs=rngs),
                "b": nnx.Conv(8, 8, (3,), feature_group_count=2, rngs=rngs),
            },
            lambda m, x: m["b"](RELU(m["a"](x))),
            {"a": GROUPS, "b/kernel": 1 / GROUPS},
        ),
    )
    yield (
        "ConvTranspose",
        of_nnx(
            lambda rngs: {
                "a": nnx.ConvTranspose(8, 5, (3,), transpose_kernel=True, rngs=rngs),
                "b": nnx.ConvTranspose(5, 4, (3,), rngs=rngs),
            },
            lambda m, x: m["b"](RELU(m["a"](x))),
            layer_factors("a", ["b"]),
        ),
    )
    yield (
        "Embed",
        of_nnx(
            lambda rngs: {
                "e": nnx.Embed(5, 8, rngs=rngs),
                "n": nnx.LayerNorm(8, epsilon=1e-12, rngs=rngs),
                "a": nnx.Linear(8, 3, rngs=rngs),
            },
            lambda m, x: m["a"](m["n"](m["e"](x))),
            {"e/embedding": 2.0 ** np.arange(-2, 3)[:, None]},
            TOKENS,
        ),
    )
    for name, options in {"": {}, " without biases": {"use_bias": False}}.items():
        yield (
            f"MultiHeadAttention{name}",
            of_nnx(
                lambda rngs, options=options: {"att": attention(rngs, **options)},
                lambda m, x: m["att"](x),
                unit_factors(),
            ),
        )
    yield (
        "MultiHeadAttention with normalized queries",
        of_nnx(
            lambda rngs: {"att": attention(rngs, normalize_qk=True)},
            lambda m, x: m["att"](x),
            {"att/query/": np.array([[8.0], [1.0]]), "att/key/": np.array([[1.0], [0.1]])},
        ),
    )
    yield (
        "LoRA",
        of_nnx(
            lambda rngs: {"a": nnx.LoRALinear(8, 4, lora_rank=3, rngs=rngs)},
            lambda m, x: m["a"](x),
            {
                "lora_a": np.array([8.0, 1.0, 0.25]),
                "lora_b": 1 / np.array([[8.0], [1.0], [0.25]]),
            },
        ),
    )
    for cell, inside in {
        nnx.LSTMCell: ["c/ii", "c/if_", "c/ig", "c/io"],
        nnx.OptimizedLSTMCell: ["c/dense_i"],
        nnx.GRUCell: ["c/dense_i"],
        nnx.SimpleCell: ["c/dense_i"],
    }.items():
        yield (
            cell.__name__,
            of_nnx(
                lambda rngs, cell=cell: {
                    "before": nnx.Linear(8, 4, rngs=rngs),
                    "c": cell(4, 3, rngs=rngs),
                },
                lambda m, x: m["c"](
                    m["c"].initialize_carry((4, 6, 4), nnx.Rngs(0)), RELU(m["before"](x))
                )[1],
                layer_factors("before", inside),
            ),
        )
    for norm, factor in {
        "BatchNorm": np.array([8.0, 1.0, 0.5, 2.0]),
        "GroupNorm": np.array([8.0, 8.0, 0.5, 0.5]),
        "LayerNorm": 8.0,
        "RMSNorm": 8.0,
        "InstanceNorm": np.array([8.0, 1.0, 0.5, 2.0]),
    }.items():
        options = {"num_groups": 2} if norm == "GroupNorm" else {}
        yield (
            f"a layer before {norm}",
            of_nnx(
                lambda rngs, norm=norm, options=options: {
                    "a": nnx.Linear(8, 4, rngs=rngs),
                    "n": getattr(nnx, norm)(4, epsilon=1e-12, rngs=rngs, **options),
                },
                lambda m, x: m["n"](m["a"](x)),
                {"a/": factor},
            ),
        )


def make_linen():
    yield (
        "Dense",
        of_linen(chain(nn.Dense(5), RELU, nn.Dense(3)), layer_factors("layers_0", ["layers_2"])),
    )
    general = chain(nn.DenseGeneral((3, 4), axis=(-2, -1)), RELU, nn.DenseGeneral(5, axis=(-2, -1)))
    yield "DenseGeneral", of_linen(general, layer_factors("layers_0", ["layers_2"]))
    stacked = chain(nn.DenseGeneral(5, batch_dims=(0,)), RELU, nn.DenseGeneral(3, batch_dims=(0,)))
    each = 2.0 ** np.arange(4)
    yield (
        "DenseGeneral of a stack",
        of_linen(
            stacked,
            {
                "layers_0/kernel": each[:, None, None],
                "layers_0/bias": each[:, None],
                "layers_2/kernel": 1 / each[:, None, None],
            },
        ),
    )
    convolutions = chain(
        nn.Conv(8, (3,)), RELU, nn.Conv(8, (3,), feature_group_count=2), RELU, nn.ConvLocal(4, (3,))
    )
    yield (
        "Conv of groups and ConvLocal",
        of_linen(
            convolutions,
            {
                "layers_0": GROUPS,
                "layers_2/kernel": 3 / GROUPS,
                "layers_2/bias": 3.0,
                "layers_4/kernel": 1 / 3.0,
            },
        ),
    )
    transposed = chain(
        nn.ConvTranspose(5, (3,), transpose_kernel=True), RELU, nn.ConvTranspose(4, (3,))
    )
    yield "ConvTranspose", of_linen(transposed, layer_factors("layers_0", ["layers_2"]))
    yield (
        "Embed",
        of_linen(
            chain(nn.Embed(5, 8), nn.RMSNorm(epsilon=1e-12), nn.Dense(3)),
            {"embedding": 2.0 ** np.arange(-2, 3)[:, None]},
            TOKENS,
        ),
    )
    yield "MultiHeadDotProductAttention", of_linen(Attended(), unit_factors())
    for cell, inside in {
        nn.LSTMCell: ["ii", "if", "ig", "io"],
        nn.OptimizedLSTMCell: ["ii", "if", "ig", "io"],
        nn.GRUCell: ["ir", "iz", "in"],
        nn.MGUCell: ["if", "in"],
        nn.SimpleCell: ["i"],
    }.items():
        inside = [f"cell/{name}" for name in inside]
        yield (
            cell.__name__,
            of_linen(Recurrent(cell(3, name="cell")), layer_factors("before", inside)),
        )
    yield "ConvLSTMCell", of_linen(Pictures(), layer_factors("before", ["cell/ih"]))
    yield (
        "WeightNorm",
        of_linen(
            chain(nn.WeightNorm(nn.Dense(4)), RELU, nn.Dense(3)),
            {"layer_instance/kernel/scale": 1.0, "layer_instance/kernel": 8.0},
        ),
    )


def factors_of_leaves(case):
    """Returns a tree of factors, each of the shape of its leaf."""
    used = set()

    def factor(path, leaf):
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        for part, number in case.factors.items():
            if f"/{part}" in f"/{place}":
                used.add(part)
                return np.broadcast_to(np.float32(number), leaf.shape)
        return np.ones(leaf.shape, np.float32)

    factors = jax.tree_util.tree_map_with_path(factor, case.params)
    assert used == {*case.factors}
    return factors


@pytest.mark.parametrize("make", [make_nnx, make_linen])
def test_a_rescaling_that_leaves_the_function_unchanged_multiplies_each_filter_by_one_number(make):
    """So a plane is unchanged. All layers are evaluated in one program, each rescaled."""
    cases = dict(make())
    params = {name: case.params for name, case in cases.items()}
    factors = {name: factors_of_leaves(case) for name, case in cases.items()}

    @jax.jit
    def apply(params):
        return {name: case.apply(params[name], case.inputs) for name, case in cases.items()}

    plain, found = apply(params), apply(jax.tree.map(np.multiply, params, factors))
    for name in cases:
        scale = np.max(np.abs(plain[name]))
        np.testing.assert_allclose(found[name], plain[name], atol=1e-4 * scale, err_msg=name)
        leaves = jax.tree.leaves(factors[name])
        filters = axes_within_filters(params[name], scaled=False)
        for factor, within in zip(leaves, filters, strict=True):
            assert within is None or np.all(np.ptp(factor, axis=within) == 0), name


def test_the_plane_of_a_rescaled_attention_layer_is_unchanged():
    """The picture varies by more than 0.1."""
    case = dict(make_nnx())["MultiHeadAttention"]
    scaled = jax.tree.map(np.multiply, case.params, factors_of_leaves(case))

    def loss(params, inputs):
        return jnp.mean(case.apply(params, inputs) ** 2)

    plain, found, other = (
        jd.landscape.plane(
            loss,
            params,
            jd.landscape.random_directions(KEY, params, biases="scaled", filter_axes=axes),
            INPUTS,
            x=np.linspace(-1, 1, 3),
        ).values
        for params, axes in ((case.params, "auto"), (scaled, "auto"), (scaled, -1))
    )
    assert np.ptp(plain) > 0.1
    np.testing.assert_allclose(found, plain, rtol=1e-3)
    assert np.max(np.abs(other - plain)) > 0.05 * np.ptp(plain)


def is_shape(x):
    return isinstance(x, tuple)


def axes(params, scaled=False):
    shapes = jax.tree.map(np.zeros, params, is_leaf=is_shape)
    return axes_within_filters(shapes, scaled=scaled)


def test_the_bias_tells_which_axes_of_a_kernel_are_outputs():
    assert axes({"kernel": (3, 4, 5)}) == [(0, 1)]
    for kernel, bias, within in (
        ((3, 4, 5), (5,), (0, 1)),
        ((3, 4, 5), (4, 5), (0,)),
        ((3, 4, 5), (3, 5), (1,)),
        ((3, 5, 4), (5,), (0, 2)),
        ((3, 4, 5), (7,), (0, 1)),
    ):
        assert axes({"layer": {"bias": bias, "kernel": kernel}}) == [None, within]


def test_biases_are_scaled_over_their_last_axis_and_one_by_one_in_heads():
    layers = {name: {"bias": (2, 3), "kernel": (8, 2, 3)} for name in ("query", "key", "value")}
    layers["out"] = {"bias": (8,), "kernel": (2, 3, 8)}
    found = axes({"att": layers, "norm": {"scale": (4, 5)}}, scaled=True)
    # In order of names: key, out, query, value, norm.
    assert found == [(), (0,), (0,), (2,), (), (0,), (), (0,), (1,)]
    assert axes({"att": layers["query"]}) == [None, (0,)]


def test_names_of_variables_and_of_their_values_are_read_alike():
    lora = {"lora_a": (8, 3), "lora_b": (3, 8), "embedding": (5, 8), "weights": (5, 8)}
    assert axes(lora) == [(1,), (0,), (1,), (0,)]
    state = nnx.State(jax.tree.map(lambda x: nnx.Param(jnp.zeros(x)), lora, is_leaf=is_shape))
    assert axes_within_filters(state, scaled=False) == axes(lora)


def test_a_function_can_leave_the_choice_of_filter_axes_to_the_names():
    params = {"up": {"kernel": jnp.ones((3, 4))}, "embedding": jnp.ones((3, 4)) * 2}

    def choose(path):
        return 0 if "up" in path else "auto"

    (u,) = jd.landscape.random_directions(KEY, params, 1, filter_axes=choose)
    np.testing.assert_allclose(jnp.linalg.norm(u["up"]["kernel"], axis=1), 2.0, rtol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(u["embedding"], axis=1), 4.0, rtol=1e-6)
    with pytest.raises(
        ValueError, match=r"params\['embedding'\] must be axes or 'auto', got 'all'"
    ):
        jd.landscape.random_directions(KEY, params, 1, filter_axes="all")
