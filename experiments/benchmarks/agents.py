"""Time that pruning saves, throughput of agents, and memory of a rung.

    python -m experiments.benchmarks.agents
    XLA_FLAGS=--xla_force_host_platform_device_count=2 python -m experiments.benchmarks.agents

Halving: 1,024 networks of 1,441 parameters, batches of 64, Adam, 11 rungs of 50 steps. The pruned
run is compared with the same program without pruning, with a plain `vmap` of all agents, and with a
`vmap` that masks the updates of pruned agents.

Throughput: Rastrigin's function in 20 dimensions with Adam, in one rung, with the same number of
agent-steps for 64 to 1,000,000 agents. It is compared with a Python loop over the compiled step of
one agent and with a plain `vmap`. Agents start near minima: steps far from them take longer, which
would make runs of few steps seem slow.

Memory: XLA's estimate of a rung's memory in addition to its arguments and results.

Our agents are sharded over all devices. On a CPU a loop runs on one core, so the second command
simulates two devices. Programs take turns in alternating order, and a ratio is the median over
turns of the ratio within a turn.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.runner.report import table
from jaxdescent.chunking import where_rows

TURNS = 3
AGENTS, RUNGS, STEPS_PER_RUNG, BATCH = 1_024, 11, 50, 64
SIZES = (10, 32, 32, 1)  # 1,441 parameters
EXAMPLES = 4_096
ADAM = optax.adam(1e-3)
HALVING = jd.pruning.successive_halving()
DIMENSION = 20
WORK = 150_000_000  # agent-steps of every run, so that all take about as long
STEPS = {count: WORK // count for count in (64, 1_024, 16_384, 262_144, 1_000_000)}
LOOP_STEPS, VMAP_STEPS = 10_000, 100
MANY = 262_144
NO_PRUNING = jd.pruning.no_pruning()
HALF_WIDTH, RATE = 5.12, 1e-2
ADAM_OF_STEP, ADAM_OF_MINIMIZE = optax.adam(RATE), optax.adam(RATE / (2 * HALF_WIDTH))


def mesh() -> jax.sharding.Mesh | None:
    """Returns a mesh of all devices, or None if there is one."""
    if jax.device_count() == 1:
        return None
    return jax.make_mesh(
        (jax.device_count(),), ("agents",), axis_types=(jax.sharding.AxisType.Auto,)
    )


def shard(agents: Any) -> Any:
    """Shards agents over the devices, as our programs expect them."""
    devices = mesh()
    if devices is None:
        return agents
    rows = jax.sharding.PartitionSpec("agents")
    return jax.device_put(agents, jax.sharding.NamedSharding(devices, rows))


def data() -> dict[str, jax.Array]:
    """Returns samples of Friedman's first function (J. H. Friedman 1991), standardized."""
    x = np.random.default_rng(0).uniform(size=(EXAMPLES, SIZES[0])).astype(np.float32)
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    y += 10 * x[:, 3] + 5 * x[:, 4]
    return {"x": jnp.asarray(x), "y": jnp.asarray((y - y.mean()) / y.std())}


