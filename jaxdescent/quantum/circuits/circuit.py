"""Circuits: gates on qubits, whose angles depend on parameters.

    circuit = Circuit(2, [gates.ry(gates.param(0), 0), gates.cnot(0, 1)])
    expectation = circuit.expectation(pauli_sum({"ZZ": 1.0}))
    value, grads = jax.value_and_grad(expectation)(params)

A circuit is analyzed once. Gates are products of exponentials of Pauli words; exponentials by
quarter turns, such as H, S and CNOT have, are Clifford gates C. They are moved behind the
others, exp(-i a/2 P) C = C exp(-i a/2 C^-1 P C), which changes words into other words, and then
into the observable, C^-1 H C. What is left to simulate are the gates with parameters, and fixed
angles that are not quarter turns.
"""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import numerics, validation
from jaxdescent.quantum.circuits import pauli, statevector
from jaxdescent.quantum.circuits.gates import Gate, Param
from jaxdescent.quantum.circuits.pauli import PauliSum, Word


class Angles(NamedTuple):
    """Angles of exponentials: factor * gate_angles[gate] + fixed.

    Attributes:
      gate: i32[k], index of the gate among those with parameters.
      factor: f[k], 0 for a fixed angle.
      fixed: f[k], the fixed angle.
    """

    gate: np.ndarray
    factor: np.ndarray
    fixed: np.ndarray


