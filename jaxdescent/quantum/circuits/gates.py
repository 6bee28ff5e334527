"""Gates, as products of exponentials of Pauli words.

    gate(angle) = product over (word, c) of exp(-i c angle / 2 word)       up to a global phase

All words of a gate commute. The angle is a number, an entry of the parameters, or a function:

    gates.rx(0.5, 0)                                   a number
    gates.rx(param(3), 0)                              params[3]
    gates.rx(2.0 * param("layers", 0, 1), 0)           twice params["layers"][0, 1]
    gates.rx(lambda params, x: params["w"] @ x, 0)     a function of the arguments of the circuit

Sources: M. A. Nielsen, I. L. Chuang, "Quantum Computation and Quantum Information", chapter 4. The
excitations conserve the number of particles: J. M. Arrazola et al. 2022, arXiv:2106.13839.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxdescent import validation

__all__ = [
    "Gate",
    "Param",
    "cnot",
    "controlled_phase",
    "crx",
    "cry",
    "crz",
    "cy",
    "cz",
    "double_excitation",
    "h",
    "ising_xx",
    "ising_yy",
    "ising_zz",
    "param",
    "pauli_rotation",
    "phase_shift",
    "rx",
    "ry",
    "rz",
    "s",
    "single_excitation",
    "swap",
    "t",
    "x",
    "y",
    "z",
]


class Param(NamedTuple):
    """An entry of the parameters, times a coefficient, plus an offset. Make it by `param`.

    Attributes:
      path: keys and indices that lead to the entry.
      coefficient: factor of the entry.
      offset: what is added.
    """

    path: tuple[Any, ...]
    coefficient: float = 1.0
    offset: float = 0.0

    __array_ufunc__ = None  # NumPy's numbers leave arithmetic to the methods below

    def __mul__(self, factor: Any) -> "Param":
        factor = _constant(factor)
        return Param(self.path, self.coefficient * factor, self.offset * factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> "Param":
        return self * (1 / _constant(divisor))

    def __add__(self, offset: Any) -> "Param":
        return self._replace(offset=self.offset + _constant(offset))

    __radd__ = __add__

    def __sub__(self, offset: Any) -> "Param":
        return self + -_constant(offset)

    def __rsub__(self, offset: Any) -> "Param":
        return -self + offset

    def __neg__(self) -> "Param":
        return self * -1.0


def _constant(value: Any) -> float:
    """Returns a number by which a parameter is multiplied or moved, or raises."""
    if isinstance(value, Param) or not validation.is_concrete(value) or np.ndim(value):
        raise TypeError(
            "gates.param(...) takes constant numbers in sums and products, got "
            f"{validation.shown(value)}; for others use a function: gates.rx(lambda params: ..., 0)"
        )
    return float(validation.finite_array("the factor or offset of gates.param", value))


def param(*path: Any) -> Param:
    """Returns a reference to an entry of the parameters, as the angle of a gate.

    Args:
      *path: keys of the tree, then the indices of the entry: `param(3)` is `params[3]`, and
        `param("layers", 0, 1)` is `params["layers"][0, 1]`. For a scalar, `param()`.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> gates = jd.quantum.gates
      >>> circuit = jd.quantum.Circuit(1, [gates.rx(2.0 * gates.param(0), 0)])
      >>> expectation = circuit.expectation(jd.quantum.pauli_sum({"Z": 1.0}))
      >>> round(float(expectation(jnp.array([0.25]))), 4)  # cos(0.5)
      0.8776
    """
    return Param(path)


Angle = float | Param | Callable[..., Any]


class Gate(NamedTuple):
    """A product of commuting exponentials of Pauli words.

    Attributes:
      name: for error messages.
      wires: the qubits.
      terms: pairs of a string with one letter per wire and a coefficient c; the gate is the
        product of exp(-i c angle / 2 word).
      angle: a number, a `Param`, or a function of the circuit's arguments.
    """

    name: str
    wires: tuple[int, ...]
    terms: tuple[tuple[str, float], ...]
    angle: Angle

    @property
    def frequencies(self) -> tuple[float, ...]:
        """Positive differences of the generator's eigenvalues.

        An expectation value is a trigonometric polynomial of the angle with these frequencies.
        """
        if len(self.terms) == 1:
            return (abs(self.terms[0][1]),)
        generator = sum(c / 2 * _matrix(letters) for letters, c in self.terms)
        eigenvalues = np.linalg.eigvalsh(generator)
        differences = np.round(np.abs(eigenvalues[:, None] - eigenvalues), 9)
        return tuple(float(each) for each in np.unique(differences) if each)


_MATRICES = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


def _matrix(letters: str) -> np.ndarray:
    product = np.eye(1)
    for letter in letters:
        product = np.kron(product, _MATRICES[letter])
    return product


def _gate(name: str, wires: tuple[Any, ...], angle: Any, *terms: tuple[str, float]) -> Gate:
    """Checks the wires and the angle of a gate."""
    checked = tuple(validation.integer_in("wires", wire, 0) for wire in wires)
    if len(set(checked)) < len(checked):
        raise ValueError(f"wires of {name} must be different qubits, got {wires}")
    if not isinstance(angle, Param) and not callable(angle):
        array = validation.finite_array("angle", angle)
        if array.ndim:
            raise ValueError(
                f"angle of {name} must be one number, param(...) or a function, got "
                f"{validation.shown(angle)}"
            )
        angle = float(array)
    return Gate(name, checked, terms, angle)


def x(wire: int) -> Gate:
    """Returns the Pauli matrix X."""
    return _gate("x", (wire,), np.pi, ("X", 1.0))


def y(wire: int) -> Gate:
    """Returns the Pauli matrix Y."""
    return _gate("y", (wire,), np.pi, ("Y", 1.0))


def z(wire: int) -> Gate:
    """Returns the Pauli matrix Z."""
    return _gate("z", (wire,), np.pi, ("Z", 1.0))


def s(wire: int) -> Gate:
    """Returns diag(1, i), a quarter turn around Z."""
    return _gate("s", (wire,), np.pi / 2, ("Z", 1.0))


def t(wire: int) -> Gate:
    """Returns diag(1, exp(i pi/4)), an eighth of a turn around Z."""
    return _gate("t", (wire,), np.pi / 4, ("Z", 1.0))


def h(wire: int) -> tuple[Gate, Gate]:
    """Returns the Hadamard gate: a quarter turn around Y, then X."""
    return _gate("h", (wire,), np.pi / 2, ("Y", 1.0)), x(wire)


def cnot(control: int, target: int) -> Gate:
    """Returns X on `target` where `control` is 1."""
    return _controlled("cnot", "X", np.pi / 2, control, target, 1.0)


def cy(control: int, target: int) -> Gate:
    """Returns Y on `target` where `control` is 1."""
    return _controlled("cy", "Y", np.pi / 2, control, target, 1.0)


def cz(control: int, target: int) -> Gate:
    """Returns Z on `target` where `control` is 1."""
    return _controlled("cz", "Z", np.pi / 2, control, target, 1.0)


def swap(first: int, second: int) -> Gate:
    """Returns the exchange of two qubits."""
    wires = (first, second)
    return _gate("swap", wires, -np.pi / 2, ("XX", 1.0), ("YY", 1.0), ("ZZ", 1.0))


def rx(angle: Angle, wire: int) -> Gate:
    """Returns exp(-i angle/2 X)."""
    return _gate("rx", (wire,), angle, ("X", 1.0))


def ry(angle: Angle, wire: int) -> Gate:
    """Returns exp(-i angle/2 Y)."""
    return _gate("ry", (wire,), angle, ("Y", 1.0))


def rz(angle: Angle, wire: int) -> Gate:
    """Returns exp(-i angle/2 Z)."""
    return _gate("rz", (wire,), angle, ("Z", 1.0))


def phase_shift(angle: Angle, wire: int) -> Gate:
    """Returns diag(1, exp(i angle)), which is `rz` up to a global phase."""
    return _gate("phase_shift", (wire,), angle, ("Z", 1.0))


def controlled_phase(angle: Angle, control: int, target: int) -> Gate:
    """Returns diag(1, 1, 1, exp(i angle))."""
    return _controlled("controlled_phase", "Z", angle, control, target, 0.5)


def crx(angle: Angle, control: int, target: int) -> Gate:
    """Returns `rx` on `target` where `control` is 1."""
    return _controlled_rotation("crx", "X", angle, control, target)


def cry(angle: Angle, control: int, target: int) -> Gate:
    """Returns `ry` on `target` where `control` is 1."""
    return _controlled_rotation("cry", "Y", angle, control, target)


def crz(angle: Angle, control: int, target: int) -> Gate:
    """Returns `rz` on `target` where `control` is 1."""
    return _controlled_rotation("crz", "Z", angle, control, target)


def pauli_rotation(letters: str, angle: Angle, wires: tuple[int, ...]) -> Gate:
    """Returns exp(-i angle/2 word).

    Args:
      letters: the word, a letter I, X, Y or Z for each wire, not all of them I.
      angle: the angle.
      wires: the qubits.

    Raises:
      ValueError: the word is not valid or does not fit the wires.
    """
    if not isinstance(wires, (tuple, list, range)):
        raise TypeError(f"wires must be a tuple of qubits, got {validation.shown(wires)}")
    valid = isinstance(letters, str) and set(letters) <= set("IXYZ") and set(letters) - {"I"}
    if not valid or len(letters) != len(wires):
        raise ValueError(
            f"letters must have a letter I, X, Y or Z for each of {len(wires)} wires, at least "
            f"one of them not I, got {letters!r}"
        )
    return _gate(f"pauli_rotation {letters}", tuple(wires), angle, (letters, 1.0))


def ising_xx(angle: Angle, first: int, second: int) -> Gate:
    """Returns exp(-i angle/2 XX)."""
    return _gate("ising_xx", (first, second), angle, ("XX", 1.0))


def ising_yy(angle: Angle, first: int, second: int) -> Gate:
    """Returns exp(-i angle/2 YY)."""
    return _gate("ising_yy", (first, second), angle, ("YY", 1.0))


def ising_zz(angle: Angle, first: int, second: int) -> Gate:
    """Returns exp(-i angle/2 ZZ)."""
    return _gate("ising_zz", (first, second), angle, ("ZZ", 1.0))


def single_excitation(angle: Angle, first: int, second: int) -> Gate:
    """Returns a rotation by angle/2 in the plane of |01> and |10>, which moves a particle."""
    return _gate("single_excitation", (first, second), angle, *_excitation("+-"))


def double_excitation(angle: Angle, first: int, second: int, third: int, fourth: int) -> Gate:
    """Returns a rotation by angle/2 in the plane of |0011> and |1100>: it moves two particles."""
    wires = (first, second, third, fourth)
    return _gate("double_excitation", wires, angle, *_excitation("++--"))


def _controlled(
    name: str, letter: str, angle: Any, control: int, target: int, scale: float
) -> Gate:
    """Returns exp(i scale angle/2 (1 - Z)(1 - letter)) up to a phase."""
    terms = (("ZI", scale), (f"I{letter}", scale), (f"Z{letter}", -scale))
    return _gate(name, (control, target), angle, *terms)


def _controlled_rotation(name: str, letter: str, angle: Any, control: int, target: int) -> Gate:
    """Returns exp(-i angle/4 (1 - Z) letter)."""
    return _gate(name, (control, target), angle, (f"I{letter}", 0.5), (f"Z{letter}", -0.5))


def _excitation(signs: str) -> list[tuple[str, float]]:
    """Returns the words of i |1..><0..| + h.c., with |1><0| for a plus and |0><1| for a minus.

    |1><0| = (X - iY)/2 and |0><1| = (X + iY)/2; words with an even number of Y cancel.
    """
    terms: list[tuple[str, float]] = []
    for letters in itertools.product("XY", repeat=len(signs)):
        factors = [
            1 if letter == "X" else (-1j if sign == "+" else 1j)
            for letter, sign in zip(letters, signs, strict=True)
        ]
        coefficient = 2 * (1j * np.prod(factors)).real / 2 ** len(signs)
        if coefficient:
            terms.append(("".join(letters), float(coefficient)))
    return terms


def __dir__() -> list[str]:
    return __all__
