"""Properties of every loss: masks, dtypes, extreme inputs, second derivatives, shapes."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdescent import losses
from tests.losses.cases import CASES, CLASSES, GRID, ROWS

settings.register_profile("losses", deadline=None, derandomize=True, max_examples=10)
law = settings.get_profile("losses")


def losses_with(condition):
    return pytest.mark.parametrize("name", [n for n, case in CASES.items() if condition(case)])


every_loss = losses_with(lambda case: True)


def masked_by(kind):
    return losses_with(lambda case: kind in case.masks)


@functools.cache
def compiled(name):
    return jax.jit(CASES[name].value_and_grad)


def assert_close(found, expected, tolerance=1e-5):
    leaves = jax.tree.leaves(found), jax.tree.leaves(expected)
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def masks(*shape):
    size = int(np.prod(shape))
    bits = st.lists(st.booleans(), min_size=size, max_size=size)
    return bits.map(lambda bits: np.reshape(bits, shape))


def orders(bits):
    return st.permutations(bits).map(np.array)


def poisoned(case, arrays, where):
    """Returns the arrays with NaN, infinities and labels out of range at masked entries."""
    out = {}
    for name, array in arrays.items():
        excluded = ~where
        if where.ndim < array.ndim:
            excluded = np.broadcast_to(excluded[:, None], array.shape)
        if where.ndim > array.ndim:
            excluded = ~np.any(where, axis=-1)
        bad = np.resize([np.nan, np.inf, -np.inf], array.shape) if case.is_float(name) else 99
        out[name] = np.where(excluded, bad, array)
    return out


def test_every_loss_has_a_case():
    public = {name for name in losses.__all__ if inspect.isfunction(getattr(losses, name))}
    assert public - {"masked_mean", "mean_cross_entropy", "linear_cross_entropy"} == {
        name.split(",")[0].split(" ")[0] for name in CASES
    }
    assert all(f"{name}" in losses.__doc__ for name in public)


@every_loss
@given(seed=st.integers(0, 1000))
@law
def test_losses_are_finite_and_not_negative(name, seed):
    case = CASES[name]
    values, grads = compiled(name)(*case.split(case.arrays(seed)))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((values, grads)))
    assert case.signed or np.all(values >= 0)


@masked_by("elements")
@given(seed=st.integers(0, 1000), where=masks(*GRID))
@law
def test_masked_elements_have_loss_and_gradient_0_and_do_not_affect_others(name, seed, where):
    case = CASES[name]
    arrays = case.arrays(seed)
    variables, fixed = case.split(poisoned(case, arrays, where))
    found = compiled(name)(variables, fixed, where=where)
    expected = jax.tree.map(lambda x: np.where(where, x, 0), compiled(name)(*case.split(arrays)))
    assert_close(found, expected, 1e-6)


@masked_by("rows")
@given(seed=st.integers(0, 1000), where=masks(ROWS))
@law
def test_masked_rows_have_loss_and_gradient_0_and_do_not_affect_others(name, seed, where):
    case = CASES[name]
    arrays = case.arrays(seed)
    variables, fixed = case.split(poisoned(case, arrays, where))
    found = compiled(name)(variables, fixed, where=where)

    def rows(x):
        return np.where(where.reshape(ROWS, *[1] * (x.ndim - 1)), x, 0)

    assert_close(found, jax.tree.map(rows, compiled(name)(*case.split(arrays))), 1e-6)


@masked_by("coordinates")
@given(seed=st.integers(0, 1000), where=orders([True] * 3 + [False] * (CLASSES - 3)))
@law
def test_a_mask_of_coordinates_equals_dropping_them(name, seed, where):
    case = CASES[name]
    arrays = case.arrays(seed, (1, CLASSES))
    if case.kinds.get("labels") == "label":
        arrays["labels"] = np.flatnonzero(where)[arrays["labels"] % 3]
    kept = {n: a[:, where] if a.ndim == 2 else a for n, a in arrays.items()}
    if case.kinds.get("labels") == "label":
        kept["labels"] = np.sum(where[: arrays["labels"][0]], keepdims=True)
    variables, fixed = case.split(poisoned(case, arrays, where[None]))
    values, grads = compiled(name)(variables, fixed, where=where[None])
    assert all(np.all(leaf[:, ~where] == 0) for leaf in grads.values())
    grads = {n: leaf[:, where] for n, leaf in grads.items()}
    assert_close((values, grads), compiled(name)(*case.split(kept)))


@masked_by("coordinates")
def test_a_row_without_included_coordinates_has_loss_0(name):
    case = CASES[name]
    where = np.arange(ROWS)[:, None] + np.zeros(CLASSES) != 2
    arrays = case.arrays(0)
    values, grads = compiled(name)(*case.split(poisoned(case, arrays, where)), where=where)
    full_values, full_grads = compiled(name)(*case.split(arrays))

    def rows(x):
        return np.where(where[:, 0].reshape(ROWS, *[1] * (x.ndim - 1)), x, 0)

    assert_close((values, grads), jax.tree.map(rows, (full_values, full_grads)), 1e-6)


@masked_by("batch")
@given(seed=st.integers(0, 1000), where=orders([True] * 4 + [False] * (ROWS - 4)))
@law
def test_a_mask_of_a_batch_equals_dropping_its_examples(name, seed, where):
    case = CASES[name]
    arrays = case.arrays(seed)
    arrays["labels"] %= 2
    variables, fixed = case.split(poisoned(case, arrays, where))
    values, grads = compiled(name)(variables, fixed, where=where)
    assert all(np.all(leaf[~where] == 0) for leaf in (values, *grads.values()))
    kept, _ = compiled(name)(*case.split({n: a[where] for n, a in arrays.items()}))
    assert_close(values[where], kept)


@every_loss
def test_jit_and_vmap_equal_eager_calls(name):
    case = CASES[name]
    variables, fixed = case.split(case.arrays())
    together = compiled(name)(variables, fixed)
    assert_close(case.loss(**variables, **fixed), together[0], 1e-6)
    if "batch" not in case.masks:
        alone = jax.jit(jax.vmap(lambda m, f: case.loss(**m, **f)))(variables, fixed)
        assert_close(alone, together[0], 1e-6)


@every_loss
def test_constants_of_a_compiled_function_are_checked(name):
    case = CASES[name]
    variables, fixed = case.split(case.arrays())
    for mask in case.masks:
        where = jnp.full(ROWS if mask in ("rows", "batch") else GRID, True)
        found = jax.jit(lambda variables, where=where: case.loss(**variables, **fixed, where=where))
        assert_close(found(variables), compiled(name)(variables, fixed)[0], 1e-6)


@every_loss
def test_half_precision_is_computed_in_float32(name):
    case = CASES[name]
    variables, fixed = case.split(case.arrays(), jnp.bfloat16)
    values, grads = compiled(name)(variables, fixed)
    assert values.dtype == jnp.float32
    assert {grad.dtype for grad in grads.values()} == {jnp.dtype("bfloat16")}
    single = jax.tree.map(lambda x: x.astype(jnp.float32), variables)
    assert_close(values, compiled(name)(single, fixed)[0], 1e-6)


@every_loss
def test_float64_stays_float64_under_strict_promotion(name):
    case = CASES[name]
    single = compiled(name)(*case.split(case.arrays()))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        double = jax.jit(case.value_and_grad)(*case.split(case.arrays(), jnp.float64))
        assert {leaf.dtype for leaf in jax.tree.leaves(double)} == {jnp.dtype("float64")}
        assert_close(single, jax.tree.map(np.asarray, double), 2e-5)


EXTREME = {"real": (-1e4, 1e4), "positive": (0.0, 1e4), "probability": (0.0, 1.0)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@every_loss
def test_extreme_inputs_have_finite_losses_and_gradients(name, dtype):
    case = CASES[name]
    arrays = case.arrays()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        for key, array in arrays.items():
            if case.is_float(key):
                arrays[key] = rng.choice(EXTREME[case.kinds[key]], size=array.shape)
        variables, fixed = case.split(arrays, dtype)
        found = compiled(name)(variables, fixed)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))
        zeros = {key: jnp.zeros_like(array) for key, array in variables.items()}
        found = compiled(name)(zeros, fixed)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))


NOT_SCORES = ("cosine_embedding_loss", "circle_loss", "tversky_loss", "iou_loss")  # no infinity


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_SCORES])
def test_infinite_scores_have_the_limit_of_the_loss_and_no_nan(name):
    case = CASES[name]
    finite = 0
    for seed in range(6):
        rng, arrays = np.random.default_rng(seed), case.arrays(seed)
        for key, array in arrays.items():
            if case.kinds[key] in ("real", "positive") and key != "targets":
                choices = [np.inf] if case.kinds[key] == "positive" else [-np.inf, np.inf]
                chosen = rng.choice(choices, size=array.shape)
                arrays[key] = np.where(rng.random(array.shape) < 0.3, chosen, array)
        large = {
            key: np.nan_to_num(a, posinf=1e30, neginf=-1e30) if case.is_float(key) else a
            for key, a in arrays.items()
        }
        values, grads = compiled(name)(*case.split(arrays))
        limits = np.asarray(compiled(name)(*case.split(large))[0])
        infinite = np.isinf(values)
        assert np.all(limits[infinite] > 30)  # the slowest growth is log(1e30) / 2
        np.testing.assert_allclose(values[~infinite], limits[~infinite], rtol=1e-5, atol=1e-5)
        for grad in grads.values():
            assert not np.any(np.isnan(grad))
            assert np.all(np.isfinite(grad[~infinite]))
        finite += np.sum(~infinite)
    assert finite > 6


@every_loss
def test_second_derivatives_equal_finite_differences_of_gradients(name):
    case = CASES[name]
    step = 1e-6
    with jax.enable_x64(True):
        variables, fixed = case.split(case.arrays(3), jnp.float64)
        rng = np.random.default_rng(0)
        direction = {n: jnp.asarray(rng.normal(size=x.shape)) for n, x in variables.items()}
        grad = jax.jit(lambda variables: case.value_and_grad(variables, fixed)[1])
        curvature = jax.jvp(grad, (variables,), (direction,))[1]

        def shifted(h):
            return grad({n: x + h * direction[n] for n, x in variables.items()})

        both = jax.tree.map(lambda a, b: (a - b) / (2 * step), shifted(step), shifted(-step))
        for n, leaf in curvature.items():
            scale = 1 + np.max(np.abs(leaf))
            np.testing.assert_allclose(leaf / scale, both[n] / scale, atol=1e-6)


@every_loss
def test_shapes_that_would_broadcast_are_refused(name):
    case = CASES[name]
    arrays = {n: jnp.asarray(a) for n, a in case.arrays().items()}
    for key in list(arrays)[1:]:
        for bad in (arrays[key][:1], arrays[key][..., None]):
            with pytest.raises(ValueError, match=f"{key} must have the shape of .*, got"):
                case.loss(**{**arrays, key: bad})
    for where in (np.full((ROWS, 1), True), np.full((1, *GRID), True), np.True_):
        with pytest.raises(ValueError, match="where must have the shape"):
            case.loss(**arrays, where=where)
    with pytest.raises(TypeError, match="where must be boolean, got dtype float"):
        case.loss(**arrays, where=np.ones(GRID))
