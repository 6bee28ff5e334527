"""L2 Init, shrink and perturb, UPGD and Adam with elementwise counts, against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

RANDOM = np.random.default_rng(0)
PARAMS = {"w": RANDOM.normal(size=(4, 3)), "b": RANDOM.normal(size=3)}
GRADS = [{name: RANDOM.normal(size=x.shape) for name, x in PARAMS.items()} for _ in range(12)]


def floats(tree, dtype=jnp.float32):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)


def trained(tx, params=PARAMS, grads=GRADS):
    """Returns the parameters after given gradients."""
    params = floats(params)
    state = tx.init(params)
    for g in grads:
        updates, state = tx.update(floats(g), state, params)
        params = optax.apply_updates(params, updates)
    return params


def assert_close(tree, expected, tolerance=2e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance), tree, expected)


def test_l2_init_is_the_gradient_of_the_penalty():
    x = {name: value.copy() for name, value in PARAMS.items()}
    for g in GRADS:
        x = {name: x[name] - 0.1 * (g[name] + 0.3 * (x[name] - PARAMS[name])) for name in x}
    assert_close(trained(optax.chain(jd.streaming.l2_init(0.3), optax.sgd(0.1))), x)


def test_l2_init_keeps_its_initial_parameters_when_they_are_donated():
    tx = jd.streaming.l2_init(1.0)
    params = floats(PARAMS)
    state = tx.init(params)
    jax.jit(lambda x: jax.tree.map(lambda y: y + 1, x), donate_argnums=0)(params)
    assert_close(state.initial, PARAMS)


def test_shrink_and_perturb_has_the_mean_and_the_deviation_of_its_formula():
    params = {"w": jnp.full((200, 200), 2.0), "b": jnp.full(20_000, -1.0)}
    changed = jd.streaming.shrink_and_perturb(
        jax.random.key(1), params, shrink=0.4, noise={"w": 0.5, "b": 0.0}
    )
    count = params["w"].size
    assert float(jnp.mean(changed["w"])) == pytest.approx(0.8, abs=4 * 0.5 / count**0.5)
    assert float(jnp.std(changed["w"])) == pytest.approx(0.5, rel=4 / (2 * count) ** 0.5)
    np.testing.assert_allclose(changed["b"], -0.4, rtol=1e-6)
    same = jd.streaming.shrink_and_perturb(jax.random.key(1), params, shrink=1.0, noise=0.0)
    jax.tree.map(np.testing.assert_array_equal, same, params)
    both = jd.streaming.shrink_and_perturb(jax.random.key(1), params, shrink=0.0, noise=1.0)
    assert float(jnp.std(both["b"])) == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize("noise_is_scaled", [False, True])
def test_decay_follows_the_formula_and_noise_does_or_does_not_scale_with_the_rate(noise_is_scaled):
    def make(noise):
        if noise_is_scaled:
            return jd.streaming.perturbed_descent(0.1, jax.random.key(0), decay=0.2, noise=noise)
        return jd.streaming.continual_shrink_and_perturb(
            optax.sgd(0.1), jax.random.key(0), decay=0.2, noise=noise
        )

    x = {name: value.copy() for name, value in PARAMS.items()}
    for g in GRADS:
        x = {name: x[name] - 0.1 * (g[name] + 0.2 * x[name]) for name in x}
    assert_close(trained(make(0.0)), x)
    large = jnp.zeros(40_000)
    tx = make(0.5)
    updates, state = tx.update(large, tx.init(large), large)
    expected = 0.05 if noise_is_scaled else 0.5
    assert float(jnp.std(updates)) == pytest.approx(expected, rel=0.02)
    again, _ = tx.update(large, state, large)
    assert abs(float(jnp.corrcoef(updates, again)[0, 1])) < 0.03


def upgd_reference(steps, protect, learning_rate=0.1, decay=0.9, weight_decay=0.2):
    """The published update in float64, without noise."""
    x = {name: value.copy() for name, value in PARAMS.items()}
    u = {name: np.zeros_like(value) for name, value in PARAMS.items()}
    for t, g in enumerate(GRADS[:steps], 1):
        u = {name: decay * u[name] - (1 - decay) * g[name] * x[name] for name in x}
        largest = max(v.max() for v in u.values())
        for name in x:
            s = 1 / (1 + np.exp(-u[name] / (1 - decay**t) / largest))
            moved = g[name] * (1 - s) if protect else g[name]
            x[name] = (1 - learning_rate * weight_decay) * x[name] - learning_rate * moved
    return x


@pytest.mark.parametrize("protect", [True, False])
def test_upgd_follows_its_published_update(protect):
    tx = jd.streaming.upgd(
        0.1, jax.random.key(0), decay=0.9, noise=0.0, weight_decay=0.2, protect=protect
    )
    assert_close(trained(tx), upgd_reference(len(GRADS), protect))


def test_upgd_without_a_positive_utility_halves_the_gradient():
    # -g x < 0 everywhere: dividing by the negative maximum would protect what is least useful.
    x, g = jnp.array([1.0, 2.0]), jnp.array([1.0, 3.0])
    tx = jd.streaming.upgd(0.1, jax.random.key(0), noise=0.0, weight_decay=0.0)
    updates, _ = tx.update(g, tx.init(x), x)
    np.testing.assert_allclose(updates, -0.05 * g, rtol=1e-6)


def test_upgd_perturbs_useless_weights_and_counts_no_utility_that_is_not_finite():
    x = jnp.concatenate([jnp.full(20_000, -1.0), jnp.full(20_000, 1.0)])
    g = jnp.ones(40_000)  # utilities +1 and -1, so that s is sigmoid(+-1 / (1 - decay))
    tx = jd.streaming.upgd(0.1, jax.random.key(0), decay=0.0, noise=0.5, weight_decay=0.0)
    updates, state = tx.update(g, tx.init(x), x)
    free = 1 - 1 / (1 + np.exp(-1.0)), 1 - 1 / (1 + np.exp(1.0))
    for half, share in zip((updates[:20_000], updates[20_000:]), free, strict=True):
        assert float(jnp.std(half)) == pytest.approx(0.1 * 0.5 * share, rel=0.03)
    _, after = tx.update(g.at[0].set(jnp.nan), state, x)
    assert float(after.utility[0]) == float(state.utility[0])


def test_elementwise_adam_without_replacements_is_adam():
    settings = {"learning_rate": 0.02, "b1": 0.8, "b2": 0.95, "eps": 1e-7}
    expected = trained(optax.adam(**settings))
    assert_close(trained(jd.streaming.elementwise_adam(**settings)), expected, 1e-6)


def test_elementwise_adam_corrects_the_bias_of_each_weight_by_its_own_count():
    tx, x = jd.streaming.elementwise_adam(0.1), jnp.zeros(2)
    state = tx.init(x)
    for _ in range(50):
        _, state = tx.update(jnp.array([1.0, 1.0]), state, x)
    state = jax.tree.map(lambda leaf: leaf.at[0].set(0), state)
    updates, state = tx.update(jnp.array([7.0, 1.0]), state, x)
    np.testing.assert_allclose(updates, [-0.1, -0.1], rtol=1e-4)
    assert list(state.counts) == [1, 51]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jd.streaming.l2_init(-1.0), r"strength must be a number in \[0, inf\), got -1"),
        (lambda: jd.streaming.upgd(0.0, jax.random.key(0)), "learning_rate must be a number in"),
        (lambda: jd.streaming.upgd(0.1, 0), "key must be one random key"),
        (
            lambda: jd.streaming.upgd(0.1, jax.random.key(0), decay=1.0),
            r"decay must be in \[0, 1\)",
        ),
        (lambda: jd.streaming.upgd(0.1, jax.random.key(0), protect=1), "protect must be True or"),
        (lambda: jd.streaming.elementwise_adam(0.1, b1=1.0), r"b1 must be in \[0, 1\), got 1.0"),
        (
            lambda: jd.streaming.shrink_and_perturb(
                jax.random.key(0), jnp.ones(2), shrink=1.5, noise=0.0
            ),
            r"shrink must be a number in \[0, 1\], got 1.5",
        ),
        (
            lambda: jd.streaming.shrink_and_perturb(
                jax.random.key(0), PARAMS, shrink=0.5, noise={"w": 0.1}
            ),
            "noise must be a number or a tree of numbers like params",
        ),
        (
            lambda: jd.streaming.shrink_and_perturb(
                jax.random.key(0), [jnp.ones(2)] * 2, shrink=1.0, noise=[0.0, 0.0, 0.0]
            ),
            "noise must be a number or a tree of numbers like params",
        ),
        (
            lambda: jd.streaming.perturbed_descent(0.1, jax.random.key(0), decay=-1, noise=0),
            r"decay must be a number in \[0, inf\), got -1",
        ),
        (
            lambda: jd.streaming.continual_shrink_and_perturb(
                optax.sgd, jax.random.key(0), decay=0, noise=0
            ),
            "tx must be an optax gradient transformation",
        ),
    ],
)
def test_bad_arguments_are_refused_at_construction(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
