"""How much a learning rate's start matters: jd.self_tuning from 1e-8 to 1e2.

Starts in decades, on five tasks and with three optimizers, against the best fixed rate of a
half-decade grid; one more cell of a row starts at that best rate, where self-tuning should do
no harm. Beside it the figure of the published method: plain towers of SGD of height 0 to 5,
in raw spaces (K. Chandra et al. 2022, arXiv:1909.13371, figure 3a), on a network with the
published activations, tanh on the logits too: with ReLU taller towers overflow from any start.
"""

from experiments.studies.sensitivity.study import Settings, run

__all__ = ["Settings", "run"]
