"""Errors of the BBOB functions relative to COCO, and the share of finite gradients.

    python -m experiments.benchmarks.bbob

Needs the extra `bbob`. Computed in float64 for instances 1 to 15, with one row per function:

    2 to 40       the largest |f - f_coco| / max(1, |f_coco|) at uniform points of the box, by
                  dimension
    near          the largest error of f - f_opt, relative to f - f_opt, at a distance of about
                  1e-2 from the minimizer. COCO's values are rounded at the digits of f_opt.
    ulps          the same error, in units in the last place of f_coco
    at x_opt      the largest f - f_opt at the minimizer
    finite        the share of points with a finite gradient, among uniform points, optima, the
                  origin and corners of the box
    float32       the first error, with the function in float32
"""

import argparse
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd
from experiments.runner.report import table
from jaxdescent.extras import require

DIMENSIONS = (2, 5, 10, 20, 40)
INSTANCES = tuple(range(1, 16))
POINTS = 100


def stacked(problems: Sequence[jd.Problem]) -> jd.Problem:
    """Stacks problems of one function along an instance axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)


def sample_points(optima: np.ndarray, count: int, seed: int) -> dict[str, np.ndarray]:
    """Returns points of each kind, `[instances, points, n]`."""
    random = np.random.default_rng(seed)
    instances, n = optima.shape
    shape = instances, count, n
    return {
        "uniform": random.uniform(-5, 5, shape),
        "near": optima[:, None] + 1e-2 * random.standard_normal(shape) / np.sqrt(n),
        "x_opt": optima[:, None],
        "origin": np.zeros((instances, 1, n)),
        "corners": 5.0 * random.choice([-1, 1], shape),
    }


def reference(number: int, n: int, instances: Sequence[int], points: np.ndarray) -> np.ndarray:
    """Returns COCO's values, `[instances, points]`."""
    cocoex = require("cocoex", "bbob")
    problems = [cocoex.BareProblem("bbob", number, n, instance) for instance in instances]
    return np.array([[p(x) for x in rows] for p, rows in zip(problems, points, strict=True)])


def measure(number: int, n: int, instances: Sequence[int], count: int) -> dict[str, Any]:
    """Computes the entries of a row, for one dimension."""
    problems = [jd.problems.bbob(number, n, i, offset=False) for i in instances]
    minima = np.array([jd.problems.bbob(number, n, i).minimum for i in instances])[:, None]
    evaluate = jax.jit(
        jax.vmap(jax.vmap(jd.Problem.value_and_grad, (None, 0)))  # instances, then points
    )
    batch = stacked(problems)
    points = sample_points(np.asarray(batch.optima)[:, 0], count, 100 * number + n)
    found = {kind: evaluate(batch, xs) for kind, xs in points.items()}
    finite = np.concatenate(
        [np.isfinite(grads).all(-1).ravel() for kind, (_, grads) in found.items() if kind != "near"]
    )
    values = {kind: np.asarray(value) for kind, (value, _) in found.items()}
    coco = {k: reference(number, n, instances, points[k]) for k in ("uniform", "near")}

    def error(values: np.ndarray) -> float:
        expected = coco["uniform"]
        return np.max(np.abs(values - expected) / np.maximum(1, np.abs(expected)))

    difference = np.abs(values["near"] - (coco["near"] - minima))
    positive = values["near"] > 0  # function 5 is flat outside its corner
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), batch)
    single_values = evaluate(single, jnp.float32(points["uniform"]))[0]
    return {
        "error": error(values["uniform"] + minima),
        "near": np.max(difference[positive] / values["near"][positive]),
        "ulps": np.max(difference / np.spacing(np.abs(coco["near"]))),
        "x_opt": np.max(np.abs(values["x_opt"])),
        "finite": finite,
        "float32": error(np.asarray(single_values, np.float64) + minima),
    }


def main(
    numbers: Sequence[int] = range(1, 25),
    dimensions: Sequence[int] = DIMENSIONS,
    instances: Sequence[int] = INSTANCES,
    points: int = POINTS,
) -> None:
    """Prints the table."""
    rows, worst = [], 0.0
    with jax.enable_x64(True):
        for number in numbers:
            found = [measure(number, n, instances, points) for n in dimensions]
            worst = max(worst, *(float(f["error"]) for f in found))
            rows.append(
                (
                    f"f{number}",
                    *(f"{f['error']:.0e}" for f in found),
                    f"{max(f['near'] for f in found):.0e}",
                    f"{max(f['ulps'] for f in found):.1f}",
                    f"{max(f['x_opt'] for f in found):.0e}",
                    f"{np.mean(np.concatenate([f['finite'] for f in found])):.2%}",
                    f"{max(f['float32'] for f in found):.0e}",
                )
            )
    print(f"{len(instances)} instances, {points} points of each kind")
    columns = ("", *map(str, dimensions), "near", "ulps", "at x_opt", "finite", "float32")
    print(table(columns, rows))
    print(f"largest error {worst:.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=POINTS)
    main(points=parser.parse_args().points)
