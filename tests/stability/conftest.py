"""Fixtures of the stability tests."""

import jax
import pytest


@pytest.fixture
def x64():
    """Enables double precision for one test."""
    with jax.enable_x64(True):
        yield
