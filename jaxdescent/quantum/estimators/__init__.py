"""Gradients and values of circuits as a quantum computer obtains them."""
