"""CMA-ES equals a transcription of the tutorial's equations, and needs as many values as pycma."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent import covariance_adaptation as cma_es


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@jax.jit
def update(gaussian, points, values, size, limits_lengths=False):
    return cma_es.update(
        gaussian, points, values, size, largest_width=10.0, limits_lengths=limits_lengths
    )


def ellipsoid(x):
    return jnp.sum(10.0 ** (6 * jnp.arange(x.size) / (x.size - 1)) * x**2)


def sphere(x):
    return jnp.sum(x**2)


def transcription(n, size):
    """Yields the states of CMA-ES after each generation of (points, values) that it is sent.

    Written from N. Hansen, 2016, arXiv:1604.00772, figure 6 and table 1, with plain loops.
    """
    raw = np.array([np.log((size + 1) / 2) - np.log(i + 1) for i in range(size)])
    mu = size // 2
    mu_eff = raw[:mu].sum() ** 2 / (raw[:mu] ** 2).sum()
    mu_eff_worse = raw[mu:].sum() ** 2 / (raw[mu:] ** 2).sum()
    c_sigma = (mu_eff + 2) / (n + mu_eff + 5)
    d_sigma = 1 + 2 * max(0, np.sqrt((mu_eff - 1) / (n + 1)) - 1) + c_sigma
    c_c = (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)
    c_1 = 2 / ((n + 1.3) ** 2 + mu_eff)
    c_mu = min(1 - c_1, 2 * (1 / 4 + mu_eff + 1 / mu_eff - 2) / ((n + 2) ** 2 + 2 * mu_eff / 2))
    alpha = min(
        1 + c_1 / c_mu, 1 + 2 * mu_eff_worse / (mu_eff_worse + 2), (1 - c_1 - c_mu) / (n * c_mu)
    )
    positive, negative = raw[raw >= 0].sum(), -raw[raw < 0].sum()
    w = np.where(raw >= 0, raw / positive, alpha * raw / negative)
    expected = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
    m, sigma, c, p_c, p_sigma = np.full(n, 0.5), 0.3, np.eye(n), np.zeros(n), np.zeros(n)
    g = 0
    while True:
        points, values = yield m, sigma, c
        g += 1
        y = (points[np.argsort(values)] - m) / sigma
        eigenvalues, b = np.linalg.eigh(c)
        inverse_root = b @ np.diag(eigenvalues**-0.5) @ b.T
        step = sum(w[i] * y[i] for i in range(mu))
        m = m + sigma * step
        p_sigma = (1 - c_sigma) * p_sigma
        p_sigma += np.sqrt(c_sigma * (2 - c_sigma) * mu_eff) * inverse_root @ step
        length = np.linalg.norm(p_sigma)
        sigma = sigma * np.exp(c_sigma / d_sigma * (length / expected - 1))
        limit = (1.4 + 2 / (n + 1)) * expected
        h = float(length / np.sqrt(1 - (1 - c_sigma) ** (2 * g)) < limit)
        p_c = (1 - c_c) * p_c + h * np.sqrt(c_c * (2 - c_c) * mu_eff) * step
        delta = (1 - h) * c_c * (2 - c_c)
        new = (1 + c_1 * delta - c_1 - c_mu * w.sum()) * c + c_1 * np.outer(p_c, p_c)
        for i in range(size):
            factor = 1 if w[i] >= 0 else n / np.linalg.norm(inverse_root @ y[i]) ** 2
            new = new + c_mu * w[i] * factor * np.outer(y[i], y[i])
        c = new


@pytest.mark.parametrize(("n", "size", "rows"), [(1, 4, 4), (3, 7, 12), (10, 24, 24)])
def test_generations_equal_a_transcription_of_the_tutorial(n, size, rows):
    gaussian = cma_es.begin(jnp.full(n, 0.5), jnp.asarray(0.3))
    theirs = transcription(n, size)
    next(theirs)
    rng = np.random.default_rng(n)
    for _ in range(25):
        normal = rng.normal(size=(size, n))
        points = np.array(
            gaussian.mean + gaussian.sigma * (normal * gaussian.axes) @ gaussian.basis.T
        )
        values = np.sum((1 + np.arange(n)) * (points - 0.2) ** 2, axis=1)
        # Rows beyond the population are ignored.
        padding = ((0, rows - size), (0, 0))
        gaussian = update(
            gaussian,
            np.pad(points, padding, constant_values=np.pi),
            np.pad(values, padding[0], constant_values=np.inf),
            jnp.int32(size),
        )
        mean, sigma, covariance = theirs.send((points, values))
        np.testing.assert_allclose(gaussian.mean, mean, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(gaussian.sigma, sigma, rtol=1e-8)
        np.testing.assert_allclose(gaussian.covariance, covariance, rtol=1e-8, atol=1e-10)
    assert gaussian.sigma < 0.2


@pytest.mark.parametrize(
    ("function", "pycma"),
    # Medians of 11 runs of pycma 4.5.0 from this start to a value of 1e-8.
    [(sphere, 1_290), (ellipsoid, 3_860)],
)
def test_evaluations_in_ten_dimensions_are_those_of_pycma(function, pycma):
    size = cma_es.default_population_size(10)
    assert size == 10

    @jax.jit
    def run(key):
        def goes_on(carry):
            return (carry[1] > 1e-8) & (carry[0].generation < 1_000)

        def advance(carry):
            gaussian, _ = carry
            points = cma_es.sample(gaussian, jax.random.fold_in(key, gaussian.generation), size)
            values = jax.vmap(function)(points)
            return update(gaussian, points, values, jnp.int32(size)), jnp.min(values)

        gaussian = cma_es.begin(jnp.full(10, 0.5), jnp.asarray(0.3))
        return jax.lax.while_loop(goes_on, advance, (gaussian, jnp.inf))[0].generation * size

    evaluations = np.median([int(run(jax.random.key(seed))) for seed in range(11)])
    assert 0.85 * pycma < evaluations < 1.15 * pycma


def test_distant_points_move_the_mean_by_a_limited_length():
    n, size = 5, 8
    gaussian = cma_es.begin(jnp.zeros(n), jnp.asarray(0.1))
    points = 1e6 * np.random.default_rng(0).normal(size=(size, n))
    limited = update(gaussian, points, np.arange(size), jnp.int32(size), True)
    longest = np.sqrt(n) + 2 * n / (n + 2)
    assert jnp.linalg.norm(limited.mean) <= 0.1 * longest
    free = update(gaussian, points, np.arange(size), jnp.int32(size))
    assert jnp.linalg.norm(free.mean) > 1e3


def test_only_lengths_of_the_chosen_points_are_limited():
    n, size = 5, 8
    gaussian = cma_es.begin(jnp.zeros(n), jnp.asarray(0.1))
    points = 0.1 * np.random.default_rng(0).normal(size=(size, n))
    points[3] *= 1e6 / np.linalg.norm(points[3])
    values, chosen = np.arange(size)[::-1] - 5.0, np.arange(size) == 3
    nearer = points.copy()
    nearer[3] *= 0.1 * (np.sqrt(n) + 2 * n / (n + 2)) / 1e6
    limited = update(gaussian, points, values, jnp.int32(size), chosen)
    expected = update(gaussian, nearer, values, jnp.int32(size))
    for found, wanted in zip(limited, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_rotated_points_give_the_rotated_distribution():
    n, size = 4, 8
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(n, n)))
    plain = rotated = cma_es.begin(jnp.zeros(n), jnp.asarray(0.3))
    for i in range(10):
        points = np.array(cma_es.sample(plain, jax.random.key(i), size))
        values = np.sum(np.arange(1, n + 1) * (points - 1) ** 2, axis=1)
        plain = update(plain, points, values, jnp.int32(size))
        rotated = update(rotated, points @ rotation.T, values, jnp.int32(size))
    np.testing.assert_allclose(rotated.mean, rotation @ plain.mean, rtol=1e-9)
    np.testing.assert_allclose(rotated.sigma, plain.sigma, rtol=1e-9)
    expected = rotation @ plain.covariance @ rotation.T
    np.testing.assert_allclose(rotated.covariance, expected, rtol=1e-8, atol=1e-12)


def test_width_stays_below_its_limit_and_axes_above_theirs():
    gaussian = cma_es.begin(jnp.zeros(3), jnp.asarray(1.0))
    for i in range(60):
        points = np.array(cma_es.sample(gaussian, jax.random.key(i), 8))
        points[:, 1:] = np.asarray(gaussian.mean[1:])  # nothing but the first axis
        gaussian = update(gaussian, points, -points[:, 0], jnp.int32(8))
    assert gaussian.width <= 10 * (1 + 1e-12)
    assert jnp.min(gaussian.axes) >= cma_es.SMALLEST_AXIS * jnp.max(gaussian.axes) * (1 - 1e-12)
