"""True if XLA has the flag `xla_cpu_use_fusion_emitters`, without importing JAX.

Without fusion emitters, XLA compiles a program in half of the time. jaxlib 0.11.1 compiles fast
without the flag, which it removed. XLA aborts the process at a flag that it does not know.
"""

from importlib import metadata

from packaging.version import Version

CAN_BE_DISABLED = Version(metadata.version("jaxlib")).release < (0, 11, 1)
