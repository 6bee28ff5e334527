"""What a certified eigenvalue costs: jd.sharpness beside scipy's eigsh.

    python -m experiments.benchmarks.sharpness

The Hessian of a tanh network's cross entropy on 1,000 digits, before and after some training,
with 10 Lanczos steps between restarts, the default (scipy keeps 20 vectors for one eigenvalue
too). Both stop at the same tolerance for the residual; eigsh is given the compiled product with
the Hessian, and stands there a second time at its default, machine precision. Programs take
turns; times are medians, ratios medians over the turns of the time on the clock and of the
processor's, residuals relative to the greatest eigenvalue.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits

import jaxdescent as jd
from experiments.runner.report import table

TURNS = 5
SIZES = (64, 773, 773, 10)  # 656,287 parameters
TOLERANCE = 1e-4
STEPS = 10


def network(params: list[Any], inputs: jax.Array) -> jax.Array:
    """Logits f[n, 10]."""
    for kernel, bias in params[:-1]:
        inputs = jnp.tanh(inputs @ kernel + bias)
    return inputs @ params[-1][0] + params[-1][1]


def loss(params: list[Any], batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The mean cross entropy."""
    logits = network(params, batch[0])
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))


def networks(batch: tuple[jax.Array, jax.Array]) -> dict[str, list[Any]]:
    """Parameters before and after 100 steps of descent."""
    keys = jax.random.split(jax.random.key(0), len(SIZES) - 1)
    params = [
        (jax.random.normal(key, (i, o)) / np.sqrt(i), jnp.zeros(o))
        for key, (i, o) in zip(keys, itertools.pairwise(SIZES), strict=True)
    ]

    @jax.jit
    def step(params: list[Any]) -> list[Any]:
        return jax.tree.map(lambda x, g: x - 0.1 * g, params, jax.grad(loss)(params, batch))

    trained = params
    for _ in range(100):
        trained = step(trained)
    return {"at the start": params, "after 100 steps": trained}


class Counted(LinearOperator):
    """A product over f[n] as scipy wants it, with a count."""

    def __init__(self, product: Callable[[jax.Array], jax.Array], size: int):
        super().__init__(np.dtype(np.float32), (size, size))
        self.product, self.count = product, 0

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        self.count += 1
        return np.asarray(self.product(jnp.asarray(x.ravel(), jnp.float32)))


def by_scipy(product: Callable[..., jax.Array], size: int, k: int, tolerance: float) -> Any:
    """Eigenvalues, vectors in columns, and the number of products."""
    operator = Counted(product, size)
    values, vectors = eigsh(operator, k=k, which="LA", tol=tolerance)
    return values[::-1], vectors[:, ::-1], operator.count


def main() -> None:
    """Prints a row for each number of eigenvalues and each point."""
    digits: Any = load_digits()
    batch = jnp.asarray(digits.data[:1000] / 16, jnp.float32), jnp.asarray(digits.target[:1000])

    @jax.jit
    def hessian_vector(vector: jax.Array, params: Any, batch: Any) -> jax.Array:
        _, unflatten = ravel_pytree(params)
        gradient = lambda params: jax.grad(loss)(params, batch)
        return ravel_pytree(jax.jvp(gradient, (params,), (unflatten(vector),))[1])[0]

    rows, size = [], sum(i * o + o for i, o in itertools.pairwise(SIZES))
    for where, params in networks(batch).items():
        product = lambda vector, params=params: hessian_vector(vector, params, batch)
        for k in (1, 4):
            ours = lambda params=params, k=k: jax.block_until_ready(
                jd.sharpness(loss, params, batch, k, tolerance=TOLERANCE, num_steps=STEPS)
            )
            runs = (
                ours,
                lambda k=k, product=product: by_scipy(product, size, k, TOLERANCE),
                lambda k=k, product=product: by_scipy(product, size, k, 0.0),
            )
            found = [run() for run in runs]
            times = np.empty((TURNS, len(runs), 2))  # on the clock, of the processor
            for turn in range(TURNS):
                for i in range(len(runs))[:: 1 if turn % 2 else -1]:
                    began = np.array([time.perf_counter(), time.process_time()])
                    runs[i]()
                    ended = np.array([time.perf_counter(), time.process_time()])
                    times[turn, i] = ended - began
            top = found[0]
            ratios = np.median(times / times[:, :1], axis=0)
            rows.append((
                where,
                f"{k}",
                f"{float(top.values[0]):.5g}",
                f"{np.median(times[:, 0, 0]):.2f}",
                f"{ratios[1, 0]:.2f} / {ratios[1, 1]:.2f}",
                f"{ratios[2, 0]:.2f} / {ratios[2, 1]:.2f}",
                f"{int(top.products)}, {found[1][2]}, {found[2][2]}",
                f"{float(jnp.max(top.residuals) / top.values[0]):.0e}, "
                + ", ".join(f"{residual(product, *each[:2]):.0e}" for each in found[1:]),
            ))  # fmt: skip
    print(f"{jax.devices()[0].device_kind}; {size:,} parameters, 1,000 examples, {STEPS} steps")
    columns = (
        "point", "k", "lambda_1", "ours s", "eigsh / ours", "default eigsh / ours",
        "products: ours, eigsh, default", "residuals",
    )  # fmt: skip
    print(table(columns, rows))


def residual(product: Callable[..., jax.Array], values: np.ndarray, vectors: np.ndarray) -> float:
    """The greatest residual, relative to the greatest eigenvalue."""
    left = [
        np.linalg.norm(np.asarray(product(jnp.asarray(vector))) - value * vector)
        for value, vector in zip(values, vectors.T, strict=True)
    ]
    return float(np.max(left) / values[0])


if __name__ == "__main__":
    main()
