"""The loss around a trained network: random, curved and principal planes, lines and barriers.

Of a run of `train`: the filter-normalized random plane, the plane of the Hessian's two greatest
eigenvalues and the principal plane of the path, each around the last parameters; the line from
the start to the end and, where there are two networks, from one to the other; the sharpness in
a small box. Where the path is drawn on a plane, its true losses stand beside those that the
plane shows. All losses are of the same training examples, in float32 and without dropout.
"""

from experiments.studies.landscape.study import Settings, check, run

__all__ = ["Settings", "check", "run"]
