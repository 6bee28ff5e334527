"""Settings that must precede the import of JAX, and shared fixtures."""

import os

from tests import fusion_emitters

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the tests' time is compilation, which is the fastest in one piece and without fusion
# emitters. Flags of the environment come later and take precedence.
os.environ["XLA_FLAGS"] = " ".join(
    (
        "--xla_cpu_use_fusion_emitters=false" if fusion_emitters.CAN_BE_DISABLED else "",
        "--xla_cpu_parallel_codegen_split_count=1",
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
    )
)

import jax
import pytest


@pytest.fixture(scope="module")
def quick_to_compile():
    """Disables most optimizations of XLA: small programs compile faster and run slower."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
