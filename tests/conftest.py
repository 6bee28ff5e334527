"""Settings that must precede the first use of JAX."""

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

from jaxdescent import sharding


@pytest.fixture(scope="session", autouse=True)
def _programs_of_one_device():
    """Compiles programs as on a machine with one device, although there are four here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "several_devices", lambda: False)
        yield


@pytest.fixture
def several_devices(monkeypatch):
    """Compiles programs as on a machine with several devices, which is what there is."""
    monkeypatch.setattr(sharding, "several_devices", lambda: jax.device_count() > 1)
