"""Comparisons of optimizers on small workloads, for the studies `league` and `sensitivity`.

workloads.py    small tasks, each with a model and a number of steps; grids of learning rates
trials.py       trains one optimizer on one workload, and evaluates it on held-out examples
"""
