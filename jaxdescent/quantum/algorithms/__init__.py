"""Quantum algorithms that descend on classical functions, simulated."""