class Circuit:
    """Gates on qubits, applied to |0...0>.

    Attributes:
      num_qubits: number of qubits.
      gates: the gates, in order.
      trainable: the gates whose angles depend on the parameters.
    """

    def __init__(self, num_qubits: int, operations: Iterable[Any]) -> None:
        """Analyzes a circuit.

        Args:
          num_qubits: number of qubits, at most 28. A state takes 2^n complex numbers.
          operations: gates, or nested sequences of gates, in the order in which they are applied.

        Raises:
          TypeError: an operation is not a gate.
          ValueError: a gate does not fit the qubits, or no angle depends on the parameters.

        Example:
          >>> import jax, jax.numpy as jnp, jaxdescent as jd
          >>> gates = jd.quantum.gates
          >>> operations = [gates.h(0), gates.cnot(0, 1), gates.rz(gates.param(0), 1)]
          >>> circuit = jd.quantum.Circuit(2, operations)
          >>> expectation = circuit.expectation(jd.quantum.pauli_sum({"XX": 1.0}))
          >>> value, grads = jax.value_and_grad(expectation)(jnp.array([0.5]))
          >>> round(float(value), 4), round(float(grads[0]), 4)  # cos(0.5), -sin(0.5)
          (0.8776, -0.4794)
        """
        self.num_qubits = validation.integer_in("num_qubits", num_qubits, 1, pauli.MAX_QUBITS)
        self.gates = tuple(_flattened(operations))
        for gate in self.gates:
            if max(gate.wires) >= self.num_qubits:
                raise ValueError(
                    f"wires must be below num_qubits = {self.num_qubits}, got {gate.wires} of "
                    f"{gate.name}"
                )
        self.trainable = tuple(gate for gate in self.gates if not isinstance(gate.angle, float))
        if not self.trainable:
            raise ValueError(
                "operations must have at least one angle that depends on the parameters, got "
                f"{len(self.gates)} gates without; use gates.param(0) as an angle"
            )
        self._analyze()

    def _analyze(self) -> None:
        frame = _Frame(self.num_qubits)
        self.words: list[Word] = []
        rows: list[tuple[int, float, float]] = []
        trainable = 0
        for gate in self.gates:
            axes = [pauli.word(each, gate.wires, self.num_qubits) for each, _ in gate.terms]
            for axis, (_, factor) in zip(axes, gate.terms, strict=True):
                if not isinstance(gate.angle, float):
                    self.words.append(frame.image(axis))
                    rows.append((trainable, factor, 0.0))
                elif (quarters := _quarter_turns(factor * gate.angle)) is not None:
                    frame.turn(axis, quarters)
                else:
                    self.words.append(frame.image(axis))
                    rows.append((0, 0.0, factor * gate.angle))
            trainable += not isinstance(gate.angle, float)
        self.frame = frame
        gate_of, factors, fixed = zip(*rows, strict=True)
        self.rotation_angles = Angles(np.array(gate_of), np.array(factors), np.array(fixed))
        self.moves = statevector.rotations(self.words, self.num_qubits)

    def angles(self, params: Any, *args: Any) -> jax.Array:
        """Returns the angles of the trainable gates.

        Args:
          params: the parameters, a tree of arrays.
          *args: further arguments of the functions that give angles, such as the data.

        Returns:
          f[gates], in the order of `trainable`.

        Raises:
          ValueError: a `param` does not lead to one number of `params`.
        """
        validation.check_floating("params", params)
        dtype = numerics.widest_float(params)
        leaves = jax.tree.leaves(params)
        flat = [jnp.ravel(leaf).astype(dtype) for leaf in map(jnp.asarray, leaves)]
        indices, count = _flat_indices(params)
        sources, factors, offsets = [], [], []
        for gate in self.trainable:
            if isinstance(gate.angle, Param):
                sources.append(_index(gate.angle, gate.name, indices))
                factors.append(gate.angle.coefficient)
                offsets.append(gate.angle.offset)
                continue
            function: Any = gate.angle
            with validation.tracing(f"the angle of {gate.name}"):
                angle = jnp.asarray(function(params, *args))
            validation.check_scalar(f"the angle of {gate.name}", angle)
            sources.append(count + len(flat) - len(leaves))
            flat.append(angle.astype(dtype)[None])
            factors.append(1.0)
            offsets.append(0.0)
        return _affine(jnp.concatenate(flat), sources, factors, offsets)

    def frequencies(self, params: Any) -> dict[str, tuple[float, ...]]:
        """Returns the frequencies of expectation values by each entry of the parameters.

        Args:
          params: the parameters, or their shapes.

        Raises:
          ValueError: the angle of a gate is a function, whose frequencies are not known.
        """
        names = [
            f"params{jax.tree_util.keystr(path)}{list(entry) if entry else ''}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
            for entry in np.ndindex(np.shape(leaf))
        ]
        sums: dict[str, set[float]] = {name: {0.0} for name in names}
        indices, _ = _flat_indices(params)
        for gate in self.trainable:
            if not isinstance(gate.angle, Param):
                raise ValueError(
                    f"angles must be gates.param(...) for their frequencies, got a function for "
                    f"{gate.name} on {gate.wires}"
                )
            name = names[_index(gate.angle, gate.name, indices)]
            scaled = [abs(gate.angle.coefficient) * each for each in gate.frequencies]
            steps = [0.0, *scaled, *(-each for each in scaled)]
            sums[name] = {round(a + b, 9) for a in sums[name] for b in steps}
        return {
            name: tuple(sorted(each for each in found if each > 0)) for name, found in sums.items()
        }

    def overlap(self, params: Any, other: Any, *args: Any) -> jax.Array:
        """Returns the fidelity of two states, |<psi(params)|psi(other)>|^2, f[]."""
        states = [self.rotated(self.angles(each, *args)) for each in (params, other)]
        product = jnp.vdot(*map(statevector.to_complex, states), precision="highest")
        return jnp.real(product) ** 2 + jnp.imag(product) ** 2

    def rotation_angles_of(self, angles: jax.Array) -> jax.Array:
        """Returns the angles of all exponentials, f[k], from the angles of trainable gates."""
        rows = self.rotation_angles
        return _affine(angles, rows.gate, rows.factor, rows.fixed)

    def state(self, params: Any, *args: Any) -> jax.Array:
        """Returns the state, c[2^n], up to a global phase; qubit 0 is the slowest index.

        It can be differentiated in both modes. Reverse mode stores the state after every gate; the
        gradients of `expectation` do not.

        Args:
          params: the parameters, a tree of arrays.
          *args: further arguments of the functions that give angles.
        """
        v = self.rotated(self.angles(params, *args))
        tail = self.frame.turns
        if tail:
            moves = statevector.rotations([axis for axis, _ in tail], self.num_qubits)
            fixed = np.array([quarters for _, quarters in tail]) * (np.pi / 2)
            v = statevector.rotate(v[:, None], moves, jnp.asarray(fixed, v.dtype)[:, None])[:, 0]
        return statevector.to_complex(v)

    def rotated(self, angles: jax.Array) -> jax.Array:
        """Returns the state before the Clifford gates as a real vector, f[2 * 2^n].

        Args:
          angles: f[gates], angles of the trainable gates.
        """
        v = statevector.zero_state(self.num_qubits, 1, angles.dtype)
        return statevector.rotate(v, self.moves, self.rotation_angles_of(angles)[:, None])[:, 0]

    def expectation(self, observable: PauliSum) -> "Expectation":
        """Returns the expectation value of an observable as a function of the parameters.

        Args:
          observable: a `pauli_sum` on the circuit's qubits.

        Raises:
          TypeError: `observable` is not a `pauli_sum`.
          ValueError: the numbers of qubits differ.
        """
        return Expectation(self, observable)


