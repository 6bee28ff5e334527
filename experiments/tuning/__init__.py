"""Comparisons of optimizers on small workloads, for the studies `league` and `sensitivity`.

workloads.py    the registry: tasks, optimizers, and grids of learning rates
protocol.py     what a workload is
supervised.py   a data set with a Flax model
generated.py    pure functions: streams, simulations, full batches
problems/       the functions of generated workloads
trials.py       trains one optimizer on one workload, and evaluates it
"""
