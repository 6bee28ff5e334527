"""A function at W + c A B' in factors equals the function at that matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdescent.estimators.factored_matrices import FactoredMatrix, evaluate

RANDOM = np.random.default_rng(0)
W, A, B = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(4, 2)), RANDOM.normal(size=(3, 2))
X, Y = RANDOM.normal(size=(5, 4)), RANDOM.normal(size=(3, 5))
IDS = np.array([[3, 0], [1, 1]])


@jax.custom_jvp
def with_jvp(w):
    return X @ w


@jax.custom_vjp
def with_vjp(w):
    return X @ w


with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), X @ tangents[0]))
with_vjp.defvjp(lambda w: (with_vjp(w), None), lambda _, slope: (X.T @ slope,))


def embedded(w):
    embed = nnx.Embed(4, 3, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    embed.embedding.set_value(w)
    return embed.attend(embed(jnp.asarray(IDS)))


IN_FACTORS = {
    "x w": lambda w: X @ w,
    "a vector times w": lambda w: X[0] @ w,
    "w y": lambda w: w @ Y,
    "w' x'": lambda w: w.T @ X.T,
    "w transposed twice": lambda w: X @ w.T.T,
    "w' on the right": lambda w: Y.T @ w.T,
    "axes in between": lambda w: jnp.einsum("aib,ij->ajb", np.stack([X.T, X.T]), w),
    "jit": lambda w: jax.jit(lambda w: X @ w.T.T)(w),
    "checkpoint": jax.checkpoint(lambda w: X @ w),
    "custom_jvp": with_jvp,
    "custom_vjp": with_vjp,
    "copy": lambda w: X @ jnp.copy(w),
    "rows": lambda w: w[IDS],
    "take": lambda w: jnp.take(w, IDS, axis=0, mode="clip"),
    "take, beyond the end": lambda w: jnp.take(w, IDS + 2, axis=0),
    "embedding that is also the output": embedded,
    "cast": lambda w: (X.astype(np.float32) @ w.astype(jnp.float32)).astype(jnp.float64),
}
COMPUTED = {
    "square": lambda w: w**2,
    "w' w": lambda w: w.T @ w,
    "columns": lambda w: w[:, np.array([2, 0])],
    "parts of rows": lambda w: jax.vmap(lambda i: jax.lax.dynamic_slice(w, (i, 0), (1, 2)))(IDS[0]),
    "batched product": lambda w: jnp.einsum("bi,ij->ij", X, w),
    "both axes": lambda w: jnp.tensordot(X[:4, :3], w, 2),
    "cast to integers": lambda w: w.astype(jnp.int32) + 0.0,
    "loop": lambda w: jax.lax.scan(lambda x, _: (jnp.tanh(w @ (w.T @ x)), None), X[0], None, 2)[0],
    "condition": lambda w: jax.lax.cond(X[0, 0] > 0, lambda w: X @ w, lambda w: -X @ w, w),
    "convolution": lambda w: jax.lax.conv_general_dilated(
        X[None, None], w[None, None], (1, 1), "SAME"
    ),
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def at_factors(function, matrix):
    return evaluate(jax.make_jaxpr(function)(matrix.base), [matrix])[0]


def factored(w=W, step=0.3):
    return FactoredMatrix(jnp.asarray(w), jnp.asarray(step), jnp.asarray(A), jnp.asarray(B))


@pytest.mark.parametrize("name", [*IN_FACTORS, *COMPUTED])
def test_the_result_is_the_function_of_the_matrix(name):
    function = (IN_FACTORS | COMPUTED)[name]
    found, expected = at_factors(function, factored()), function(jnp.asarray(W + 0.3 * A @ B.T))
    found = found.matrix() if isinstance(found, FactoredMatrix) else found
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    rounding = 1e-6 if name == "cast" else 1e-12
    np.testing.assert_allclose(found, expected, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("name", IN_FACTORS)
def test_the_matrix_is_not_computed(name, monkeypatch):
    monkeypatch.setattr(FactoredMatrix, "matrix", None)
    at_factors(IN_FACTORS[name], factored())


@pytest.mark.parametrize("name", ["w' w", "square"])
def test_other_operations_compute_it(name, monkeypatch):
    monkeypatch.setattr(FactoredMatrix, "matrix", None)
    with pytest.raises(TypeError, match="not callable"):
        at_factors(COMPUTED[name], factored())


def test_two_matrices_in_one_product():
    left, right = factored(), FactoredMatrix(*map(jnp.asarray, (W.T, 0.5, B, A)))
    jaxpr = jax.make_jaxpr(jnp.matmul)(left.base, right.base)
    expected = left.matrix() @ right.matrix()
    np.testing.assert_allclose(evaluate(jaxpr, [left, right])[0], expected, rtol=1e-12)


def test_members_share_one_product_with_the_base():
    """Under vmap over factors, the product with W has no axis of members on the side of W."""

    def member(step, a, b):
        return at_factors(
            lambda w: jnp.tanh(X @ w) @ w.T, FactoredMatrix(jnp.asarray(W), step, a, b)
        )

    many = jnp.ones(7), jnp.stack([A] * 7), jnp.stack([B] * 7)
    jaxpr = jax.make_jaxpr(jax.vmap(member))(*many)
    inputs = {v.aval.shape for eqn in jaxpr.eqns for v in eqn.invars if hasattr(v, "aval")}
    assert {(4, 3), (3, 4)} <= inputs
    assert not {(7, 4, 3), (7, 3, 4)} & inputs


def test_half_precision_keeps_steps_below_its_spacing():
    """In bfloat16, 1 + 1/1000 rounds to 1, and the matrix in factors keeps the step."""
    w, one = jnp.ones((64, 1), jnp.bfloat16), jnp.ones((64, 1))
    factors = FactoredMatrix(w, jnp.float32(1e-3), one, jnp.ones((1, 1)))
    x = jnp.full(64, 16.0, jnp.bfloat16)
    assert factors.matrix()[0, 0] == 1
    found = at_factors(lambda w: jnp.dot(x, w, preferred_element_type=jnp.float32), factors)
    np.testing.assert_allclose(found, 1025.024, rtol=1e-6)
