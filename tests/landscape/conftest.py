"""What the tests of this folder share."""

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision, for this test alone."""
    with jax.enable_x64(True):
        yield
