"""Twenty smooth convex problems, well and badly conditioned, in float64.

A problem has a loss of parameters and data, initial parameters, and the smoothness L: an upper
bound on the eigenvalues of the Hessian that holds everywhere. For quadratics L is the least
such bound. For the other problems it is the textbook bound, such as the largest eigenvalue of
X'X / 4n for logistic regression.

Sources: Y. Nesterov, "Introductory lectures on convex optimization", 2004, section 2.1.2, for
the function on which first-order methods are slowest; data sets bundled with scikit-learn.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets
from sklearn.metrics.pairwise import rbf_kernel

Loss = Callable[[jax.Array, Any], jax.Array]


class ConvexProblem(NamedTuple):
    """A smooth convex problem.

    Attributes:
      name: the name in tables.
      loss: called as `loss(params, data)` with f64[d] parameters; returns f64[].
      data: the arrays that `loss` takes.
      start: f64[d], the initial parameters.
      smoothness: the global smoothness constant L.
    """

    name: str
    loss: Loss
    data: Any
    start: np.ndarray
    smoothness: float


def load_problems() -> list[ConvexProblem]:
    """Returns the twenty problems in the order of the table."""
    diabetes, target = _diabetes()
    cancer, benign = _bundled("breast_cancer")
    cancer, benign = _with_intercept(_standardized(cancer)), 2.0 * benign - 1
    digits, digit = _bundled("digits")
    digits = _with_intercept(digits / 16)
    parity = 1 - 2.0 * (digit % 2)
    rng = np.random.default_rng(0)
    gaussian = rng.normal(size=(400, 200))
    noisy = gaussian @ rng.normal(size=200) / np.sqrt(200)
    products = _with_intercept(_standardized(_with_products(diabetes)))
    return [
        _least_squares("least squares, Gaussian", gaussian, noisy + rng.normal(size=400)),
        _least_squares("least squares, diabetes", diabetes, target),
        _least_squares("ridge, products, diabetes", products, target, 1e-4),
        _kernel_ridge("kernel ridge, diabetes", diabetes, target),
        _quadratic("quadratic, spectrum i^-1", 1.0 / np.arange(1, 1001)),
        _quadratic("quadratic, spectrum i^-2", 1.0 / np.arange(1, 1001) ** 2),
        _nesterov("Nesterov's slowest", 400),
        _deblurring("deblurring, ridge"),
        _two_classes("logistic, breast cancer", _logistic, cancer, benign, 0.25),
        _two_classes("logistic, digits, parity", _logistic, digits, parity, 0.25),
        _softmax("softmax, iris", *_bundled("iris")),
        _softmax("softmax, wine", *_bundled("wine")),
        _softmax("softmax, digits", *_bundled("digits")),
        _two_classes("squared hinge, breast cancer", _squared_hinge, cancer, benign, 1.0),
        _two_classes("squared hinge, digits, parity", _squared_hinge, digits, parity, 1.0),
        _residuals("Huber, diabetes", _huber, diabetes, target, 1.0),
        _residuals("log-cosh, heavy tails", _log_cosh, gaussian, noisy + _cauchy(400), 1.0),
        _log_sum_exp("log-sum-exp", 300, 60),
        _total_variation("smooth total variation"),
        _smooth_lasso("smooth lasso, digits", digits, digit - 4.5),
    ]


def minimum(problem: ConvexProblem, iterations: int = 200) -> float:
    """Computes the minimal loss to rounding error by Newton's method with a line search.

    Raises:
      RuntimeError: the gradient did not vanish within `iterations`.
    """
    value_and_grad = jax.jit(jax.value_and_grad(problem.loss))
    hessian = jax.jit(jax.hessian(problem.loss))
    x = jnp.asarray(problem.start)
    value, grad = value_and_grad(x, problem.data)
    initial_norm = float(jnp.linalg.norm(grad))
    for _ in range(iterations):
        if jnp.linalg.norm(grad) <= 1e-12 * initial_norm:
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
    if jnp.linalg.norm(grad) > 1e-9 * initial_norm:
        raise RuntimeError(
            f"{problem.name}: no minimum found, the gradient norm is {jnp.linalg.norm(grad)}"
        )
    return float(value)


def _bundled(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Loads the features f64[n, d] and the targets of a data set bundled with scikit-learn."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return np.asarray(x), np.asarray(y)


def _standardized(x: np.ndarray) -> np.ndarray:
    """Scales each column to mean 0 and variance 1; constant columns become 0."""
    spread = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1)


def _with_intercept(x: np.ndarray) -> np.ndarray:
    return np.column_stack([x, np.ones(len(x))])


def _with_products(x: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(x.shape[1])
    return np.column_stack([x, x[:, first] * x[:, second]])


def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    x, y = _bundled("diabetes")
    return _standardized(x), _standardized(y)


def _cauchy(n: int) -> np.ndarray:
    return np.random.default_rng(1).standard_cauchy(n)


def _top_eigenvalue(x: np.ndarray) -> float:
    """Returns the largest eigenvalue of X'X / n."""
    return float(np.linalg.norm(x, 2) ** 2 / len(x))