class Expectation:
    """The expectation value of an observable, called as `expectation(params, *args)`.

    It returns f[]. Under `jax.vmap`, agents are simulated together. Reverse-mode derivatives use
    the adjoint method: they take about three times as long as a value, and the memory of four state
    vectors. Forward mode and derivatives of derivatives work as well.

    Attributes:
      circuit: the circuit.
      observable: the observable.
    """

    def __init__(self, circuit: Circuit, observable: PauliSum) -> None:
        """See `Circuit.expectation`."""
        if not isinstance(observable, PauliSum):
            raise TypeError(
                f"observable must be a pauli_sum, got {validation.shown(observable)}; write it as "
                "jd.quantum.pauli_sum({'ZZ': 1.0})"
            )
        if observable.num_qubits != circuit.num_qubits:
            raise ValueError(
                f"observable must have the circuit's {circuit.num_qubits} qubits, got "
                f"{observable.num_qubits}; give num_qubits= to pauli_sum"
            )
        self.circuit, self.observable = circuit, observable
        words = [circuit.frame.image(each) for each in pauli.as_words(observable)]
        n, coefficients = circuit.num_qubits, observable.coefficients
        self.terms = statevector.observable(words, coefficients, n)
        self._of_rotations = statevector.differentiable(
            statevector.value(n, circuit.moves, self.terms),
            statevector.value_and_grad(n, circuit.moves, self.terms),
        )

    def __call__(self, params: Any, *args: Any) -> jax.Array:
        """Returns the expectation value, f[]."""
        return self.at_angles(self.circuit.angles(params, *args))

    def at_angles(self, angles: jax.Array) -> jax.Array:
        """Returns the expectation value, f[], at angles f[gates] of the trainable gates."""
        return self._of_rotations(self.circuit.rotation_angles_of(angles))

    def words_at_angles(self, angles: jax.Array) -> tuple[jax.Array, np.ndarray]:
        """Returns the expectation values of words, f[words], and their coefficients, f[words].

        The identity is left out; `identity` is its coefficient.
        """
        rows = self._word_rows
        found = statevector.expectations(self.circuit.rotated(angles)[:, None], rows.moves)
        return found.reshape(-1)[: len(rows.coefficients)], rows.coefficients

    @functools.cached_property
    def _word_rows(self) -> "_WordRows":
        words = pauli.as_words(self.observable)
        kept = [
            (self.circuit.frame.image(each), coefficient)
            for each, coefficient in zip(words, self.observable.coefficients, strict=True)
            if (each.x or each.z) and coefficient
        ]
        rows = [statevector.as_move(each, 0, self.circuit.num_qubits) for each, _ in kept]
        x, z, sign = np.array(rows, np.int64).reshape(-1, 3).T
        moves = statevector.Moves(
            x.astype(np.int32), z.astype(np.int32)[:, None], sign.astype(np.float64)[:, None]
        )
        return _WordRows(moves, np.array([coefficient for _, coefficient in kept]))

    @property
    def word_coefficients(self) -> np.ndarray:
        """The coefficients of the words that are measured, f[words]."""
        return self._word_rows.coefficients

    @property
    def identity(self) -> float:
        """The coefficient of the identity, which needs no measurement."""
        pairs = zip(self.observable.words, self.observable.coefficients, strict=True)
        return sum(coefficient for letters, coefficient in pairs if not letters.strip("I"))


