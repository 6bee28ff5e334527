"""Twenty smooth convex problems: bundled data and classics, well and badly conditioned.

Each is a loss of parameters and data, with a start, and with the constant that methods are
usually given for free: L, a bound of the Hessian's eigenvalues that holds everywhere. It is
the least such bound for quadratics; for the others the textbook's, such as the greatest
eigenvalue of X'X / 4n for logistic regression. All is in float64.

Sources: Y. Nesterov, "Introductory lectures on convex optimization", 2004, section 2.1.2, for
the function on which first-order methods are slowest; data bundled with scikit-learn.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets
from sklearn.metrics.pairwise import rbf_kernel

Loss = Callable[[jax.Array, Any], jax.Array]


class Convex(NamedTuple):
    """A problem.

    Attributes:
      name: what is printed.
      loss: from parameters f64[d] and data to a number.
      data: arrays, handed to `loss`.
      start: f64[d].
      smoothness: L.
    """

    name: str
    loss: Loss
    data: Any
    start: np.ndarray
    smoothness: float


def problems() -> list[Convex]:
    """All twenty, in the order in which they are printed."""
    diabetes, target = _diabetes()
    cancer, benign = _bundled("breast_cancer")
    cancer, benign = _with_intercept(_standard(cancer)), 2.0 * benign - 1
    digits, digit = _bundled("digits")
    digits = _with_intercept(digits / 16)
    parity = 1 - 2.0 * (digit % 2)
    rng = np.random.default_rng(0)
    gaussian = rng.normal(size=(400, 200))
    noisy = gaussian @ rng.normal(size=200) / np.sqrt(200)
    products = _with_intercept(_standard(_with_products(diabetes)))
    return [
        _least_squares("least squares, Gaussian", gaussian, noisy + rng.normal(size=400)),
        _least_squares("least squares, diabetes", diabetes, target),
        _least_squares("ridge, products, diabetes", products, target, 1e-4),
        _kernel_ridge("kernel ridge, diabetes", diabetes, target),
        _quadratic("quadratic, spectrum i^-1", 1.0 / np.arange(1, 1001)),
        _quadratic("quadratic, spectrum i^-2", 1.0 / np.arange(1, 1001) ** 2),
        _nesterov("Nesterov's slowest", 400),
        _deblurring("deblurring, ridge"),
        _classes("logistic, breast cancer", _logistic, cancer, benign, 0.25),
        _classes("logistic, digits, parity", _logistic, digits, parity, 0.25),
        _softmax("softmax, iris", *_bundled("iris")),
        _softmax("softmax, wine", *_bundled("wine")),
        _softmax("softmax, digits", *_bundled("digits")),
        _classes("squared hinge, breast cancer", _squared_hinge, cancer, benign, 1.0),
        _classes("squared hinge, digits, parity", _squared_hinge, digits, parity, 1.0),
        _residuals("Huber, diabetes", _huber, diabetes, target, 1.0),
        _residuals("log-cosh, heavy tails", _log_cosh, gaussian, noisy + _cauchy(400), 1.0),
        _log_sum_exp("log-sum-exp", 300, 60),
        _total_variation("smooth total variation"),
        _smooth_lasso("smooth lasso, digits", digits, digit - 4.5),
    ]


def minimum(problem: Convex, iterations: int = 200) -> float:
    """The least loss, by Newton's method with a line search, to rounding.

    Raises:
      RuntimeError: the gradient did not vanish.
    """
    value_and_grad = jax.jit(jax.value_and_grad(problem.loss))
    hessian = jax.jit(jax.hessian(problem.loss))
    x = jnp.asarray(problem.start)
    value, grad = value_and_grad(x, problem.data)
    first = float(jnp.linalg.norm(grad))
    for _ in range(iterations):
        if jnp.linalg.norm(grad) <= 1e-12 * first:
            return float(value)
        curvature = np.asarray(hessian(x, problem.data))
        direction = -np.linalg.lstsq(curvature, np.asarray(grad), rcond=1e-15)[0]
        scale = 1.0
        while True:
            candidate = value_and_grad(x + scale * direction, problem.data)
            if candidate[0] <= value or scale < 1e-10:
                break
            scale /= 2
        if scale < 1e-10:
            break
        x, (value, grad) = x + scale * direction, candidate
    if jnp.linalg.norm(grad) > 1e-9 * first:
        raise RuntimeError(f"{problem.name}: no minimum found, gradient {jnp.linalg.norm(grad)}")
    return float(value)


def _bundled(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features f64[n, d] and targets of a data set that comes with scikit-learn."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return np.asarray(x), np.asarray(y)


def _standard(x: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and variance 1; constant ones are 0."""
    spread = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1)


def _with_intercept(x: np.ndarray) -> np.ndarray:
    return np.column_stack([x, np.ones(len(x))])


