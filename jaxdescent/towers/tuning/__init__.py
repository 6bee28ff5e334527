"""The parts of `self_tuning`, as pure functions of small states.

plans.py        the state, and the plan and the outcome of a step
statistics.py   means, spreads and t-values
buffers.py      the arrays of the parameters' size in a step
measurement.py  the sums over all parameters that a step needs
range_test.py   the search for the initial learning rate
trend.py        the trend of the signal, which moves the learning rate
horizon.py      the horizon of the average
losses.py       the running mean of the loss, which detects divergence
"""