def _least_squares(name: str, x: np.ndarray, y: np.ndarray, ridge: float = 0.0) -> ConvexProblem:
    def loss(w: jax.Array, data: Any) -> jax.Array:
        x, y = data
        return jnp.mean((x @ w - y) ** 2) / 2 + ridge / 2 * w @ w

    return ConvexProblem(name, loss, (x, y), np.zeros(x.shape[1]), _top_eigenvalue(x) + ridge)


def _quadratic(name: str, spectrum: np.ndarray) -> ConvexProblem:
    """Returns a diagonal quadratic whose start is 1 in every coordinate."""

    def loss(w: jax.Array, spectrum: Any) -> jax.Array:
        return jnp.sum(spectrum * w**2) / 2

    return ConvexProblem(name, loss, spectrum, np.ones(len(spectrum)), float(spectrum.max()))


def _nesterov(name: str, d: int) -> ConvexProblem:
    def loss(w: jax.Array, _: Any) -> jax.Array:
        return (w[0] ** 2 + jnp.sum((w[1:] - w[:-1]) ** 2) + w[-1] ** 2) / 8 - w[0] / 4

    return ConvexProblem(name, loss, (), np.zeros(d), float(np.cos(np.pi / (2 * d + 2)) ** 2))


def _kernel_ridge(name: str, x: np.ndarray, y: np.ndarray, ridge: float = 0.1) -> ConvexProblem:
    kernel = rbf_kernel(x) + ridge * np.eye(len(x))

    def loss(a: jax.Array, data: Any) -> jax.Array:
        kernel, y = data
        return a @ kernel @ a / 2 - y @ a

    return ConvexProblem(
        name, loss, (kernel, y), np.zeros(len(x)), float(np.linalg.norm(kernel, 2))
    )


