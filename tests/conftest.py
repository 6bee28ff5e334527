"""Settings that must be in place before jax is imported, and what test files can ask for."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Compiling is most of what the tests do: without its fusion emitters XLA compiles the same
# program in a third of the time. What the environment says comes after it, and wins.
os.environ["XLA_FLAGS"] = " ".join(
    (
        "--xla_cpu_use_fusion_emitters=false",
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
    )
)

import jax
import pytest


@pytest.fixture(scope="module")
def quick_to_compile():
    """Programs that are compiled in little time and slow: for tiny ones compiling is all."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
