"""Hooks for the tests and the doctests of the packages."""

import ctypes
import functools
import gc
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest
import threadpoolctl

MEMORY = Path("/proc/self/statm")
MEMORY_MAPS = Path("/proc/self/maps")
MAX_MEMORY_MAPS = 30_000
"""Linux allows 65,530 memory maps per process. Each compiled program takes a few."""

MAX_MEMORY = 2 * 2**30
"""Bytes of memory of a process above which its compiled programs are cleared."""


def pytest_configure(config):
    """Compiles quickly, and once for all processes of a run, whose time is mostly compilation.

    Two processes on two cores: threads of OpenBLAS wait for each other, and the least squares of a
    benchmark took 300 times as long. The variable is for processes and libraries that start later.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    threadpoolctl.threadpool_limits(int(os.environ["OPENBLAS_NUM_THREADS"]), "blas")
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    jax.config.update("jax_disable_most_optimizations", True)
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="jaxdescent-compiled-")
    config.add_cleanup(functools.partial(shutil.rmtree, folder, ignore_errors=True))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def pytest_collection_finish():
    """Spares the garbage collector the modules, and most of its full passes over JAX's caches."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Clears compiled programs after a test file if the process is large."""
    if (nextitem is not None and nextitem.path == item.path) or not MEMORY_MAPS.exists():
        return
    memory = int(MEMORY.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if memory > MAX_MEMORY or MEMORY_MAPS.read_bytes().count(b"\n") > MAX_MEMORY_MAPS:
        jax.clear_caches()
        gc.collect()
        return_free_memory()


def return_free_memory():
    """Returns free memory to the system, which the GNU C library keeps otherwise.

    The memory of a process would stay above the limit, and every later file would compile the
    programs that it shares with others again.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
