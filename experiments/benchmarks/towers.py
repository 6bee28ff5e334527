"""The cost of a tower's step relative to the plain optimizer: time, memory, compile time.

    python -m experiments.benchmarks.towers

All programs of a model are compiled first, several times, and then run in turns of alternating
order, so that other load on the machine affects all of them. The figures are medians: of the
compile times, and over the turns of the ratio to optax's own optimizer in the same turn. Ratios
are of wall-clock time and of processor time, which other programs disturb less. Bytes are
relative to the parameters; an operation counts as large if it makes a buffer as large as the
largest parameter. Lines are counted in the compiled program.
"""

import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdescent as jd
from experiments.models.transformer import Transformer, TransformerConfig
from experiments.runner.report import table

TURNS = 15
COMPILES = 3
SECONDS_A_TURN = 0.04
RATE = {"learning_rate": 1e-3}
BETAS = {"b1": 0.9, "b2": 0.999}
momentum = partial(optax.sgd, momentum=0.9)


def tower(factory: Callable[..., Any], tune: dict[str, Any], height: int, method: str) -> Any:
    """Returns a tower in which each level but the last learns the rate of the level below."""
    above: Any = optax.sgd(1e-5)
    for _ in range(height - 1):
        above = jd.hypergradient(optax.sgd, above, tune={"learning_rate": 1e-5})
    return jd.hypergradient(factory, above, tune=tune, method=method)


# name: (the optimizer that it is compared with, a function that makes it)
OPTIMIZERS: dict[str, tuple[str, Callable[[], Any]]] = {
    "adam": ("adam", lambda: optax.adam(1e-3)),
    "... rate": ("adam", lambda: tower(optax.adam, RATE, 1, "auto")),
    "... rate and betas": ("adam", lambda: tower(optax.adam, RATE | BETAS, 1, "auto")),
    "... of height 2": ("adam", lambda: tower(optax.adam, RATE | BETAS, 2, "auto")),
    "... of height 3": ("adam", lambda: tower(optax.adam, RATE | BETAS, 3, "auto")),
    "... general, rate and betas": ("adam", lambda: tower(optax.adam, RATE | BETAS, 1, "general")),
    "adamw": ("adam", lambda: optax.adamw(1e-3)),
    "self-tuning adam": ("adam", lambda: jd.self_tuning(optax.adam)),
    "momentum": ("momentum", lambda: momentum(1e-3)),
    "... momentum's rate": ("momentum", lambda: tower(momentum, RATE, 1, "auto")),
}


class Model(NamedTuple):
    """Parameters, and a loss of the parameters."""

    params: Any
    loss: Callable[[Any], jax.Array]


def perceptron(sizes: tuple[int, ...], batch_size: int) -> Model:
    """Returns a network of tanh units on random inputs."""
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

    return Model(params, loss)