def starts(key: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Draws networks with a leading axis of agents."""
    layers = []
    for i, (rows, columns) in enumerate(itertools.pairwise(SIZES)):
        kernel = jax.random.normal(jax.random.fold_in(key, i), (AGENTS, rows, columns))
        layers.append((kernel * np.sqrt(2 / rows), jnp.zeros((AGENTS, columns))))
    return layers


def loss(params: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the mean squared error."""
    x = batch["x"]
    for kernel, bias in params[:-1]:
        x = jax.nn.relu(x @ kernel + bias)
    kernel, bias = params[-1]
    return jnp.mean(((x @ kernel + bias)[:, 0] - batch["y"]) ** 2)


def plain_vmap(params: Any, examples: Any, key: jax.Array, masked: bool) -> Any:
    """Trains all agents under one `vmap`; returns parameters, last values and `alive`.

    Args:
      params: tree with a leading axis of agents.
      examples: the data.
      key: random key of the data order.
      masked: whether to mask the updates of the worse half after each rung.
    """
    per_epoch = EXAMPLES // BATCH

    def step(carry: Any, t: jax.Array) -> Any:
        params, state, alive, order = carry

        def draw() -> jax.Array:
            return jax.random.permutation(jax.random.fold_in(key, t // per_epoch), EXAMPLES)

        order = jax.lax.cond(t % per_epoch == 0, draw, lambda: order)
        index = jax.lax.dynamic_slice_in_dim(order, t % per_epoch * BATCH, BATCH)
        batch = jax.tree.map(lambda x: x[index], examples)
        values, grads = jax.vmap(jax.value_and_grad(loss), (0, None))(params, batch)
        updates, moved = jax.vmap(ADAM.update)(grads, state, params)
        new = optax.apply_updates(params, updates), moved
        if masked:
            new = jax.tree.map(partial(where_rows, alive), new, (params, state))
        return (*new, alive, order), values

    def rung(carry: Any, first: jax.Array) -> Any:
        carry, values = jax.lax.scan(step, carry, first + jnp.arange(STEPS_PER_RUNG))
        params, state, alive, order = carry
        values = jnp.where(alive, values.mean(0), jnp.inf)
        if masked:
            kept = jnp.argsort(jnp.argsort(values)) < (alive.sum() + 1) // 2
            carry = params, state, alive & kept, order
        return carry, values

    alive, order = jnp.ones(AGENTS, bool), jnp.arange(EXAMPLES)
    first = (params, jax.vmap(ADAM.init)(params), alive, order)
    (params, _, alive, _), values = jax.lax.scan(rung, first, STEPS_PER_RUNG * jnp.arange(RUNGS))
    return params, values[-1], alive


class Timing(NamedTuple):
    """Wall and CPU time of a call, in seconds, and its result."""

    wall: float
    cpu: float
    result: Any


def time_call(call: Callable[[], Any]) -> Timing:
    """Times a call until its result is ready."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(call())
    return Timing(time.perf_counter() - wall, time.process_time() - cpu, result)


def in_turns(calls: Mapping[str, Callable[[], Any]]) -> dict[str, list[Timing]]:
    """Times compiled calls TURNS times each, in alternating order."""
    times: dict[str, list[Timing]] = {name: [] for name in calls}
    for turn in range(TURNS):
        for name in [*calls][:: 1 if turn % 2 else -1]:
            times[name].append(time_call(calls[name]))
    return times


def halving() -> None:
    """Prints the time that pruning saves."""
    key, examples = jax.random.key(0), data()
    agents = jax.block_until_ready(jax.jit(starts)(key))
    sharded = shard(agents)
    vmapped = jax.jit(plain_vmap, static_argnums=3)

    def fit(prune: bool) -> Any:
        return jd.fit(
            loss,
            ADAM,
            examples,
            init_params=sharded,
            key=key,
            steps=RUNGS * STEPS_PER_RUNG,
            steps_per_rung=STEPS_PER_RUNG,
            batch_size=BATCH,
            rule=HALVING,
            prune=prune,
            mesh=mesh(),
        )

    calls = {
        "plain vmap": lambda: vmapped(agents, examples, key, False),
        "plain vmap, masked": lambda: vmapped(agents, examples, key, True),
        "jd.fit, unpruned": lambda: fit(False),
        "jd.fit, pruned": lambda: fit(True),
    }
    compiles: list[str] = []

    def listen(event: str, duration_secs: float, **named: Any) -> None:
        del duration_secs, named
        compiles.append(event)

    rows, first = [], {}
    for name, call in calls.items():
        compiles.clear()
        jax.monitoring.register_event_duration_secs_listener(listen)
        first[name] = time_call(call)
        jax.monitoring.unregister_event_duration_listener(listen)
        count = sum(event.endswith("backend_compile_duration") for event in compiles)
        first[name] = first[name], count
    times = in_turns(calls)
    least = np.array([each.wall for each in times["jd.fit, pruned"]])
    for name, each in times.items():
        walls = np.array([one.wall for one in each])
        cpu = float(np.median([one.cpu for one in each]))
        first_call, count = first[name]
        rows.append(
            (
                name,
                f"{np.median(walls):.2f}",
                f"{cpu:.2f}",
                f"{np.median(walls / least):.2f}",
                f"{count}",
                f"{first_call.cpu - cpu:.1f}" if count else "-",
            )
        )
    print(f"{AGENTS:,} agents, halving after each of {RUNGS} rungs of {STEPS_PER_RUNG} steps")
    print(
        table(
            ("program", "wall s", "CPU s", "ratio to pruned", "compiles", "compiling, CPU s"), rows
        )
    )
    pruned, unpruned = (times[f"jd.fit, {each}"][0].result for each in ("pruned", "unpruned"))
    alive = np.asarray(pruned.population.alive)
    same = jax.tree.map(
        lambda x, y: np.array_equal(np.asarray(x)[alive], np.asarray(y)[alive]),
        pruned.population.params,
        unpruned.population.params,
    )
    same = np.array_equal(alive, unpruned.population.alive) and all(jax.tree.leaves(same))
    print(
        f"gradients: {unpruned.gradients / pruned.gradients:.2f} times fewer; survivors "
        f"({alive.sum()}) {'equal' if same else 'NOT equal'} to the unpruned run's, to the bit"
    )


def rastrigin(x: jax.Array) -> jax.Array:
    """Returns L. A. Rastrigin's function (1974)."""
    return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10)


@partial(jax.jit, static_argnums=0)
def near_minima(count: int) -> jax.Array:
    """Draws starts within 0.1 of integers from -5 to 5, which are near minima."""
    minima_key, offset_key = jax.random.split(jax.random.key(0))
    minima = jax.random.randint(minima_key, (count, DIMENSION), -5, 6).astype(jnp.float32)
    return minima + jax.random.uniform(offset_key, (count, DIMENSION), minval=-0.1, maxval=0.1)


def step(x: jax.Array, state: Any, best: jax.Array, least: jax.Array) -> Any:
    """Takes a step of one agent and updates its best point, as `jd.minimize` does."""
    value, grads = jax.value_and_grad(rastrigin)(x)
    better = value < least
    best, least = jnp.where(better, x, best), jnp.where(better, value, least)
    updates, state = ADAM_OF_STEP.update(grads, state, x)
    return optax.apply_updates(x, updates), state, best, least


@jax.jit
def side_by_side(x: jax.Array, steps: jax.Array) -> Any:
    """Steps all agents under one `vmap`."""
    first = (x, jax.vmap(ADAM_OF_STEP.init)(x), x, jnp.full(len(x), jnp.inf))
    return jax.lax.fori_loop(0, steps, lambda _, carry: jax.vmap(step)(*carry), first)[3]


def one_by_one(steps: int) -> Any:
    """Steps one agent in a Python loop over its compiled step."""
    compiled = jax.jit(step)
    x = jnp.ones(DIMENSION)
    carry = x, ADAM_OF_STEP.init(x), x, jnp.full((), jnp.inf)
    for _ in range(steps):
        carry = compiled(*carry)
    return carry[3]


def throughput() -> None:
    """Prints agent-steps per second."""
    box = jnp.full(DIMENSION, HALF_WIDTH)
    problem = jd.Problem(rastrigin, -box, box)
    points = {count: near_minima(count) for count in STEPS}

    def minimize(count: int) -> Any:
        return jd.minimize(
            problem,
            ADAM_OF_MINIMIZE,
            init_params=points[count],
            steps=STEPS[count],
            num_rungs=1,
            rule=NO_PRUNING,
            mesh=mesh(),
        ).value

    calls: dict[str, Callable[[], Any]] = {
        f"jd.minimize, {n:,}": (lambda n=n: minimize(n)) for n in STEPS
    }
    calls[f"plain vmap, {MANY:,}"] = lambda: side_by_side(points[MANY], VMAP_STEPS)
    calls["Python loop, 1"] = lambda: one_by_one(LOOP_STEPS)
    done = {f"jd.minimize, {n:,}": n * steps for n, steps in STEPS.items()}
    done |= {f"plain vmap, {MANY:,}": MANY * VMAP_STEPS, "Python loop, 1": LOOP_STEPS}
    for call in calls.values():
        jax.block_until_ready(call())
    times = in_turns(calls)
    speeds = {
        name: done[name] / np.array([one.wall for one in each]) for name, each in times.items()
    }
    cpu = {name: done[name] / np.median([one.cpu for one in each]) for name, each in times.items()}
    loop = speeds["Python loop, 1"]
    rows = [
        (name, f"{np.median(each):.2e}", f"{cpu[name]:.2e}", f"{np.median(each / loop):.0f}")
        for name, each in speeds.items()
    ]
    print(f"Rastrigin in {DIMENSION} dimensions, Adam")
    print(table(("agents", "agent-steps / s", "/ CPU s", "ratio to loop"), rows))
    ours = [np.median(speeds[name]) for name in calls if name.startswith("jd.minimize")]
    many = speeds[f"jd.minimize, {MANY:,}"] / speeds[f"plain vmap, {MANY:,}"]
    print(
        f"fastest / slowest {max(ours) / min(ours):.2f}; {MANY:,} agents: "
        f"{np.median(many):.2f} times as fast as the plain vmap"
    )


def memory() -> None:
    """Prints the memory of a compiled rung."""
    loop = jd.fit_loop(loss, ADAM, num_agents=AGENTS, batch_size=BATCH, rule=HALVING)
    agents = jax.eval_shape(starts, jax.random.key(0))
    state = jax.eval_shape(loop.init, jax.random.key(0), agents)
    step = jax.jit(loop.step, donate_argnums=0)
    program = step.lower(state, data(), None, STEPS_PER_RUNG).compile()
    analysis: Any = program.memory_analysis()
    population = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.population))
    print(
        f"memory of a rung: population {population / 2**20:.1f} MiB, updated in place "
        f"{analysis.alias_size_in_bytes / 2**20:.1f}, temporaries "
        f"{analysis.temp_size_in_bytes / 2**20:.1f} MiB"
    )


def main() -> None:
    """Prints all tables."""
    print(f"{jax.devices()[0].device_kind}; devices: {jax.device_count()}")
    halving()
    throughput()
    memory()


if __name__ == "__main__":
    main()
