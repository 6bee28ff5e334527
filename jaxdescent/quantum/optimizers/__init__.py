"""Optimizers of the parameters of circuits."""