def _deblurring(name: str, d: int = 256, width: float = 3.0, ridge: float = 1e-4) -> ConvexProblem:
    """Returns the deblurring of a piecewise constant signal that a Gaussian blurred."""
    rng = np.random.default_rng(2)
    distance = np.arange(d)[:, None] - np.arange(d)
    blur = np.exp(-(distance**2) / (2 * width**2))
    blur *= np.sqrt(d) / blur.sum(axis=1).max()
    signal = np.repeat(rng.normal(size=d // 16), 16)
    return _least_squares(name, blur, blur @ signal + 0.01 * rng.normal(size=d), ridge)


def _two_classes(
    name: str,
    margin_loss: Callable[[jax.Array], jax.Array],
    x: np.ndarray,
    signs: np.ndarray,
    curvature: float,
    ridge: float = 1e-3,
) -> ConvexProblem:
    """Returns a two-class problem; `curvature` bounds the second derivative of `margin_loss`."""

    def loss(w: jax.Array, data: Any) -> jax.Array:
        x, signs = data
        return jnp.mean(margin_loss(signs * (x @ w))) + ridge / 2 * w @ w

    start = np.zeros(x.shape[1])
    return ConvexProblem(name, loss, (x, signs), start, curvature * _top_eigenvalue(x) + ridge)


def _logistic(margin: jax.Array) -> jax.Array:
    return jax.nn.softplus(-margin)


def _squared_hinge(margin: jax.Array) -> jax.Array:
    return jax.nn.relu(1 - margin) ** 2 / 2


def _softmax(name: str, x: np.ndarray, labels: np.ndarray, ridge: float = 1e-3) -> ConvexProblem:
    x = _with_intercept(_standardized(x))
    classes = int(labels.max()) + 1

    def loss(w: jax.Array, data: Any) -> jax.Array:
        x, labels = data
        logits = x @ w.reshape(x.shape[1], classes)
        label_logits = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - label_logits) + ridge / 2 * w @ w

    start = np.zeros(x.shape[1] * classes)
    return ConvexProblem(name, loss, (x, labels), start, _top_eigenvalue(x) / 2 + ridge)


def _residuals(
    name: str,
    residual_loss: Callable[[jax.Array], jax.Array],
    x: np.ndarray,
    y: np.ndarray,
    curvature: float,
) -> ConvexProblem:
    def loss(w: jax.Array, data: Any) -> jax.Array:
        x, y = data
        return jnp.mean(residual_loss(x @ w - y))

    return ConvexProblem(name, loss, (x, y), np.zeros(x.shape[1]), curvature * _top_eigenvalue(x))


def _huber(residual: jax.Array, delta: float = 0.5) -> jax.Array:
    size = jnp.abs(residual)
    inside = jnp.minimum(size, delta)
    return inside * (size - inside / 2)


def _log_cosh(residual: jax.Array) -> jax.Array:
    return jnp.logaddexp(residual, -residual) - jnp.log(2)


def _log_sum_exp(name: str, n: int, d: int, temperature: float = 0.1) -> ConvexProblem:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(n, d)) / np.sqrt(d), rng.normal(size=n)

    def loss(w: jax.Array, data: Any) -> jax.Array:
        x, y = data
        return temperature * jax.nn.logsumexp((x @ w - y) / temperature)

    # The Hessian is X'(diag(p) - pp')X / temperature, bounded by the largest squared row norm.
    bound = (np.linalg.norm(x, axis=1) ** 2).max() / temperature
    return ConvexProblem(name, loss, (x, y), np.zeros(d), float(bound))


def _total_variation(
    name: str, d: int = 400, weight: float = 0.5, eps: float = 0.05
) -> ConvexProblem:
    rng = np.random.default_rng(4)
    noisy = np.repeat(rng.normal(size=d // 20), 20) + 0.3 * rng.normal(size=d)

    def loss(w: jax.Array, noisy: jax.Array) -> jax.Array:
        jumps = jnp.sum(jnp.sqrt(jnp.diff(w) ** 2 + eps**2))
        return jnp.sum((w - noisy) ** 2) / 2 + weight * jumps

    return ConvexProblem(name, loss, noisy, noisy, 1 + 4 * weight / eps)


def _smooth_lasso(
    name: str, x: np.ndarray, y: np.ndarray, weight: float = 0.01, eps: float = 0.01
) -> ConvexProblem:
    def loss(w: jax.Array, data: Any) -> jax.Array:
        x, y = data
        return jnp.mean((x @ w - y) ** 2) / 2 + weight * jnp.sum(jnp.sqrt(w**2 + eps**2))

    return ConvexProblem(
        name, loss, (x, y), np.zeros(x.shape[1]), _top_eigenvalue(x) + weight / eps
    )
