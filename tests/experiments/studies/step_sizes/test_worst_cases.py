"""Worst cases that are known in closed form."""

import sys

import numpy as np
import pytest

from experiments.studies.step_sizes import worst_cases
from tests.stability.test_silver import needs_pep


@pytest.mark.parametrize("n", [1, 5, 50])
def test_from_below_constant_steps_leave_what_is_known(n):
    """The bound of Y. Drori and M. Teboulle, which a Huber function attains."""
    assert worst_cases.gap_from_below(np.ones(n)) == pytest.approx(1 / (4 * n + 2), rel=1e-12)


@pytest.mark.parametrize("h", [1.6, 1.9])
def test_from_below_a_step_that_is_too_long_leaves_a_quadratic(h):
    assert worst_cases.gap_from_below([h]) == pytest.approx((1 - h) ** 2 / 2, rel=1e-12)


def test_from_below_curvatures_between_are_tried():
    """The greatest of a (1 - 4 a)^2 (1 - a)^2 is where 20 a^2 - 15 a + 1 = 0."""
    a = (15 + np.sqrt(145)) / 40
    most = a * (1 - 4 * a) ** 2 * (1 - a) ** 2 / 2
    assert worst_cases.gap_from_below([4.0, 1.0]) == pytest.approx(most, rel=1e-5)


@needs_pep
def test_exactly_constant_steps_leave_what_is_known():
    assert worst_cases.gap(np.ones(3)) == pytest.approx(1 / 14, abs=1e-7)
    mu = 0.25
    best = 2 / (1 + mu)
    distance = worst_cases.squared_distance([best, best], mu)
    assert distance == pytest.approx(((1 - mu) / (1 + mu)) ** 4, abs=1e-7)


def test_without_pepit_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "PEPit", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxdescent\[pep\]'"):
        worst_cases.gap([1.0])
