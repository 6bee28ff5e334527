"""Compilation as by users: for tests of compiled programs, and of results to the bit."""

import contextlib

import jax

from tests import fusion_emitters

DEFAULT_OPTIONS = {
    **({"xla_cpu_use_fusion_emitters": True} if fusion_emitters.CAN_BE_DISABLED else {}),
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
}


def compiled(function, *args, **options):
    """Compiles a function for its arguments without the tests' settings for fast compilation."""
    return jax.jit(function, **options).lower(*args).compile(compiler_options=DEFAULT_OPTIONS)


@contextlib.contextmanager
def optimized():
    """Lets XLA apply all optimizations to what is compiled in this context."""
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", True)
