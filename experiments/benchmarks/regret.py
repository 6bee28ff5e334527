"""Dynamic regret of learners against a minimum that jumps, beside the theorems' bounds.

    python -m experiments.benchmarks.regret

4,000 rounds of f_t(w) = |w - u_t|^2 / 2 in the unit ball of R^3, from w = 0. u_t is constant on
each of 1, 10, 100 or 1,000 pieces of equal length; each piece draws it from a standard normal
distribution and projects it to the ball. The diameter D and the bound G on the gradients are 2.
The comparators are the minima, so that the regret is the sum of the losses.

The first table has one stream, of NumPy's generator with seed 0, which draws for 1, 10, 100 and
1,000 pieces in this order. Reported for it are 1.7, 66, 173 and 841 for Ader++ with PyNOL's rate of
the experts' weights, 1 / (D G sqrt(t)), and 7, 279, 1,460 and 1,785 for gradient descent with the
step size D / (G sqrt(T)). The second table has medians over the streams of seeds 0 to 20.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.runner.report import table

ROUNDS, DIMENSION = 4_000, 3
PIECES = (1, 10, 100, 1_000)
SEEDS = 21
DIAMETER = BOUND = 2.0


def streams(seed: int) -> np.ndarray:
    """Draws the minima, f64[pieces, rounds, dimension]."""
    random = np.random.default_rng(seed)
    rows = []
    for pieces in PIECES:
        drawn = random.normal(size=(pieces, DIMENSION))
        drawn /= np.maximum(1, np.linalg.norm(drawn, axis=1, keepdims=True))
        rows.append(np.repeat(drawn, ROUNDS // pieces, axis=0))
    return np.array(rows)


def unit_ball(params: Any) -> Any:
    """Returns the nearest point of the unit ball."""
    return optax.projections.projection_l2_ball(params, scale=1.0)


def learners() -> dict[str, Any]:
    """Returns the rows of the tables."""
    streaming = jd.streaming
    descent = {"diameter": DIAMETER, "gradient_bound": BOUND, "projection": unit_ball}
    ader = {"diameter": DIAMETER, "gradient_bound": BOUND}
    known = {**ader, "horizon": ROUNDS}
    return {
        "gradient descent, D / (G sqrt(T))": streaming.online_gradient_descent(
            **descent, horizon=ROUNDS
        ),
        "gradient descent, D / (G sqrt(t))": streaming.online_gradient_descent(**descent),
        "gradient descent, 1 / t": streaming.online_gradient_descent(
            strong_convexity=1.0, projection=unit_ball
        ),
        "AdaGrad-norm": streaming.adagrad_norm(diameter=DIAMETER, projection=unit_ball),
        "coin betting": streaming.coin_betting(BOUND),
        "Ader, constant rate": streaming.ader(**known, surrogate=False, meta_rate="constant"),
        "Ader, adaptive rate": streaming.ader(**known, surrogate=False),
        "Ader++, constant rate": streaming.ader(**known, meta_rate="constant"),
        "Ader++, PyNOL's rate": streaming.ader(**known, meta_rate="decreasing"),
        "Ader++, adaptive rate": streaming.ader(**known),
        "Ader++, adaptive rate, T unknown": streaming.ader(**ader),
    }


def loss_fn(w: jax.Array, target: jax.Array) -> jax.Array:
    """Returns the loss of a round."""
    return jnp.sum((w - target) ** 2) / 2


def regret(tx: Any, minima: jax.Array) -> jax.Array:
    """Returns the dynamic regret of a learner on one stream."""

    def step(carry: Any, target: jax.Array) -> tuple[Any, jax.Array]:
        w, state = carry
        updates, state = tx.update(w - target, state, w, value_fn=lambda x: loss_fn(x, target))
        return (optax.apply_updates(w, updates), state), w

    start = jnp.zeros(DIMENSION, minima.dtype)
    _, points = jax.lax.scan(step, (start, tx.init(start)), minima)
    return jd.streaming.regret.dynamic_regret(loss_fn, points, minima, minima)[-1]


def bounds(minima: np.ndarray) -> dict[str, list[float]]:
    """Returns the bounds on the dynamic regret of one seed, by the name of a learner."""
    paths = [float(jd.streaming.regret.path_length(row)) for row in minima]
    step_size = DIAMETER / (BOUND * np.sqrt(ROUNDS))
    descent, ader = (
        jd.streaming.regret.dynamic_gradient_descent_bound,
        jd.streaming.regret.ader_bound,
    )
    arguments = ROUNDS, DIAMETER, BOUND
    return {
        "gradient descent, D / (G sqrt(T))": [
            float(descent(*arguments, path, step_size=step_size)) for path in paths
        ],
        "Ader++, constant rate": [
            ader(*arguments, path, horizon=ROUNDS, meta_rate="constant") for path in paths
        ],
        "Ader++, adaptive rate": [ader(*arguments, path, horizon=ROUNDS) for path in paths],
        "Ader++, adaptive rate, T unknown": [ader(*arguments, path) for path in paths],
    }


def main() -> None:
    """Prints the tables."""
    jax.config.update("jax_enable_x64", True)
    minima = np.array([streams(seed) for seed in range(SEEDS)])
    found = {
        name: np.asarray(jax.jit(jax.vmap(jax.vmap(lambda rows, tx=tx: regret(tx, rows))))(minima))
        for name, tx in learners().items()
    }
    header = ["learner", "1 piece", *(f"{pieces:,} pieces" for pieces in PIECES[1:])]

    def rows(values: dict[str, Any]) -> list[list[str]]:
        return [[name, *(f"{x:,.1f}" for x in row)] for name, row in values.items()]

    print(f"dynamic regret after {ROUNDS:,} rounds, seed 0")
    print(table(header, rows({name: values[0] for name, values in found.items()})))
    print(f"\ndynamic regret after {ROUNDS:,} rounds, median of {SEEDS} seeds")
    print(table(header, rows({name: np.median(x, axis=0) for name, x in found.items()})))
    print("\nbounds on the dynamic regret, seed 0")
    print(table(header, rows(bounds(minima[0]))))


if __name__ == "__main__":
    main()
