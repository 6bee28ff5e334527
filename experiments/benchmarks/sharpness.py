"""Cost of a certified eigenvalue: jd.sharpness against SciPy's eigsh.

    python -m experiments.benchmarks.sharpness

The Hessians of two networks: a tanh network with cross-entropy on 1,000 digits, before and after
some training; and the published network of the edge-of-stability studies, on 1,000 random inputs
of the size of CIFAR-10's. Both solvers stop at the same residual tolerance, and both use a Hessian
that is linearized once, which is part of the time. eigsh makes 20 products before it evaluates a
residual. Programs alternate. Times are medians; ratios are medians over turns, of wall-clock and
of processor time; residuals are relative to the largest eigenvalue. The last column is the share
of our time that the products take.
"""

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits

import jaxdescent as jd
from experiments.models import tanh_network
from experiments.runner.report import table

TURNS = 3
SIZES = (64, 773, 773, 10)  # 656,287 parameters
TOLERANCE = 1e-4


class Case(NamedTuple):
    """A loss and the point of its Hessian.

    Attributes:
      title: label in the table.
      loss: called as `loss(params, batch)`; returns a scalar.
      params, batch: arguments of the loss.
    """

    title: str
    loss: Callable[[Any, Any], jax.Array]
    params: Any
    batch: Any


def network(params: list[Any], inputs: jax.Array) -> jax.Array:
    """Returns logits f[n, 10]."""
    for kernel, bias in params[:-1]:
        inputs = jnp.tanh(inputs @ kernel + bias)
    return inputs @ params[-1][0] + params[-1][1]


def loss(params: list[Any], batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Returns the mean cross-entropy."""
    logits = network(params, batch[0])
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))


def networks(batch: tuple[jax.Array, jax.Array]) -> dict[str, list[Any]]:
    """Returns parameters before and after 100 steps of gradient descent."""
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
    """A product over f[n] as a SciPy operator that counts its calls."""

    def __init__(self, product: Callable[[jax.Array], jax.Array], size: int):
        super().__init__(np.dtype(np.float32), (size, size))
        self.product, self.count = product, 0

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        self.count += 1
        return np.asarray(self.product(jnp.asarray(x.ravel(), jnp.float32)))


def by_scipy(product: Callable[..., jax.Array], size: int, k: int, tolerance: float) -> Any:
    """Returns eigenvalues, eigenvectors in columns, and the number of products."""
    operator = Counted(product, size)
    values, vectors = eigsh(operator, k=k, which="LA", tol=tolerance)
    return values[::-1], vectors[:, ::-1], operator.count


def cases() -> list[Case]:
    """Returns the Hessians to measure."""
    digits: Any = load_digits()
    batch = jnp.asarray(digits.data[:1000] / 16, jnp.float32), jnp.asarray(digits.target[:1000])
    found = [Case(f"digits, {at}", loss, params, batch) for at, params in networks(batch).items()]
    inputs = jax.random.normal(jax.random.key(0), (1_000, 3_072))
    labels = jax.random.randint(jax.random.key(1), (1_000,), 0, 10)
    published = tanh_network.init_params(jax.random.key(2), (3_072, 200, 200, 10))
    return [
        *found,
        Case(
            "published network",
            tanh_network.squared_error,
            published,
            (inputs, jax.nn.one_hot(labels, 10)),
        ),
    ]


@partial(jax.jit, static_argnames="loss")
def linearized(loss: Any, params: Any, batch: Any) -> Any:
    """Returns the product with the Hessian over f[n], which can be passed to a jitted function."""
    flat, unflatten = ravel_pytree(params)

    def gradient(flat: jax.Array) -> jax.Array:
        return jax.grad(lambda x: loss(unflatten(x), batch))(flat)

    return jax.linearize(gradient, flat)[1]


@jax.jit
def product(linear: Any, vector: jax.Array) -> jax.Array:
    """Evaluates a linearized product."""
    return linear(vector)


def main() -> None:
    """Prints a row for each Hessian and number of eigenvalues."""
    rows = [row(case, k) for case in cases() for k in (1, 4)]
    print(f"{jax.devices()[0].device_kind}; 1,000 examples, tolerance {TOLERANCE:g}")
    columns = (
        "Hessian", "parameters", "k", "lambda_1", "ours s", "eigsh s", "eigsh / ours",
        "products: ours, eigsh", "residuals", "in products %",
    )  # fmt: skip
    print(table(columns, rows))


def row(case: Case, k: int) -> tuple[str, ...]:
    """Returns the table row of a Hessian."""
    size = sum(leaf.size for leaf in jax.tree.leaves(case.params))

    def matvec() -> Callable[[jax.Array], jax.Array]:
        return partial(product, linearized(case.loss, case.params, case.batch))

    runs = (
        lambda: jax.block_until_ready(
            jd.sharpness(case.loss, case.params, case.batch, k, tolerance=TOLERANCE)
        ),
        lambda: by_scipy(matvec(), size, k, TOLERANCE),
    )
    top, scipys = (run() for run in runs)
    times = np.empty((TURNS, len(runs), 2))  # wall-clock, processor
    for turn in range(TURNS):
        for i in (0, 1) if turn % 2 else (1, 0):
            began = np.array([time.perf_counter(), time.process_time()])
            runs[i]()
            times[turn, i] = np.array([time.perf_counter(), time.process_time()]) - began
    once, vector = matvec(), jnp.ones(size)
    jax.block_until_ready(once(vector))
    began = time.process_time()
    for _ in range(5):
        jax.block_until_ready(once(vector))
    share = (time.process_time() - began) / 5 * int(top.products) / np.median(times[:, 0, 1])
    ratio = np.median(times[:, 1] / times[:, 0], axis=0)
    return (
        case.title,
        f"{size:,}",
        f"{k}",
        f"{float(top.values[0]):.5g}",
        f"{np.median(times[:, 0, 0]):.2f}",
        f"{np.median(times[:, 1, 0]):.2f}",
        f"{ratio[0]:.2f} / {ratio[1]:.2f}",
        f"{int(top.products)}, {scipys[2]}",
        f"{float(jnp.max(top.residuals) / top.values[0]):.0e}, {residual(once, *scipys[:2]):.0e}",
        f"{100 * share:.0f}",
    )


def residual(product: Callable[..., jax.Array], values: np.ndarray, vectors: np.ndarray) -> float:
    """Returns the largest residual relative to the largest eigenvalue."""
    left = [
        np.linalg.norm(np.asarray(product(jnp.asarray(vector))) - value * vector)
        for value, vector in zip(values, vectors.T, strict=True)
    ]
    return float(np.max(left) / values[0])


if __name__ == "__main__":
    main()
