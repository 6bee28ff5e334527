"""Hooks for the tests and the doctests of the packages."""

import gc
from pathlib import Path

import jax
import pytest

MEMORY_MAPS = Path("/proc/self/maps")
MAX_MEMORY_MAPS = 30_000
"""Linux allows 65,530 memory maps per process. Each compiled program takes a few."""


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Clears compiled programs after a test file if the process has many memory maps."""
    if nextitem is not None and nextitem.path == item.path:
        return
    if MEMORY_MAPS.exists() and MEMORY_MAPS.read_bytes().count(b"\n") > MAX_MEMORY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def _examples_compile_quickly(request):
    """Disables most optimizations of XLA for examples in docstrings, whose time is compilation."""
    if isinstance(request.node, pytest.DoctestItem):
        before = jax.config.read("jax_disable_most_optimizations")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", before)
    else:
        yield
