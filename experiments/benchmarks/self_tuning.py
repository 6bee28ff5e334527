"""The cost of a step of `jd.self_tuning` relative to Adam, inside `lax.scan`.

    python -m experiments.benchmarks.self_tuning [MODEL ...]

A model is a part of a label of `experiments.benchmarks.towers`; by default all are measured. Each
program makes several steps in one `lax.scan`, after the range test, and its buffers are donated.
The programs run in turns of alternating order. The first ratio to Adam is the median over the
turns, and the second is the ratio of the shortest times. Instructions are counted in the compiled
program. `with_average`, which keeps the average and does nothing else, is a lower limit.
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.benchmarks.towers import MODELS, Model
from experiments.runner.report import table

TURNS = 40
SECONDS_A_TURN = 0.05
RANGE_TEST = 120  # steps before the measurement

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "adam": lambda: optax.adam(1e-3),
    "with_average": lambda: jd.with_average(optax.adam(1e-3)),
    "self_tuning": lambda: jd.self_tuning(optax.adam),
}


@dataclasses.dataclass
class Program:
    """Several training steps, compiled.

    Attributes:
      run: called with the carry, which it consumes; returns it after the steps.
      carry: parameters and optimizer state.
      compile_seconds: time of tracing and compiling.
      instructions: number of instructions of the compiled program.
    """

    run: Callable[[Any], Any]
    carry: Any
    compile_seconds: float
    instructions: int

    def seconds(self) -> float:
        """Runs the steps, and measures the time."""
        began = time.perf_counter()
        self.carry = jax.block_until_ready(self.run(self.carry))
        return time.perf_counter() - began


def compile_steps(tx: Any, model: Model, steps: int) -> Program:
    """Compiles a number of training steps."""
    tx = optax.with_extra_args_support(tx)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        params, state = carry
        value, grads = jax.value_and_grad(model.loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    def run(carry: Any) -> Any:
        return jax.lax.scan(step, carry, length=steps)[0]

    params = jax.tree.map(jnp.copy, model.params)
    carry = params, jax.jit(tx.init)(params)
    began = time.perf_counter()
    compiled = jax.jit(run, donate_argnums=0).lower(carry).compile()
    seconds = time.perf_counter() - began
    program = Program(compiled, carry, seconds, str(compiled.as_text()).count(" = "))
    for _ in range(-(-RANGE_TEST // steps)):
        program.seconds()
    return program


def measure(programs: dict[str, Program]) -> dict[str, np.ndarray]:
    """Measures seconds of a run, f64[turns] by name."""
    found: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(TURNS):
        for name in programs if turn % 2 else reversed(programs):
            found[name].append(programs[name].seconds())
    return {name: np.array(seconds) for name, seconds in found.items()}


def main(labels: list[str]) -> None:
    """Prints a table for each model."""
    for label, make in MODELS.items():
        if labels and not any(part in label for part in labels):
            continue
        model = make()
        one = compile_steps(OPTIMIZERS["adam"](), model, 1).seconds()
        steps = max(1, round(SECONDS_A_TURN / one))
        programs = {n: compile_steps(new(), model, steps) for n, new in OPTIMIZERS.items()}
        seconds = measure(programs)
        base = seconds["adam"]
        rows = [
            (
                name,
                f"{1e3 * seconds[name].min() / steps:.3f}",
                f"{np.median(seconds[name] / base):.3f}",
                f"{seconds[name].min() / base.min():.3f}",
                f"{each.instructions}",
                f"{each.compile_seconds:.2f}",
            )
            for name, each in programs.items()
        ]
        columns = (label, "ms", "median", "shortest", "instructions", "compile s")
        print(f"\n{table(columns, rows)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