def transformer(size: str, batch_size: int) -> Model:
    """Returns a transformer on random tokens."""
    config = TransformerConfig.of_size(size, vocabulary=65)
    graph, params, rest = nnx.split(Transformer(config, rngs=nnx.Rngs(0)), nnx.Param, ...)
    shape = (batch_size, config.context + 1)
    tokens = jax.random.randint(jax.random.key(1), shape, 0, 65)

    def loss(params: Any) -> jax.Array:
        logits = nnx.merge(graph, params, rest)(tokens[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    return Model(nnx.to_pure_dict(params), loss)


MODELS: dict[str, Callable[[], Model]] = {
    "784-128-10, batch 256": lambda: perceptron((784, 128, 10), 256),
    "512 x 6, batch 256": lambda: perceptron((512,) * 7, 256),
    "512 x 6, batch 2048": lambda: perceptron((512,) * 7, 2048),
    "transformer of 0.1M, batch 32": lambda: transformer("0.1M", 32),
}


class Compiled(NamedTuple):
    """A compiled training step.

    Attributes:
      step: called as `step(params, state)`; returns the next parameters and state.
      carry: the initial parameters and state.
      compile_seconds: time of tracing and compiling.
      state: bytes of the optimizer's state, relative to the parameters.
      temporaries: XLA's temporary bytes, relative to the parameters.
      operations: number of instructions that make a buffer as large as the largest parameter.
      lines: number of lines of the compiled program.
    """

    step: Callable[..., Any]
    carry: Any
    compile_seconds: float
    state: float
    temporaries: float
    operations: int
    lines: int


def compiled_step(tx: Any, model: Model) -> Compiled:
    """Compiles a training step."""
    tx = optax.with_extra_args_support(tx)

    def step(params: Any, state: Any) -> Any:
        value, grads = jax.value_and_grad(model.loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.copy, model.params)
    carry = params, jax.jit(tx.init)(params)
    began = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*carry).compile()
    seconds = time.perf_counter() - began
    memory: Any = compiled.memory_analysis()
    size = _bytes(params)
    largest = max(leaf.size for leaf in jax.tree.leaves(params))
    program = str(compiled.as_text())
    return Compiled(
        compiled,
        carry,
        seconds,
        _bytes(carry[1]) / size,
        memory.temp_size_in_bytes / size,
        large_operations(program, largest),
        program.count("\n"),
    )


def compile_steps(model: Model) -> dict[str, Compiled]:
    """Returns the training step of each optimizer, with its median compile time."""
    every = [
        {name: compiled_step(new(), model) for name, (_, new) in OPTIMIZERS.items()}
        for _ in range(COMPILES)
    ]

    def median(name: str) -> float:
        return float(np.median([each[name].compile_seconds for each in every]))

    return {n: each._replace(compile_seconds=median(n)) for n, each in every[-1].items()}


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def large_operations(hlo: str, size: int) -> int:
    """Counts the instructions of a program's entry that make a float array of at least `size`."""
    entry = hlo[hlo.index("\nENTRY") :]
    made = re.findall(r"= f32\[([\d,]+)\]\S* (?!parameter|bitcast|get-tuple)\w", entry)
    return sum(int(np.prod([int(n) for n in shape.split(",")])) >= size for shape in made)


def measure(programs: dict[str, Compiled]) -> dict[str, np.ndarray]:
    """Measures wall-clock and processor seconds of a step, f64[turns, 2] by name."""
    carries = {name: each.carry for name, each in programs.items()}

    def run(name: str, steps: int) -> tuple[float, float]:
        began, worked = time.perf_counter(), time.process_time()
        for _ in range(steps):
            carries[name] = programs[name].step(*carries[name])
        jax.block_until_ready(carries[name])
        return (time.perf_counter() - began) / steps, (time.process_time() - worked) / steps

    names = list(programs)
    for name in names:
        run(name, 2)
    steps = max(1, round(SECONDS_A_TURN / run(names[0], 3)[0]))
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(TURNS):
        for name in names if turn % 2 else reversed(names):
            rows[name].append(run(name, steps))
    return {name: np.array(row) for name, row in rows.items()}


def memory_floor(params: Any, seconds: float, buffers: int) -> str:
    """Compares the extra seconds of a step with the time to move its bytes, on a GPU."""
    x = jnp.zeros(2**27)
    copy = jax.jit(lambda x: x + 1)
    jax.block_until_ready(copy(x))
    began = time.perf_counter()
    for _ in range(10):
        x = copy(x)
    jax.block_until_ready(x)
    bandwidth = 2 * 10 * x.nbytes / (time.perf_counter() - began)
    floor = buffers * _bytes(params) / bandwidth
    return f"extra time over the memory floor of {floor * 1e6:.0f} us: {seconds / floor:.2f}"


def main() -> None:
    """Prints a table for each model."""
    kind = jax.devices()[0].device_kind
    print(f"{kind}; medians of the ratios within {TURNS} turns")
    for label, make in MODELS.items():
        model = make()
        programs = compile_steps(model)
        seconds = measure(programs)
        rows = []
        for name, each in programs.items():
            base = OPTIMIZERS[name][0]
            ratio = np.median(seconds[name] / seconds[base], axis=0)
            rows.append(
                (
                    name,
                    f"{1e3 * np.median(seconds[name][:, 0]):.2f}",
                    f"{ratio[0]:.2f}",
                    f"{ratio[1]:.2f}",
                    f"{each.state:.2f}",
                    f"{each.temporaries:.2f}",
                    f"{each.operations}",
                    f"{each.lines}",
                    f"{each.compile_seconds:.2f}",
                )
            )
        columns = (label, "ms", "time", "cpu", "state", "temp", "large ops", "lines", "compile s")
        print(f"\n{table(columns, rows)}", flush=True)
        if jax.default_backend() == "gpu":
            extra = {
                n: float(np.median(s[:, 0] - seconds["adam"][:, 0])) for n, s in seconds.items()
            }
            # Read the gradient, the last gradient and both moments; store the gradient.
            print(memory_floor(model.params, extra["... rate and betas"], 6))


if __name__ == "__main__":
    main()
