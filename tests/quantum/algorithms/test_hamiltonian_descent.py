"""Quantum Hamiltonian descent equals the exact solution of Schroedinger's equation on a grid."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import jaxdescent as jd
from jaxdescent.quantum.algorithms import hamiltonian_descent as module
from jaxdescent.quantum.algorithms.transport import derivative_matrix

EASY = {"grid": 32, "end_time": 4.0, "time_step": 0.01}


def tilted(x):
    """A function that no symmetry maps to its negative, and that is not separable."""
    return 3 * jnp.sum((x - 0.7) ** 2) + jnp.sin(5 * x[0] + 1) + jnp.prod(x)


def kinetic(t):
    return 0.05 / (0.5 + t)


def potential(t):
    return 2 + 3 * t


def constant(t):
    return jnp.zeros_like(t)


def dense_hamiltonians(dimension, points, upper=1.0):
    """Returns kinetic energy, potential and gradient term as matrices, in NumPy."""
    axis = np.arange(points) / points
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(points), axis)) / np.sqrt(points)
    numbers = np.arange(points)
    numbers = np.where(numbers < points / 2, numbers, numbers - points)
    one = fourier.conj().T @ np.diag((2 * np.pi * numbers) ** 2 / 2) @ fourier
    derivative = derivative_matrix(points)
    identity = np.eye(points)

    def along(matrix, axis_number):
        factors = [matrix if i == axis_number else identity for i in range(dimension)]
        total = np.ones((1, 1))
        for factor in factors:
            total = np.kron(total, factor)
        return total

    mesh = np.stack(np.meshgrid(*[axis] * dimension, indexing="ij"), -1).reshape(-1, dimension)
    values = np.asarray(jax.vmap(tilted)(jnp.asarray(upper * mesh))) / upper
    slopes = np.asarray(jax.vmap(jax.grad(tilted))(jnp.asarray(upper * mesh)))
    terms = []
    for i in range(dimension):
        product = slopes[:, i, None] * along(derivative, i)
        terms.append(-0.5j * (product - product.T))
    kinetic_energy = sum(along(one, i) for i in range(dimension))
    return kinetic_energy, np.diag(values - values.min()), sum(terms)


def exact_distribution(dimension, points, end_time, gradient=0.0, upper=1.0, steps=400):
    """Returns |psi|^2 by exponentials of the whole Hamiltonian at the middle of short steps."""
    kinetic_energy, values, term = dense_hamiltonians(dimension, points, upper)
    psi = np.full(len(values), len(values) ** -0.5, complex)
    step = end_time / steps
    for number in range(steps):
        t = (number + 0.5) * step
        hamiltonian = kinetic(t) * kinetic_energy + potential(t) * values + gradient * term
        psi = scipy.linalg.expm(-1j * step * hamiltonian) @ psi
    return (abs(psi) ** 2).reshape((points,) * dimension)


@pytest.mark.parametrize(
    ("dimension", "points", "gradient", "upper"),
    [(1, 16, 0.0, 1.0), (1, 16, -0.05, 2.0), (2, 8, 0.0, 2.0), (2, 8, -0.05, 1.0)],
)
def test_the_distribution_equals_the_exact_solution(dimension, points, gradient, upper):
    with jax.enable_x64(True):
        result = jd.quantum.hamiltonian_descent(
            tilted,
            bounds=([0.0] * dimension, [upper] * dimension),
            grid=points,
            schedule=jd.quantum.Schedule(kinetic, potential, gradient),
            end_time=1.0,
            time_step=1e-3,
        )
        expected = exact_distribution(dimension, points, 1.0, gradient, upper)
    uniform = 1 / points**dimension
    assert expected.max() > 1.5 * uniform  # the wave has moved
    np.testing.assert_allclose(result.distribution[-1], expected, atol=3e-3 * uniform)


def test_errors_decrease_as_the_square_of_the_step():
    with jax.enable_x64(True):
        expected = exact_distribution(1, 16, 1.0, steps=1600)
        errors = []
        for time_step in (0.04, 0.02):
            result = jd.quantum.hamiltonian_descent(
                tilted,
                bounds=([0.0], [1.0]),
                grid=16,
                schedule=jd.quantum.Schedule(kinetic, potential),
                end_time=1.0,
                time_step=time_step,
            )
            errors.append(np.abs(np.asarray(result.distribution[-1]) - expected).max())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)


def wave(x):
    return -jnp.cos(2 * jnp.pi * x[0]) / (2 * jnp.pi)


def test_the_gradient_term_alone_transports_the_density_along_the_gradient():
    # dx/dt = c sin(2 pi x) has the solution tan(pi x) = exp(2 pi c t) tan(pi x_0).
    gradient, end_time, points = -0.05, 2.0, 64
    with jax.enable_x64(True):
        result = jd.quantum.hamiltonian_descent(
            wave,
            bounds=([0.0], [1.0]),
            grid=points,
            schedule=jd.quantum.Schedule(constant, constant, gradient),
            end_time=end_time,
            time_step=0.1,
        )
    growth = math.exp(-2 * math.pi * gradient * end_time)
    half = np.pi * np.arange(points) / points
    density = growth / (np.cos(half) ** 2 + growth**2 * np.sin(half) ** 2)
    np.testing.assert_allclose(points * np.asarray(result.distribution[0]), density, atol=1e-9)
    assert result.params.tolist() == [0.0]


@pytest.mark.parametrize("is_double", [False, True])
def test_the_norm_is_1_and_the_wave_settles_in_the_minimum(is_double):
    schedule = jd.quantum.gradient_schedule(gradient=-0.02)
    with jax.enable_x64(is_double):
        problem = jd.problems.sum_squares()
        for options in (EASY, {**EASY, "schedule": schedule, "end_time": 3.0}):
            times = (0.0, 1.0, options["end_time"])
            result = jd.quantum.hamiltonian_descent(problem, times=times, **options)
            assert result.distribution.dtype == (jnp.float64 if is_double else jnp.float32)
            np.testing.assert_allclose(result.norm, 1, atol=1e-10 if is_double else 3e-4)
            np.testing.assert_allclose(result.distribution.sum((1, 2)), 1, atol=1e-5)
            np.testing.assert_allclose(result.distribution[0], 1 / 32**2, rtol=1e-5)
            assert result.success[0] == pytest.approx(37 / 32**2)  # the points within 3.2 steps
            assert result.success[-1] > 0.65
            assert np.all(np.diff(result.mean_value) < 0)
            assert result.params.tolist() == [0.0, 0.0]
            assert result.value == 0
            np.testing.assert_allclose(result.mean_position[0], -10 / 32, atol=1e-4)
            assert result.times.tolist() == pytest.approx(times)
            assert result.function_values == 32**2
            assert result.num_nonfinite == 0


def test_positions_and_distributions_have_the_order_of_the_coordinates():
    def bowl(params):
        return 3 * (params["a"] - 3.0) ** 2 + 3 * (params["b"][0] - 11.0) ** 2

    bounds = ({"a": 2.0, "b": jnp.array([10.0])}, {"a": 4.0, "b": jnp.array([14.0])})
    result = jd.quantum.hamiltonian_descent(bowl, bounds=bounds, **EASY)
    assert float(result.params["a"]) == 3.0
    assert result.params["b"].tolist() == [11.0]
    np.testing.assert_allclose(result.mean_position[0], [3.0, 11.0], atol=0.05)
    assert np.unravel_index(np.argmax(result.distribution[0]), (32, 32)) == (16, 8)
    assert result.success[0] > 0.9  # within 0.1 of the longest side


def test_length_1_leaves_coordinates_and_values_as_they_are():
    problem = jd.problems.sum_squares()
    half = dataclasses.replace(problem, lower=problem.lower / 20, upper=problem.upper / 20)
    options = {**EASY, "end_time": 2.0}
    plain = jd.quantum.hamiltonian_descent(half, **options)
    unit = jd.quantum.hamiltonian_descent(half, length=1.0, **options)
    np.testing.assert_allclose(plain.distribution, unit.distribution, atol=1e-6)
    other = jd.quantum.hamiltonian_descent(half, length=2.0, **options)
    assert np.abs(other.distribution - unit.distribution).max() > 1e-4


def test_a_gap_counts_values_instead_of_distances():
    problem = jd.problems.sum_squares()
    result = jd.quantum.hamiltonian_descent(problem, gap=1.0, times=(0.0,), **EASY)
    axis = np.arange(-10, 10, 20 / 32)
    expected = np.mean(axis[:, None] ** 2 + 2 * axis**2 < 1)
    assert result.success.tolist() == pytest.approx([expected])


def test_three_coordinates():
    result = jd.quantum.hamiltonian_descent(
        jd.problems.sum_squares(3), grid=16, end_time=3.0, time_step=0.02
    )
    assert result.distribution.shape == (1, 16, 16, 16)
    assert result.params.tolist() == [0.0, 0.0, 0.0]
    assert result.success[0] > 0.7


def test_problems_can_be_vmapped_and_jitted():
    def moved(shift):
        problem = jd.problems.sum_squares()
        return dataclasses.replace(
            problem, lower=problem.lower + shift, upper=problem.upper + 2 * shift
        )

    shifts = jnp.array([0.0, 1.0, 2.5])
    options = {"grid": 16, "end_time": 2.0, "time_step": 0.02}

    @jax.jit
    @jax.vmap
    def run(shift):
        result = jd.quantum.hamiltonian_descent(moved(shift), **options)
        return result.success, result.mean_position

    success, position = run(shifts)
    for i, shift in enumerate(shifts):
        alone = jd.quantum.hamiltonian_descent(moved(shift), **options)
        np.testing.assert_allclose(success[i], alone.success, atol=1e-4)
        np.testing.assert_allclose(position[i], alone.mean_position, atol=1e-3)
    assert len(set(np.ravel(success).tolist())) == 3


def test_times_and_sizes_reuse_the_compiled_program():
    traces = []

    def function(x):
        traces.append(None)
        return jnp.sum(x**2)

    options = {"bounds": ([-1.0], [1.0]), "grid": 16, "time_step": 0.02}
    jd.quantum.hamiltonian_descent(function, end_time=1.0, **options)
    first = len(traces)
    for end_time, radius in ((2.0, 0.1), (3.0, 0.2)):
        jd.quantum.hamiltonian_descent(function, end_time=end_time, radius=radius, **options)
    assert len(traces) == first + 2  # one shape check for each call


def test_grid_points_without_a_finite_value_are_counted_and_avoided():
    def hole(x):
        return jnp.where(x[0] > 0.5, jnp.nan, (x[0] - 0.25) ** 2 * 40)

    result = jd.quantum.hamiltonian_descent(hole, bounds=([0.0], [1.0]), **EASY)
    assert result.num_nonfinite == 15
    assert np.isfinite(result.distribution).all()
    assert result.params.tolist() == [0.25]
    schedule = jd.quantum.gradient_schedule()
    result = jd.quantum.hamiltonian_descent(
        hole, bounds=([0.0], [1.0]), schedule=schedule, **{**EASY, "end_time": 2.0}
    )
    assert np.isfinite(result.distribution).all()


def test_the_published_schedules():
    cubic, gradient = jd.quantum.cubic_schedule(), jd.quantum.gradient_schedule()
    assert cubic.kinetic(0.0) == 2000
    assert cubic.kinetic(2.0) == pytest.approx(2 / 8.001)
    assert cubic.potential(3.0) == 54
    assert cubic.gradient == 0
    assert gradient.kinetic(2.0) == 0.25
    assert gradient.potential(3.0) == 27 + 45
    assert gradient.gradient == -0.05


SQUARE = {"bounds": ([-1.0, -1.0], [1.0, 1.0])}


def square(x):
    return jnp.sum(x**2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": 100}, "grid must be a power of two, .*got 100; choose 64 or 128"),
        ({"grid": 2}, "grid must be an integer at least 4, got 2"),
        ({"grid": 2**20}, r"grid must be at most \d+ for 2 coordinates, got 1048576, which needs"),
        ({"grid": 64, "times": (0.1,) * 10**7}, "grid must be at most .* or fewer times"),
        ({"bounds": ([0.0] * 4, [1.0] * 4)}, "problem must have 1 to 3 coordinates.*got 4"),
        ({"bounds": ([0.0], [jnp.inf])}, "upper must be finite"),
        ({"end_time": 0.0}, r"end_time must be in \(0, inf\), got 0.0"),
        ({"time_step": -1.0}, r"time_step must be in \(0, inf\)"),
        ({"time_step": 30.0}, "end_time / time_step must be an integer in"),
        ({"times": (1.0, 0.5)}, r"times must be ascending numbers in \[0, end_time\]"),
        ({"times": (11.0,)}, r"times must be ascending numbers in \[0, end_time\]"),
        ({"times": ()}, "times must hold at least one number"),
        ({"radius": 0.0}, r"radius must be a number in \(0, inf\)"),
        ({"gap": -1.0}, r"gap must be a number in \(0, inf\)"),
        ({"length": 0.0}, r"length must be a number in \(0, inf\)"),
        ({"schedule": 3}, "schedule must be a jd.quantum.Schedule"),
        ({"schedule": jd.quantum.Schedule(1.0, kinetic)}, "schedule.kinetic must be callable"),
        ({"schedule": jd.quantum.Schedule(kinetic, kinetic, np.nan)}, "schedule.gradient"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        jd.quantum.hamiltonian_descent(square, **{**SQUARE, **options})


def test_functions_that_are_not_scalar_are_refused():
    with pytest.raises(ValueError, match="problem must return a real scalar"):
        jd.quantum.hamiltonian_descent(lambda x: x, **SQUARE)


def test_the_gradient_term_counts_in_the_memory(monkeypatch):
    monkeypatch.setattr("jaxdescent.quantum.algorithms.grid._memory", lambda: 40_000_000)
    problem = jd.problems.sum_squares()
    module._check_memory(problem, 512, 1, has_gradient=False)
    with pytest.raises(ValueError, match="grid must be at most 64 for 2 coordinates, got 128"):
        module._check_memory(problem, 128, 1, has_gradient=True)
