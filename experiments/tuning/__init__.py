"""Comparisons of optimizers: workloads, the optimizers to compare, and trials of one on the other.

The studies `league` and `sensitivity` are made of it.
"""
