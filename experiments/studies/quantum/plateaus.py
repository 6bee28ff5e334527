"""Barren plateaus: the variance of one entry of the gradient against the number of qubits.

A layer rotates each qubit around Y, and around Z in deep circuits, and then applies CZ along a
line. Angles are uniform. The costs are

    global   1 - |<0...0|psi>|^2
    local    1 - mean over qubits of the probability of 0
    word     <Z_0 Z_1>

With one layer, f = 1 - prod cos^2(theta_j / 2), so that the variance of the global cost is
(1/8) (3/8)^(n-1); of the local cost it is 1 / (8 n^2), and of the word 1/4. If the circuits before
and after the gate are 2-designs, as deep circuits become, it is, with d = 2^n and the observable O
without its trace,

    d tr(O^2) / (2 (d^2 - 1) (d + 1))

Sources: J. R. McClean, S. Boixo, V. N. Smelyanskiy, R. Babbush, H. Neven 2018, arXiv:1803.11173;
M. Cerezo, A. Sone, T. Volkoff, L. Cincio, P. J. Coles 2021, arXiv:2001.00550.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jaxdescent as jd
from experiments import runner
from experiments.studies.quantum.parts import Part

COSTS = ("global", "local", "word")
Depth = Literal["one layer", "deep"]
DEPTHS: tuple[Depth, ...] = ("one layer", "deep")
LAYERS_PER_QUBIT = 6
CLOSE = 0.1
"""Largest difference of a slope from the theory that counts as agreement."""


class Size(NamedTuple):
    """Size of the task.

    Attributes:
      qubits: numbers of qubits.
      draws: numbers of random parameters, for one layer and for deep circuits.
    """

    qubits: tuple[int, ...]
    draws: dict[Depth, int]


SIZES = {
    "smoke": Size((2, 3), {"one layer": 2_000, "deep": 200}),
    "small": Size((2, 3, 4, 5, 6, 7, 8, 9, 10), {"one layer": 200_000, "deep": 2_000}),
    "full": Size((2, 3, 4, 5, 6, 7, 8, 9, 10), {"one layer": 1_000_000, "deep": 10_000}),
}


class Variances(NamedTuple):
    """Variances of an entry of the gradient over random parameters, f[sizes, costs].

    Attributes:
      variance: the mean square; the mean is 0.
      error: standard error of it.
    """

    variance: np.ndarray
    error: np.ndarray


def run(size: Size, run: runner.Run) -> Part:
    """Measures the variances and draws them."""
    found: dict[Depth, Variances] = {}
    with runner.Progress(total=len(DEPTHS)) as progress:
        for depth in DEPTHS:
            found[depth] = run.series(
                f"plateaus, {depth}",
                Variances,
                partial(measure, depth, size),
                progress=progress,
                steps=1,
            )
    figure = Figure(figsize=(7, 5), layout="constrained")
    draw(figure.subplots(), size, found)
    run.save_figure("2_plateaus", figure)
    return report(size, found)


def circuit(num_qubits: int, depth: Depth) -> tuple[jd.quantum.Circuit, int, tuple[int, ...]]:
    """Returns a circuit, the index of a rotation in its middle, and the shape of the parameters."""
    gates, deep = jd.quantum.gates, depth == "deep"
    layers = LAYERS_PER_QUBIT * num_qubits if deep else 1
    axes = (gates.ry, gates.rz) if deep else (gates.ry,)
    per_layer = len(axes) * num_qubits
    operations = [
        [
            [
                turn(gates.param(per_layer * layer + num_qubits * axis + wire), wire)
                for axis, turn in enumerate(axes)
                for wire in range(num_qubits)
            ],
            [gates.cz(wire, wire + 1) for wire in range(num_qubits - 1)] if deep else [],
        ]
        for layer in range(layers)
    ]
    return (
        jd.quantum.Circuit(num_qubits, operations),
        per_layer * (layers // 2),
        (layers * per_layer,),
    )


def measure(depth: Depth, size: Size) -> Variances:
    """Returns the variances for each number of qubits."""
    found = [_moments(depth, n, size.draws[depth]) for n in size.qubits]
    return Variances(*np.moveaxis(np.array(found), 1, 0))


def _moments(depth: Depth, n: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean square of the entry for each cost, and its standard error."""
    turned, index, shape = circuit(n, depth)
    bits = np.arange(2**n)[:, None] >> np.arange(n)[::-1] & 1
    signs = 1 - 2.0 * bits
    first = np.zeros(2**n)
    first[0] = 1
    # As functions of the probabilities, up to a constant.
    costs = jnp.asarray(
        np.stack([-first, -signs.mean(1) / 2, signs[:, 0] * signs[:, 1]]), jnp.float32
    )

    def entry(key: jax.Array) -> jax.Array:
        angles = jax.random.uniform(key, shape, jnp.float32, 0, 2 * np.pi)
        moves = jnp.array([np.pi / 2, -np.pi / 2], jnp.float32)
        states = jax.vmap(lambda move: turned.state(angles.at[index].add(move)))(moves)
        ahead, behind = jnp.abs(states) ** 2
        return costs @ (ahead - behind) / 2

    keys = jax.random.split(jax.random.key(n), draws)
    squares = np.asarray(jax.jit(lambda keys: jax.lax.map(entry, keys, batch_size=100))(keys)) ** 2
    return squares.mean(0), squares.std(0) / np.sqrt(draws)


