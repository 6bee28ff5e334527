"""Central flows: the average path of an optimizer at the edge of stability, against the path.

A small tanh network learns scikit-learn's handwritten digits on the whole batch. Beside each
optimizer runs its central flow from the same start, and the flow that it would follow if
it did not oscillate: gradient flow for descent, the stable flow for the others. The central
flow predicts three things that can be measured: the loss, the variance of the oscillation,
and the path (J. Cohen, A. Damian et al. 2025, arXiv:2410.24206).

The oscillation is measured as the part of the iterates that alternates, (w+ - 2 w + w-) / 4,
which needs no flow; its complement (w+ + 2 w + w-) / 4 is what a flow's distance is to.
"""

from experiments.studies.central_flow.study import Settings, run

__all__ = ["Settings", "run"]
