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
