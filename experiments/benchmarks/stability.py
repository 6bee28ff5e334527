"""Cost of monitoring stability: a monitored optimizer against the plain one.

    python -m experiments.benchmarks.stability

Both run the same chunks of 200 steps. Each monitored chunk has one probe, on a quarter of the
batch and from the last eigenvector. The two alternate, in alternating order; the cost is the
median over turns of the ratio of their times.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.models.tanh_network import init_params, squared_error
from experiments.runner.report import table

TURNS = 5
EVERY = 200


class Case(NamedTuple):
    """A network with its batch and optimizer."""

    sizes: tuple[int, ...]
    examples: int
    name: str
    optimizer: optax.GradientTransformation
    threshold: jd.thresholds.Threshold


CASES = (
    Case((64, 200, 200, 10), 1_024, "GD", optax.sgd(0.1), jd.thresholds.sgd(0.1)),
    Case((64, 200, 200, 10), 1_024, "Adam", optax.adam(1e-4), jd.thresholds.adam(1e-4)),
    Case((3072, 200, 200, 10), 512, "GD", optax.sgd(0.01), jd.thresholds.sgd(0.01)),
    Case((3072, 200, 200, 10), 128, "GD", optax.sgd(0.01), jd.thresholds.sgd(0.01)),
)


def chunk(tx: optax.GradientTransformation, probes: bool) -> Callable[..., Any]:
    """Returns a compiled function that runs 200 steps."""
    tx = optax.with_extra_args_support(tx)

    def run(params: Any, state: Any, batch: Any) -> Any:
        quarter = jax.tree.map(lambda x: x[: len(x) // 4], batch)
        extra = {"batch": quarter} if probes else {}

        def step(carry: Any, _: None) -> Any:
            params, state = carry
            grads = jax.grad(squared_error)(params, batch)
            updates, state = tx.update(grads, state, params, **extra)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, state), length=EVERY)[0]

    return jax.jit(run)


def measure(case: Case) -> tuple[str, ...]:
    """Returns a table row: seconds of the plain chunk, and the overhead of monitoring."""
    monitored = jd.monitor_stability(case.optimizer, squared_error, case.threshold, every=EVERY)
    inputs = jax.random.normal(jax.random.key(0), (case.examples, case.sizes[0]))
    labels = jax.random.randint(jax.random.key(1), (case.examples,), 0, case.sizes[-1])
    batch = inputs, jax.nn.one_hot(labels, case.sizes[-1])
    params = init_params(jax.random.key(2), case.sizes)
    programs = [chunk(case.optimizer, False), chunk(monitored, True)]
    carries = [(params, case.optimizer.init(params)), (params, monitored.init(params))]
    times = np.empty((TURNS + 1, 2))
    for turn in range(TURNS + 1):
        for i in (0, 1) if turn % 2 else (1, 0):
            began = time.perf_counter()
            carries[i] = jax.block_until_ready(programs[i](*carries[i], batch))
            times[turn, i] = time.perf_counter() - began
    times = times[1:]  # without the compilation and the cold first probe
    same = jax.tree.map(jnp.array_equal, carries[0][0], carries[1][0])
    log = jd.stability_log(carries[1][1])
    return (
        "-".join(map(str, case.sizes)),
        f"{case.examples}",
        case.name,
        f"{np.median(times[:, 0]):.3f}",
        f"{100 * (np.median(times[:, 1] / times[:, 0]) - 1):.1f}",
        f"{np.mean(log.converged[1:]):.2f}",
        "yes" if all(map(bool, jax.tree.leaves(same))) else "NO",
    )


def main() -> None:
    """Prints the table."""
    print(f"{jax.devices()[0].device_kind}; a probe every {EVERY} steps")
    columns = (
        "network",
        "examples",
        "optimizer",
        "plain s",
        "overhead %",
        "converged",
        "same bits",
    )
    print(table(columns, [measure(case) for case in CASES]))


if __name__ == "__main__":
    main()