def theory(depth: Depth, n: int) -> np.ndarray:
    """Returns the variances of the theory, f[costs]."""
    if depth == "one layer":
        return np.array([(3 / 8) ** (n - 1) / 8, 1 / (8 * n**2), 1 / 4])
    d = 2.0**n
    squares = np.array([1 - 1 / d, d / (4 * n), d])
    return d * squares / (2 * (d**2 - 1) * (d + 1))


def slope(qubits: tuple[int, ...], variance: np.ndarray) -> float:
    """Returns the slope of log2 of the variance against the number of qubits."""
    return float(np.polyfit(qubits, np.log2(variance), 1)[0])


def draw(panel: Axes, size: Size, found: dict[Depth, Variances]) -> None:
    """Draws variances as points and the theory as lines."""
    for color, (depth, variances) in enumerate(found.items()):
        expected = np.array([theory(depth, n) for n in size.qubits])
        for index, (cost, marker) in enumerate(zip(COSTS, "osx", strict=True)):
            name = f"C{3 * color + index}"
            panel.plot(size.qubits, expected[:, index], color=name, lw=1, alpha=0.7)
            panel.plot(
                size.qubits, variances.variance[:, index], marker, color=name, ms=5,
                label=f"{depth}, {cost}",
            )  # fmt: skip
    panel.set(yscale="log", xlabel="qubits", ylabel="variance of an entry of the gradient")
    panel.set_title("barren plateaus; lines: theory")
    panel.legend(fontsize="x-small")
    panel.grid(alpha=0.25)


def report(size: Size, found: dict[Depth, Variances]) -> Part:
    """Returns the table, the verdict and the notes."""
    rows, values, close = [], {}, 0
    few, many = size.qubits[0], size.qubits[-1]
    for depth, variances in found.items():
        expected = np.array([theory(depth, n) for n in size.qubits])
        for index, cost in enumerate(COSTS):
            measured = variances.variance[:, index]
            slopes = slope(size.qubits, measured), slope(size.qubits, expected[:, index])
            errors = np.abs(measured - expected[:, index]) / variances.error[:, index]
            close += abs(slopes[0] - slopes[1]) <= CLOSE
            rows.append(
                (
                    depth,
                    cost,
                    f"{slopes[0]:.2f}",
                    f"{slopes[1]:.2f}",
                    f"{measured[0]:.2e}",
                    f"{measured[-1]:.2e}",
                    f"{expected[-1, index]:.2e}",
                    f"{errors.max():.1f}",
                )
            )
            values[f"plateau, {depth}, {cost}"] = {
                "slope": slopes[0],
                "theory": slopes[1],
                "variance": measured.tolist(),
                "largest deviation": float(errors.max()),
            }
    columns = (
        "circuit", "cost", "slope of log2", "theory", f"variance, {few} qubits",
        f"{many} qubits", "theory there", "largest deviation (s.e.)",
    )  # fmt: skip
    title = f"Barren plateaus: variance of an entry of the gradient, {few} to {many} qubits"
    notes = [
        "Barren plateaus: "
        + ", ".join(f"{draws:,} random parameters ({depth})" for depth, draws in size.draws.items())
        + " for each number of qubits. One layer has more because few of them have most of the "
        "variance of the global cost. The entry is the derivative by the angle of a rotation "
        "around Y in the middle layer, on the first qubit. One layer has one "
        f"rotation around Y for each qubit; deep circuits have {LAYERS_PER_QUBIT} n layers of "
        "rotations around Y and Z, and CZ along a line. The global cost is 1 - the probability of "
        "0...0, the local cost 1 - the mean probability of 0 of a qubit, the word Z0 Z1. The "
        "theory is exact for one layer, and for deep circuits it holds for 2-designs; its slope "
        "is fitted over the same numbers of qubits. The last column is the largest difference of "
        "a variance from the theory, in standard errors.",
    ]
    slopes_of = {
        depth: ", ".join(
            f"{cost} {values[f'plateau, {depth}, {cost}']['slope']:.2f}" for cost in COSTS
        )
        for depth in found
    }
    sentence = (
        "Barren plateaus: log2 of the gradient's variance has, for each qubit, the slope "
        + "; ".join(f"{text} ({depth})" for depth, text in slopes_of.items())
        + f". The theory is within {CLOSE:g} in {close} of {len(rows)} rows."
    )
    return Part(runner.Table(columns, rows, title), notes, values, sentence)
