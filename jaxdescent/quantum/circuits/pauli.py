"""Words of Pauli matrices, and sums of them.

    word = i^phase X^x Z^z         x, z: bit masks, in which qubit 0 is the highest bit

In this form a product of words is two exclusive ors, and a conjugation by a quarter turn is a
product. Y = i X Z.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdescent import validation

MAX_QUBITS = 28
"""Qubits that fit the masks of 32 bits of the simulator; memory ends earlier."""


class Word(NamedTuple):
    """The matrix i^phase X^x Z^z.

    Attributes:
      x: bit mask of the qubits that are flipped.
      z: bit mask of the qubits whose 1 changes the sign.
      phase: power of i, modulo 4.
    """

    x: int
    z: int
    phase: int

    def times(self, other: "Word") -> "Word":
        """Returns the product of the two matrices."""
        swaps = 2 * (self.z & other.x).bit_count()
        phase = (self.phase + other.phase + swaps) % 4
        return Word(self.x ^ other.x, self.z ^ other.z, phase)

    def commutes(self, other: "Word") -> bool:
        """True if the two matrices commute."""
        return not ((self.x & other.z).bit_count() + (self.z & other.x).bit_count()) % 2

    def turned(self, axis: "Word", quarters: int) -> "Word":
        """Returns exp(i a/2 axis) word exp(-i a/2 axis) for a = quarters * pi / 2."""
        quarters %= 4
        if quarters == 0 or self.commutes(axis):
            return self
        if quarters == 2:
            return self._replace(phase=(self.phase + 2) % 4)
        product = self.times(axis)
        return product._replace(phase=(product.phase - quarters) % 4)


def word(letters: str, wires: tuple[int, ...], num_qubits: int) -> Word:
    """Returns the word with these letters, I, X, Y or Z, on these qubits."""
    x = z = 0
    for letter, wire in zip(letters, wires, strict=True):
        bit = 1 << (num_qubits - 1 - wire)
        x |= bit * (letter in "XY")
        z |= bit * (letter in "YZ")
    return Word(x, z, (x & z).bit_count() % 4)


class PauliSum(NamedTuple):
    """An observable: a real combination of words. Make it by `pauli_sum`.

    Attributes:
      num_qubits: number of qubits.
      words: a string per term, of one letter per qubit: I, X, Y or Z.
      coefficients: a number per term.
    """

    num_qubits: int
    words: tuple[str, ...]
    coefficients: tuple[float, ...]

    @property
    def norm(self) -> float:
        """The sum of the absolute coefficients, which bounds the largest eigenvalue."""
        return float(np.sum(np.abs(self.coefficients)))


def pauli_sum(terms: Mapping[str, Any], num_qubits: int | None = None) -> PauliSum:
    """Returns an observable from words and their coefficients.

    Args:
      terms: the coefficient of each word. A word is a string with a letter per qubit, such as
        "XIZ", or pairs of letter and qubit, such as "X0 Z2", which needs `num_qubits`. Without a
        letter, "", it is the identity.
      num_qubits: number of qubits; by default the length of the words.

    Raises:
      TypeError: `terms` is not a mapping with strings as keys.
      ValueError: a word is not valid, or a coefficient is not a real number, so that the
        observable would not be Hermitian.

    Example:
      >>> import jaxdescent as jd
      >>> jd.quantum.pauli_sum({"X0 Z2": 0.5, "": 1.0}, num_qubits=3).words
      ('XIZ', 'III')
    """
    terms = validation.mapping("terms", terms, "a coefficient per word, such as {'ZZ': 1.0}")
    if num_qubits is None:
        if any(re.search(r"\d", key) for key in terms):
            raise ValueError(
                f"num_qubits must be given for words such as 'X0 Z2', got {validation.shown(terms)}"
            )
        num_qubits = max(map(len, terms))
    num_qubits = validation.integer_in("num_qubits", num_qubits, 1, MAX_QUBITS)
    totals: dict[str, float] = {}
    for key, value in terms.items():
        letters = _letters(key, num_qubits)
        number = _coefficient(key, value)
        if number.imag or not np.isfinite(number.real):
            raise ValueError(
                f"terms must have real, finite coefficients, got {value} for {key!r}; with others "
                "the observable is not Hermitian, and measurements of it are not real numbers"
            )
        totals[letters] = totals.get(letters, 0.0) + number.real
    return PauliSum(num_qubits, tuple(totals), tuple(totals.values()))


def _coefficient(key: str, value: Any) -> complex:
    """Returns a coefficient, or raises TypeError."""
    if validation.is_concrete(value):
        array = np.asarray(value)
        if array.ndim == 0 and array.dtype.kind in "iufc":
            return complex(array.item())
    raise TypeError(
        f"terms must have numbers as coefficients, got {validation.shown(value)} for {key!r}; "
        "coefficients are constants of a circuit's program and cannot be traced"
    )


def _letters(key: str, num_qubits: int) -> str:
    """Returns a word with one letter per qubit."""
    if re.fullmatch(r"[IXYZ]*", key) and len(key) in (0, num_qubits):
        return key or "I" * num_qubits
    letters = ["I"] * num_qubits
    for pair in key.split():
        found = re.fullmatch(r"([IXYZ])(\d+)", pair)
        if not found or int(found[2]) >= num_qubits or letters[int(found[2])] != "I":
            raise ValueError(
                f"terms must have words of {num_qubits} letters I, X, Y, Z, or pairs such as "
                f"'X0 Z2' with different qubits below {num_qubits}, got {key!r}"
            )
        letters[int(found[2])] = found[1]
    return "".join(letters)


def as_words(observable: PauliSum) -> list[Word]:
    """Returns the words of an observable."""
    wires = tuple(range(observable.num_qubits))
    return [word(letters, wires, observable.num_qubits) for letters in observable.words]


def sparse_matrix(observable: PauliSum) -> Any:
    """Returns the observable as a sparse matrix of SciPy, c128[2^n, 2^n]; qubit 0 is slowest."""
    from scipy import sparse

    size = 1 << observable.num_qubits
    rows = np.arange(size)
    total = sparse.csr_matrix((size, size), dtype=complex)
    for each, coefficient in zip(as_words(observable), observable.coefficients, strict=True):
        columns = rows ^ each.x
        signs = 1 - 2 * (np.bitwise_count(columns & each.z).astype(int) % 2)
        values = coefficient * 1j**each.phase * signs
        total = total + sparse.csr_matrix((values, (rows, columns)), shape=(size, size))
    return total
