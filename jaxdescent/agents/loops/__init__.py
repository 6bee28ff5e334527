"""Loops that train a population in rungs, which are stretches of steps between a rule's actions.

`minimize` and `fit` run a whole loop as one compiled program. `minimize_loop` and `fit_loop` return
a loop's functions `init` and `step`, for loops of your own. One `step` of such a loop is one rung.
"""
