"""Problems of generated workloads: functions that return a `generated.Problem`.

streams.py       targets that drift or jump
control.py       reinforcement learning on simulations
memory.py        sequences, for recurrent networks
equations.py     networks that solve differential equations
logistic.py      logistic regression on all examples
fine_tuning.py   networks that are trained before, and low-rank changes of them
networks.py      small networks on pytrees
digits.py        digits on the device

A score may have a small constant added, which its docstring states. It makes the ratio of two
scores near 1 where both are small enough for the task to count as solved.
"""
