"""What test files of the experiments can ask for."""

import jax
import pytest


@pytest.fixture(scope="module")
def quick_to_compile():
    """Programs that are compiled in little time and slow: for tiny ones compiling is all."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
