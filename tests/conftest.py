"""Settings that must precede the import of JAX, and shared fixtures."""

import os
from importlib import metadata

from packaging.version import Version

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the tests' time is compilation. Without fusion emitters, XLA compiles a program in half
# of the time. jaxlib 0.11.1 compiles fast without the flag, which it removed; XLA aborts the
# process at a flag that it does not know. Flags of the environment come later and take precedence.
os.environ["XLA_FLAGS"] = " ".join(
    (
        "--xla_cpu_use_fusion_emitters=false"
        if Version(metadata.version("jaxlib")).release < (0, 11, 1)
        else "",
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