def _with_products(x: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(x.shape[1])
    return np.column_stack([x, x[:, first] * x[:, second]])


def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    x, y = _bundled("diabetes")
    return _standard(x), _standard(y)


def _cauchy(n: int) -> np.ndarray:
    return np.random.default_rng(1).standard_cauchy(n)


def _top(x: np.ndarray) -> float:
    """The greatest eigenvalue of X'X / n."""
    return float(np.linalg.norm(x, 2) ** 2 / len(x))


def _least_squares(name: str, x: np.ndarray, y: np.ndarray, ridge: float = 0.0) -> Convex:
    def loss(w: jax.Array, data: Any) -> jax.Array:
        x, y = data
        return jnp.mean((x @ w - y) ** 2) / 2 + ridge / 2 * w @ w

    return Convex(name, loss, (x, y), np.zeros(x.shape[1]), _top(x) + ridge)


def _quadratic(name: str, spectrum: np.ndarray) -> Convex:
    """Its coordinates are the eigenvectors; the start is as far in every one."""
    loss = lambda w, spectrum: jnp.sum(spectrum * w**2) / 2
    return Convex(name, loss, spectrum, np.ones(len(spectrum)), float(spectrum.max()))


def _nesterov(name: str, d: int) -> Convex:
    def loss(w: jax.Array, _: Any) -> jax.Array:
        return (w[0] ** 2 + jnp.sum((w[1:] - w[:-1]) ** 2) + w[-1] ** 2) / 8 - w[0] / 4

    return Convex(name, loss, (), np.zeros(d), float(np.cos(np.pi / (2 * d + 2)) ** 2))


def _kernel_ridge(name: str, x: np.ndarray, y: np.ndarray, ridge: float = 0.1) -> Convex:
    kernel = rbf_kernel(x) + ridge * np.eye(len(x))
    loss = lambda a, data: a @ data[0] @ a / 2 - data[1] @ a
    return Convex(name, loss, (kernel, y), np.zeros(len(x)), float(np.linalg.norm(kernel, 2)))


def _deblurring(name: str, d: int = 256, width: float = 3.0, ridge: float = 1e-4) -> Convex:
    """A signal of steps, blurred by a Gaussian."""
    rng = np.random.default_rng(2)
    distance = np.arange(d)[:, None] - np.arange(d)
    blur = np.exp(-(distance**2) / (2 * width**2))
    blur *= np.sqrt(d) / blur.sum(axis=1).max()
    signal = np.repeat(rng.normal(size=d // 16), 16)
    return _least_squares(name, blur, blur @ signal + 0.01 * rng.normal(size=d), ridge)


def _classes(
    name: str,
    of_margin: Callable[[jax.Array], jax.Array],
    x: np.ndarray,
    signs: np.ndarray,
    curvature: float,
    ridge: float = 1e-3,
) -> Convex:
    """Two classes, by a loss of the margin with a second derivative up to `curvature`."""

    def loss(w: jax.Array, data: Any) -> jax.Array:
        x, signs = data
        return jnp.mean(of_margin(signs * (x @ w))) + ridge / 2 * w @ w

    start = np.zeros(x.shape[1])
    return Convex(name, loss, (x, signs), start, curvature * _top(x) + ridge)


def _logistic(margin: jax.Array) -> jax.Array:
    return jax.nn.softplus(-margin)


def _squared_hinge(margin: jax.Array) -> jax.Array:
    return jax.nn.relu(1 - margin) ** 2 / 2


def _softmax(name: str, x: np.ndarray, labels: np.ndarray, ridge: float = 1e-3) -> Convex:
    x = _with_intercept(_standard(x))
    classes = int(labels.max()) + 1

    def loss(w: jax.Array, data: Any) -> jax.Array:
        x, labels = data
        logits = x @ w.reshape(x.shape[1], classes)
        right = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - right) + ridge / 2 * w @ w

    start = np.zeros(x.shape[1] * classes)
    return Convex(name, loss, (x, labels), start, _top(x) / 2 + ridge)


def _residuals(
    name: str,
    of_residual: Callable[[jax.Array], jax.Array],
    x: np.ndarray,
    y: np.ndarray,
    curvature: float,
) -> Convex:
    loss = lambda w, data: jnp.mean(of_residual(data[0] @ w - data[1]))
    return Convex(name, loss, (x, y), np.zeros(x.shape[1]), curvature * _top(x))


def _huber(residual: jax.Array, delta: float = 0.5) -> jax.Array:
    size = jnp.abs(residual)
    inside = jnp.minimum(size, delta)
    return inside * (size - inside / 2)


def _log_cosh(residual: jax.Array) -> jax.Array:
    return jnp.logaddexp(residual, -residual) - jnp.log(2)


def _log_sum_exp(name: str, n: int, d: int, temperature: float = 0.1) -> Convex:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(n, d)) / np.sqrt(d), rng.normal(size=n)

    def loss(w: jax.Array, data: Any) -> jax.Array:
        x, y = data
        return temperature * jax.nn.logsumexp((x @ w - y) / temperature)

    # The Hessian is X'(diag(p) - pp')X / temperature: at most the longest row's square.
    bound = (np.linalg.norm(x, axis=1) ** 2).max() / temperature
    return Convex(name, loss, (x, y), np.zeros(d), float(bound))


def _total_variation(name: str, d: int = 400, weight: float = 0.5, eps: float = 0.05) -> Convex:
    rng = np.random.default_rng(4)
    noisy = np.repeat(rng.normal(size=d // 20), 20) + 0.3 * rng.normal(size=d)

    def loss(w: jax.Array, noisy: jax.Array) -> jax.Array:
        jumps = jnp.sum(jnp.sqrt(jnp.diff(w) ** 2 + eps**2))
        return jnp.sum((w - noisy) ** 2) / 2 + weight * jumps

    return Convex(name, loss, noisy, noisy, 1 + 4 * weight / eps)


def _smooth_lasso(
    name: str, x: np.ndarray, y: np.ndarray, weight: float = 0.01, eps: float = 0.01
) -> Convex:
    def loss(w: jax.Array, data: Any) -> jax.Array:
        x, y = data
        return jnp.mean((x @ w - y) ** 2) / 2 + weight * jnp.sum(jnp.sqrt(w**2 + eps**2))

    return Convex(name, loss, (x, y), np.zeros(x.shape[1]), _top(x) + weight / eps)
