"""The BBOB function that is most sensitive to rounding, compiled with all optimizations."""

import jax
import numpy as np
import pytest

import jaxdescent as jd
from experiments.benchmarks import bbob as benchmark
from tests.compiling import compiled


def test_griewank_rosenbrock_equals_coco_after_fusion():
    pytest.importorskip("cocoex", reason="the extra bbob is not installed")
    seeds, n = range(1, 16), 5
    points = np.random.default_rng(0).uniform(-5, 5, (15, 50, n))
    with jax.enable_x64(True):
        problems = benchmark.stacked([jd.problems.bbob(19, n, seed) for seed in seeds])
        run = jax.vmap(jax.vmap(jd.Problem.value, (None, 0)))
        values = np.asarray(compiled(run, problems, points)(problems, points))
    expected = benchmark.reference(19, n, seeds, points)
    assert np.max(np.abs(values - expected) / np.maximum(1, np.abs(expected))) < 1e-12
