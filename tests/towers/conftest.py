"""Tests of towers run tiny programs, so that compiling is most of the time."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _quick_to_compile(quick_to_compile):
    pass
