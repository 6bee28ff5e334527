"""Quantum Hamiltonian descent on 22 functions."""
