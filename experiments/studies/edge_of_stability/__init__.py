"""Six optimizers at their edge of stability: sharpness against what each can bear.

A network is trained on full batches, on the digits and, where its file is found, on CIFAR-10;
every 20 steps the greatest eigenvalue of the (preconditioned) Hessian is put beside the
optimizer's threshold. It grows until it is there and then stays (J. Cohen et al. 2021,
arXiv:2103.00065, and 2022, arXiv:2207.14484; for SAM P. Long and P. Bartlett 2023,
arXiv:2309.12488). Beside them: rates far too low, which must not be flagged, quadratics that
diverge, which must be, and `jd.scale_by_sharpness`.
"""

from experiments.studies.edge_of_stability.study import Settings, run

__all__ = ["Settings", "run"]
