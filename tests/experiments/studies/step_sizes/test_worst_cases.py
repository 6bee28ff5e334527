"""Worst cases agree with closed forms."""

import sys

import numpy as np
import pytest

from experiments.studies.step_sizes import worst_cases

needs_pep = pytest.mark.skipif(not worst_cases.has_pepit(), reason="needs the extra pep")


@pytest.mark.parametrize("n", [1, 5, 50])
def test_lower_bound_of_constant_steps_is_attained_by_a_huber_function(n):
    """Y. Drori and M. Teboulle prove that the bound is exact."""
    assert worst_cases.gap_lower_bound(np.ones(n)) == pytest.approx(1 / (4 * n + 2), rel=1e-12)


@pytest.mark.parametrize("h", [1.6, 1.9])
def test_lower_bound_of_a_long_step_is_attained_by_a_quadratic(h):
    assert worst_cases.gap_lower_bound([h]) == pytest.approx((1 - h) ** 2 / 2, rel=1e-12)


def test_lower_bound_searches_intermediate_curvatures():
    """The maximum of a (1 - 4 a)^2 (1 - a)^2 is at 20 a^2 - 15 a + 1 = 0."""
    a = (15 + np.sqrt(145)) / 40
    largest = a * (1 - 4 * a) ** 2 * (1 - a) ** 2 / 2
    assert worst_cases.gap_lower_bound([4.0, 1.0]) == pytest.approx(largest, rel=1e-5)


@needs_pep
def test_exact_worst_cases_of_constant_steps_have_closed_forms():
    assert worst_cases.gap(np.ones(3)) == pytest.approx(1 / 14, abs=1e-7)
    mu = 0.25
    best = 2 / (1 + mu)
    distance = worst_cases.squared_distance([best, best], mu)
    assert distance == pytest.approx(((1 - mu) / (1 + mu)) ** 4, abs=1e-7)


def test_missing_pepit_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "PEPit", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxdescent\[pep\]'"):
        worst_cases.gap([1.0])
