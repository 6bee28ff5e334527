"""Flax NNX models.

Conventions: `dtype` is the dtype of the computation; parameters and results are float32
(`precision`). A call takes the random `key` of its dropout (`dropout`). `model.train()`, the
default, and `model.eval()` switch dropout and batch normalization. Bad arguments raise at
construction. Two models with the same arguments have equal `nnx.split(model)[0]` and share a
compiled program. Tests compare each parameter count with the published one
(`counting.parameter_count`).
"""
