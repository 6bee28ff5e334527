"""Shot noise: populations with and without pruning, and jd.hybrid, at the same number of shots.

Every value that a method sees is measured, by gradients of the parameter-shift rule too. Its answer
is the point with the lowest measured value, and the study reports the exact energy there: the
lowest of many noisy values is too low, and need not belong to the lowest energy.

    h2      the circuit of excitations; one minimum, up to periods
    glass   Gaussian couplings Z_i Z_j of 8 qubits, each rotated around Y; a minimum at every
            configuration that no single flip lowers

`jd.hybrid` minimizes deterministic functions. Its random key is therefore a function of the
parameters: a point that is measured twice has the same value.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import jaxdescent as jd
from experiments import runner
from experiments.studies.quantum.parts import Part

ObjectiveName = Literal["h2", "glass"]
MethodName = Literal["one", "unpruned", "pruned", "halving", "hybrid"]
TITLES: dict[MethodName, str] = {
    "one": "one agent",
    "unpruned": "16 agents, unpruned",
    "pruned": "16 agents, pruned (adaptive)",
    "halving": "16 agents, pruned (halving)",
    "hybrid": "jd.hybrid",
}
AGENTS, RUNGS = 16, 10
LEARNING_RATE = 0.05
QUBITS = 8


class Size(NamedTuple):
    """Size of the task.

    Attributes:
      objectives: functions to minimize.
      methods: methods to minimize by.
      shots: measurements of each word in an execution.
      steps: steps of each agent that the unpruned population can take.
      seeds: number of repetitions.
    """

    objectives: tuple[ObjectiveName, ...]
    methods: tuple[MethodName, ...]
    shots: int
    steps: int
    seeds: int


METHODS: tuple[MethodName, ...] = tuple(TITLES)
SIZES = {
    "smoke": Size(("h2",), ("pruned",), 10, 12, 2),
    "small": Size(("h2", "glass"), METHODS, 100, 40, 15),
    "full": Size(("h2", "glass"), METHODS, 100, 100, 100),
}


class Course(NamedTuple):
    """Energies of a method above the lowest one.

    Attributes:
      shots: f[seeds, rungs], shots until the end of each rung.
      exact: f[seeds, rungs], exact energy of the alive agent with the lowest measured value.
      answer: f[seeds], exact energy of the method's answer.
      measured: f[seeds], measured energy of the answer.
    """

    shots: np.ndarray
    exact: np.ndarray
    answer: np.ndarray
    measured: np.ndarray


class Objective(NamedTuple):
    """An energy as a function of the parameters, f[size], and its lowest value."""

    energy: jd.quantum.Expectation
    size: int
    lowest: float


def load(name: ObjectiveName) -> Objective:
    """Returns an objective."""
    if name == "h2":
        molecule = jd.quantum.molecule("h2")
        circuit = jd.quantum.excitation_circuit(molecule)
        return Objective(circuit.expectation(molecule.observable), 3, molecule.ground_energy)
    gates, rng = jd.quantum.gates, np.random.default_rng(0)
    couplings = np.tril(rng.normal(size=(QUBITS, QUBITS)), -1) / np.sqrt(QUBITS)
    words = {f"Z{i} Z{j}": float(couplings[i, j]) for i in range(QUBITS) for j in range(i)}
    spins = 1 - 2 * (np.arange(2**QUBITS)[:, None] >> np.arange(QUBITS) & 1)
    lowest = np.einsum("ki,ij,kj->k", spins, couplings, spins).min()
    circuit = jd.quantum.Circuit(QUBITS, [gates.ry(gates.param(i), i) for i in range(QUBITS)])
    observable = jd.quantum.pauli_sum(words, num_qubits=QUBITS)
    return Objective(circuit.expectation(observable), QUBITS, float(lowest))


def run(size: Size, run: runner.Run) -> Part:
    """Runs every method on every objective and draws the courses."""
    found: dict[tuple[ObjectiveName, MethodName], Course] = {}
    with runner.Progress(total=len(size.objectives) * len(size.methods)) as progress:
        for name in size.objectives:
            for method in size.methods:
                found[name, method] = run.series(
                    f"noise, {TITLES[method]}, {name}",
                    Course,
                    partial(minimize, name, method, size),
                    progress=progress,
                    steps=1,
                )
    run.save_figure("3_noise", draw(size, found))
    return report(size, found)


def budget(objective: Objective, size: Size) -> int:
    """Returns the number of executions that each method may use."""
    return jd.quantum.parameter_shift(objective.energy).evaluations * AGENTS * size.steps


def minimize(name: ObjectiveName, method: MethodName, size: Size) -> Course:
    """Minimizes with every seed."""
    objective = load(name)
    search = _hybrid if method == "hybrid" else partial(_population, method)
    rows = search(objective, size)
    return Course(*map(np.array, zip(*rows, strict=True)))


def _population(method: MethodName, objective: Objective, size: Size) -> list[Any]:
    """Returns a row of a course for each seed, by agents that descend by Adam."""
    energy, lowest = objective.energy, objective.lowest
    shift = jd.quantum.parameter_shift(energy, shots=size.shots)

    rules = {
        "pruned": jd.pruning.adaptive(),
        "halving": jd.pruning.successive_halving(),
    }
    exact = jax.jit(jax.vmap(energy))
    rows = []
    for seed in range(size.seeds):
        key = jax.random.key(seed)
        starts = jax.random.uniform(key, (AGENTS, objective.size), minval=-np.pi, maxval=np.pi)
        result = jd.minimize(
            energy,
            optax.adam(LEARNING_RATE),
            init_params=starts[: 1 if method == "one" else AGENTS],
            estimator=shift,
            gradient_budget=budget(objective, size),
            num_rungs=RUNGS,
            rule=rules.get(method, jd.pruning.no_pruning()),
            key=key,
            record_params=True,
        )
        history = result.history
        values = np.where(history.alive, history.values, np.inf)
        leaders = history.params[np.arange(RUNGS), np.argmin(values, axis=1)]
        executions = np.asarray(history.evaluations_of_agents).sum(1)
        rows.append(
            (
                executions * (shift.shots / shift.evaluations),
                np.asarray(exact(leaders)) - lowest,
                float(energy(result.params)) - lowest,
                float(result.value) - lowest,
            )
        )
    return rows


def _hybrid(objective: Objective, size: Size) -> list[Any]:
    """Returns a row of a course for each seed; only its end is known."""
    energy, lowest = objective.energy, objective.lowest
    shift = jd.quantum.parameter_shift(energy, shots=size.shots)
    function = frozen_noise(energy, size.shots)
    side = np.full(objective.size, np.pi)
    limit = budget(objective, size)

    def shots_of(result: jd.HybridResult) -> float:
        executions = int(result.evaluations) + int(result.gradients) * (shift.evaluations - 1)
        return executions * shift.shots / shift.evaluations

    def search(seed: int, evaluations: int) -> jd.HybridResult:
        return jd.hybrid(
            function,
            bounds=(-side, side),
            key=jax.random.key(seed),
            max_evaluations=evaluations,
            patience=None,
        )

    # The mix of values and gradients is not known before: two other runs measure it.
    most, evaluations = limit * shift.shots / shift.evaluations, limit // shift.evaluations
    for _ in range(2):
        evaluations = int(evaluations * most / shots_of(search(size.seeds, evaluations)))
    rows = []
    for seed in range(size.seeds):
        result = search(seed, evaluations)
        answer = float(energy(result.params)) - lowest
        rows.append(([shots_of(result)], [answer], answer, float(result.value) - lowest))
    return rows


def frozen_noise(energy: jd.quantum.Expectation, shots: int) -> Any:
    """Returns an energy measured with a key that is a function of the parameters, f[n]."""
    shift = jd.quantum.parameter_shift(energy, shots=shots)

    def key_at(x: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
        return jax.lax.fori_loop(
            0, len(bits), lambda i, key: jax.random.fold_in(key, bits[i]), jax.random.key(0)
        )

    @jax.custom_vjp
    def value(x: jax.Array) -> jax.Array:
        return jd.quantum.measure(energy, x, key=key_at(x), shots=shots).value

    def forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = shift.estimate(energy, x, key=key_at(x))
        return found.value, found.grads

    def backward(grads: jax.Array, slope: jax.Array) -> tuple[jax.Array]:
        return (slope * grads,)

    value.defvjp(forward, backward)
    return value


def draw(size: Size, found: dict[tuple[ObjectiveName, MethodName], Course]) -> Figure:
    """Draws the median exact energy of the best agent by its measured value against shots."""
    count = len(size.objectives)
    figure = Figure(figsize=(6.5 * count, 4.5), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    for panel, name in zip(panels, size.objectives, strict=True):
        for index, method in enumerate(size.methods):
            course = found[name, method]
            x, y = np.median(course.shots, 0), np.maximum(np.median(course.exact, 0), 1e-4)
            low, high = np.quantile(np.maximum(course.exact, 1e-4), (0.25, 0.75), axis=0)
            if method == "hybrid":
                panel.errorbar(
                    x, y, [y - low, high - y], fmt="*", ms=10, color=f"C{index}",
                    label=TITLES[method],
                )  # fmt: skip
            else:
                panel.plot(x, y, "o-", ms=3, color=f"C{index}", label=TITLES[method])
                panel.fill_between(x, low, high, color=f"C{index}", alpha=0.12)
        panel.set(yscale="log", xlabel="shots", ylabel="exact energy above the lowest")
        panel.set_title({"h2": "H2 (Hartree)", "glass": "spin glass"}[name])
        panel.grid(alpha=0.25)
        panel.legend(fontsize="small", loc="upper right")
    return figure


def report(size: Size, found: dict[tuple[ObjectiveName, MethodName], Course]) -> Part:
    """Returns the table, the verdict and the notes."""
    rows, values, sentences = [], {}, []
    for (name, method), course in found.items():
        low, middle, high = np.quantile(course.answer, (0.25, 0.5, 0.75))
        rows.append(
            (
                name,
                TITLES[method],
                f"{np.median(course.shots[:, -1]) / 1e6:.2f}",
                f"{middle:.4f}",
                f"{low:.4f} .. {high:.4f}",
                f"{np.median(course.exact[:, -1]):.4f}",
                f"{np.median(course.measured):.4f}",
            )
        )
        values[f"noise, {name}, {method}"] = {
            "answer": course.answer.tolist(),
            "leader": course.exact[:, -1].tolist(),
            "measured": course.measured.tolist(),
            "shots": course.shots[:, -1].tolist(),
        }
    for name in size.objectives:
        medians = ", ".join(
            f"{TITLES[method]} {np.median(course.answer):.4f}"
            for (objective, method), course in found.items()
            if objective == name
        )
        sentences.append(
            f"With shot noise on {name}, exact energy of the answer above the lowest (median): "
            f"{medians}."
        )
        if {"pruned", "unpruned"} <= {*size.methods}:
            lower = np.mean(found[name, "pruned"].answer < found[name, "unpruned"].answer)
            sentences.append(
                "The adaptively pruned population is lower than the unpruned one in "
                f"{100 * lower:.0f}% of the seeds."
            )
    columns = (
        "objective", "method", "million shots", "exact energy of the answer", "quartiles",
        "of the last leader", "measured energy of the answer",
    )  # fmt: skip
    title = f"Shot noise: energy above the lowest, medians over {size.seeds} seeds"
    notes = [
        f"Shot noise: {size.shots} shots for each word in each execution, words measured one by "
        f"one. The unpruned population of {AGENTS} agents has {size.steps} gradients an agent by "
        "the parameter-shift rule; the others have as many shots. Starts are uniform in "
        f"[-pi, pi], the same for all populations; Adam with learning rate {LEARNING_RATE}, "
        f"{RUNGS} rungs. The answer is the point with the lowest measured value; the last leader "
        "is the agent with the lowest measured value at the end. A measured energy below the exact "
        "one shows the selection by noise.",
        "jd.hybrid is made for deterministic functions. Its random key is a function of the "
        "parameters. Its number of evaluations is chosen by two other runs, which are not counted, "
        "so that it uses about as many shots as the populations.",
        "h2: the circuit of excitations, 14 words, in Hartree. glass: 28 Gaussian couplings of 8 "
        "qubits, with one rotation around Y for each.",
    ]
    return Part(runner.Table(columns, rows, title), notes, values, " ".join(sentences))
