"""Quantum circuits as functions of their parameters, simulated in JAX."""
