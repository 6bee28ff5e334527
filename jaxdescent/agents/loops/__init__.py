"""Loops that train a population in rungs, stretches of steps between two actions of a rule.

`minimize` and `fit` run a whole loop as one compiled program. `minimize_loop` and `fit_loop`
return its functions `init` and `step`, where a step is one rung.
"""