class _WordRows(NamedTuple):
    moves: statevector.Moves
    coefficients: np.ndarray


class _Frame:
    """The Clifford gates C until now: images C^-1 P C of the words X and Z of each qubit.

    Attributes:
      turns: the quarter turns of C, pairs of axis and number, in the order of their application.
    """

    def __init__(self, num_qubits: int) -> None:
        bits = [1 << each for each in range(num_qubits)]
        self.of_x = {bit: Word(bit, 0, 0) for bit in bits}
        self.of_z = {bit: Word(0, bit, 0) for bit in bits}
        self.turns: list[tuple[Word, int]] = []

    def image(self, word: Word) -> Word:
        """Returns C^-1 word C."""
        product = Word(0, 0, word.phase)
        for bit, image in self.of_x.items():
            if word.x & bit:
                product = product.times(image)
        for bit, image in self.of_z.items():
            if word.z & bit:
                product = product.times(image)
        return product

    def turn(self, axis: Word, quarters: int) -> None:
        """Appends exp(-i quarters pi/4 axis) to C."""
        if not quarters % 4:
            return
        changed = [
            (images, bit, self.image(old.turned(axis, quarters)))
            for images, old_of in ((self.of_x, _x_word), (self.of_z, _z_word))
            for bit in images
            if not (old := old_of(bit)).commutes(axis)
        ]
        for images, bit, image in changed:
            images[bit] = image
        self.turns.append((axis, quarters))


def _x_word(bit: int) -> Word:
    return Word(bit, 0, 0)


def _z_word(bit: int) -> Word:
    return Word(0, bit, 0)


def _quarter_turns(angle: float) -> int | None:
    """Returns the number of quarter turns of an angle, or None if it is not a multiple."""
    quarters = round(angle / (np.pi / 2))
    return quarters if abs(angle - quarters * np.pi / 2) < 1e-14 * max(1, abs(angle)) else None


def _flattened(operations: Any) -> Iterable[Gate]:
    if isinstance(operations, Gate) or not isinstance(operations, Iterable):
        raise TypeError(
            f"operations must be a sequence of gates such as [gates.rx(0.5, 0)], got "
            f"{validation.shown(operations)}"
        )
    for each in operations:
        if isinstance(each, Gate):
            yield each
        elif isinstance(each, (list, tuple)):
            yield from _flattened(each)
        else:
            raise TypeError(
                f"operations must be gates such as gates.rx(0.5, 0), got {validation.shown(each)}"
            )


def _flat_indices(params: Any) -> tuple[Any, int]:
    """Returns a tree with the index of each entry in the flat parameters, and their number."""
    leaves, structure = jax.tree.flatten(params)
    shapes = [np.shape(leaf) for leaf in leaves]
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    pairs = zip(ends, ends[1:], shapes, strict=False)
    tree = [np.arange(start, end).reshape(shape) for start, end, shape in pairs]
    return structure.unflatten(tree), int(ends[-1])


def _index(param: Param, name: str, indices: Any) -> int:
    """Returns the index of the parameter of the gate `name` in the flat parameters."""
    found = indices
    try:
        for key in param.path:
            found = found[key]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"params must have the entry {param.path} of {name}, got "
            f"{jax.tree.map(np.shape, indices)}"
        ) from error
    if np.ndim(found) or not isinstance(found, (int, np.integer, np.ndarray)):
        raise ValueError(
            f"params must have one number at {param.path} of {name}, got "
            f"{jax.tree.map(np.shape, found)}; add indices to gates.param"
        )
    return int(found)


def _affine(x: jax.Array, source: Any, factor: Any, offset: Any) -> jax.Array:
    """Returns factor * x[source] + offset, and leaves out what changes nothing."""
    source, factor, offset = map(np.asarray, (source, factor, offset))
    if not np.array_equal(source, np.arange(len(x))):
        x = x.at[source.astype(np.int32)].get(mode="promise_in_bounds")
    if np.any(factor != 1):
        x = x * jnp.asarray(factor, x.dtype)
    return x + jnp.asarray(offset, x.dtype) if np.any(offset) else x
