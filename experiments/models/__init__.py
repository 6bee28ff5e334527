"""Flax NNX models.

Their conventions: `dtype` is what a model computes in, beside parameters and results in
float32 (`precision`); a call takes the `key` of its dropout (`dropout`); `model.train()`,
the start, and `model.eval()` switch dropout and batch normalization; bad arguments are
refused at construction; two models of one arrangement have equal `nnx.split(model)[0]`, so
they share a compiled program; `counting.parameter_count` checks each against its source.
"""
