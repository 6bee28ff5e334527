"""Programs as users get them, for tests that look at what XLA makes of one."""

import jax

AS_USERS_COMPILE = {
    "xla_cpu_use_fusion_emitters": True,
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
}


def compiled(function, *args, **options):
    """The program of a function at arguments, whatever tests do to compile quickly."""
    return jax.jit(function, **options).lower(*args).compile(compiler_options=AS_USERS_COMPILE)
