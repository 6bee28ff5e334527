"""The study of quantum Hamiltonian descent runs, and its functions are the published ones."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy import cos, exp, pi, sin, sqrt

from experiments.__main__ import main
from experiments.studies.hamiltonian_descent import Settings
from experiments.studies.hamiltonian_descent.functions import BENCHMARKS, GRADIENT_BENCHMARKS
from experiments.studies.hamiltonian_descent.methods import is_success
from experiments.studies.hamiltonian_descent.settings import ALL


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["hamiltonian_descent", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "hamiltonian_descent").iterdir()
    return folder


def test_the_wave_settles_and_is_compared(folder):
    found = json.loads((folder / "run.json").read_text())
    assert found["status"] == "finished"
    rows = found["results"]
    assert set(rows) == {"griewank", "gradient, cube_wave"}
    assert rows["griewank"]["success"] < 0.2
    assert rows["gradient, cube_wave"]["success"] > rows["gradient, cube_wave"]["without"] > 0.85
    for row in rows.values():
        assert abs(row["norm"] - 1) < 1e-3
    assert rows["griewank"]["hybrid"] == 1
    assert rows["griewank"]["magd_values"] <= 32**2
    assert rows["griewank"]["hybrid_values"] <= 32**2
    assert "It fails, below 0.5, on Griewank." in found["verdict"]
    for name in ("1_wave", "2_success"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


# As in the setup of the published experiments.
FORMULAS = {
    "ackley_2": lambda x, y: -200 * exp(-0.2 * sqrt(x**2 + y**2)),
    "alpine_2": lambda x, y: -sqrt(x) * sin(x) * sqrt(y) * sin(y),
    "bohachevsky_2": lambda x, y: x**2 + 2 * y**2 - 0.3 * cos(3 * pi * x) * cos(4 * pi * y) + 0.3,
    "csendes": lambda x, y: x**6 * (2 + sin(1 / x)) + y**6 * (2 + sin(1 / y)),
    "spring": lambda x, y: (
        0.1 * ((x - 5) ** 2 + (y - 5) ** 2) - cos(5 * sqrt((x - 5) ** 2 + (y - 5) ** 2))
    ),
    "easom": lambda x, y: -cos(x) * cos(y) * exp(-(x**2) - y**2),
    "griewank": lambda x, y: (x**2 + y**2) / 4000 - cos(x) * cos(y / sqrt(2)) + 1,
    "levy_13": lambda x, y: (
        0.05
        * (
            sin(3 * pi * x) ** 2
            + (x - 1) ** 2 * (1 + sin(3 * pi * y) ** 2)
            + (y - 1) ** 2 * (1 + sin(2 * pi * y) ** 2)
        )
    ),
    "rosenbrock": lambda x, y: (y - x**2) ** 2 + (1 - x) ** 2 / 100,
    "shubert": lambda x, y: (
        (cos(2 * x + 1) + 2 * cos(3 * x + 2) + 3 * cos(4 * x + 3)) * (cos(2 * y + 1) + cos(y + 2))
    ),
    "styblinski_tang": lambda x, y: (x**4 - 16 * x**2 + 5 * x + y**4 - 16 * y**2 + 5 * y) / 156,
    "xin_she_yang_3": lambda x, y: (
        exp(-((x / 15) ** 6) - (y / 15) ** 6) - 2 * exp(-(x**2) - y**2) * cos(x) ** 2 * cos(y) ** 2
    ),
}
SIDES = {
    "ackley": (-32.768, 32.768),
    "alpine_1": (-10, 10),
    "camel_3": (-2, 2),
    "drop_wave": (-5.12, 5.12),
    "holder_table": (0, 10),
    "hosaki": (0, 5),
    "levy": (-10, 10),
    "michalewicz": (0, pi),
    "rastrigin": (-5.12, 5.12),
    "sum_squares": (-1, 1),
    "ackley_2": (-32, 32),
    "alpine_2": (0, 10),
    "bohachevsky_2": (-5, 5),
    "csendes": (-1, 1),
    "spring": (0, 10),
    "easom": (-10, 10),
    "griewank": (-10, 10),
    "levy_13": (-10, 10),
    "rosenbrock": (-1.5, 1.5),
    "shubert": (-2, 2),
    "styblinski_tang": (-5, 5),
    "xin_she_yang_3": (-20, 20),
}


@pytest.mark.parametrize("name", ALL)
def test_functions_have_the_published_values_boxes_and_minima(name):
    with jax.enable_x64(True):
        problem = BENCHMARKS[name].problem()
        low, high = SIDES[name]
        np.testing.assert_allclose(problem.lower, [low, low])
        np.testing.assert_allclose(problem.upper, [high, high])
        axis = np.linspace(low, high, 202)[:-1] + 1e-7 * (high - low)
        mesh = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
        values = np.asarray(jax.vmap(problem.value)(jnp.asarray(mesh)))
        assert values.min() >= float(problem.minimum) - 1e-12
        at_optimum = float(problem.value(problem.optima[0]))
        assert at_optimum == pytest.approx(float(problem.minimum), abs=1e-9)
        if name in FORMULAS:
            np.testing.assert_allclose(values, FORMULAS[name](*mesh.T), rtol=1e-9, atol=1e-12)
        grads = jax.grad(problem.value)(problem.optima[0])
        if name == "alpine_1":  # whose minimizer is a kink
            assert np.isfinite(grads).all()
        else:
            np.testing.assert_allclose(grads, 0, atol=1e-6)


def test_every_function_is_published_once():
    assert set(BENCHMARKS) == set(ALL) == set(SIDES)
    assert len(ALL) == 22
    assert Settings(scale="full").functions == ALL
    assert len(Settings(scale="small").functions) == 6
    for benchmark in GRADIENT_BENCHMARKS.values():
        problem = benchmark.make()
        value = float(problem.value(problem.optima[0]))
        assert value == pytest.approx(float(problem.minimum), abs=1e-5)


def test_a_success_is_within_a_tenth_of_the_box():
    problem = BENCHMARKS["levy"].problem()
    points = jnp.array([[1.0, 1.0], [2.9, 1.0], [2.5, 2.5], [1.0, -1.1]])
    assert is_success(problem, points, 0.1).tolist() == [True, True, False, False]
