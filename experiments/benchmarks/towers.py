"""What a tower's step costs beside the plain optimizer's: time, bytes, compile time.

    python -m experiments.benchmarks.towers

All programs are compiled first and then timed in turns, so that a busy moment of the
machine falls on all of them; the figures are medians of the ratios within a turn.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.runner.report import table

ROUNDS, STEPS = 30, 10
BETAS = {"b1": 0.9, "b2": 0.999}
RATE = {"learning_rate": 1e-3}
RATE_PER_LEAF = {"learning_rate": jd.per_leaf(1e-3)}
# name: (layer sizes, batch size)
MODELS = {
    "784-128-10, batch 256": ((784, 128, 10), 256),
    "512 x 6, batch 256": ((512,) * 7, 256),
    "512 x 6, batch 2048": ((512,) * 7, 2048),
}


def tower(factory: Callable[..., Any], tune: dict[str, Any], height: int) -> Any:
    """A tower in which each level but the last learns the rate of the one below."""
    above: Any = optax.sgd(1e-5)
    for _ in range(height - 1):
        above = jd.hypergradient(optax.sgd, above, tune={"learning_rate": 1e-5})
    return jd.hypergradient(factory, above, tune=tune)


CONTESTANTS = {
    "adam": lambda: optax.adam(1e-3),
    "tower of adam, rate": lambda: tower(optax.adam, RATE, 1),
    "tower of adam, rate per leaf": lambda: tower(optax.adam, RATE_PER_LEAF, 1),
    "tower of adam, rate and betas": lambda: tower(optax.adam, RATE | BETAS, 1),
    "... of height 2": lambda: tower(optax.adam, RATE | BETAS, 2),
    "... of height 3": lambda: tower(optax.adam, RATE | BETAS, 3),
}


class Compiled(NamedTuple):
    """A training step, ready to be timed.

    Attributes:
      step: from `(params, state)` to the same.
      carry: where it starts.
      compile_seconds: tracing and compiling.
      state_buffers: bytes of the optimizer's state over those of the parameters.
      temporaries: XLA's temporary bytes over those of the parameters.
    """

    step: Callable[..., Any]
    carry: Any
    compile_seconds: float
    state_buffers: float
    temporaries: float


def _compile(tx: Any, sizes: tuple[int, ...], batch_size: int) -> Compiled:
    keys = jax.random.split(jax.random.key(0), len(sizes))
    params = [
        {"w": jax.random.normal(key, (m, n)) / np.sqrt(m), "b": jnp.zeros(n)}
        for key, m, n in zip(keys, sizes[:-1], sizes[1:], strict=False)
    ]
    inputs = jax.random.normal(keys[-1], (batch_size, sizes[0]))
    labels = jnp.arange(batch_size) % sizes[-1]

    def loss(params: Any) -> jax.Array:
        x = inputs
        for layer in params[:-1]:
            x = jnp.tanh(x @ layer["w"] + layer["b"])
        logits = x @ params[-1]["w"] + params[-1]["b"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(params: Any, state: Any) -> Any:
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    carry = params, tx.init(params)
    began = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*carry).compile()
    seconds = time.perf_counter() - began
    size_of = lambda tree: sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    memory: Any = compiled.memory_analysis()
    temporaries = memory.temp_size_in_bytes
    of_params = size_of(params)
    return Compiled(
        compiled, carry, seconds, size_of(carry[1]) / of_params, temporaries / of_params
    )


def _time(contestants: list[Compiled]) -> np.ndarray:
    """Seconds for `STEPS` steps, f64[rounds, contestants]."""
    carries = [contestant.carry for contestant in contestants]
    seconds = np.zeros((ROUNDS + 1, len(contestants)))
    for turn in range(ROUNDS + 1):
        for i, contestant in enumerate(contestants):
            began = time.perf_counter()
            for _ in range(STEPS):
                carries[i] = contestant.step(*carries[i])
            jax.block_until_ready(carries[i])
            seconds[turn, i] = time.perf_counter() - began
    return seconds[1:]  # the first turn warms up


def main() -> None:
    """Prints a table for each model."""
    print(f"{jax.devices()[0].device_kind}; medians of {ROUNDS} turns of {STEPS} steps")
    for name, (sizes, batch_size) in MODELS.items():
        compiled = [_compile(make(), sizes, batch_size) for make in CONTESTANTS.values()]
        seconds = _time(compiled)
        ratios = np.median(seconds / seconds[:, :1], axis=0)
        rows = [
            (
                label,
                f"{ratio:.2f}",
                f"{each.state_buffers:.2f}",
                f"{each.temporaries:.1f}",
                f"{each.compile_seconds / compiled[0].compile_seconds:.1f}",
            )
            for label, ratio, each in zip(CONTESTANTS, ratios, compiled, strict=True)
        ]
        columns = (name, "time / adam", "state / params", "temp / params", "compile / adam")
        print(f"\n{table(columns, rows)}")


if __name__ == "__main__":
    main()
