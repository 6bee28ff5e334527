"""One model on one data set: the plain training run, with everything that the runner has.

Any data set of `experiments.data` (or a text file), any model that fits it, an optimizer or
a tower over it; several seeds side by side. After each chunk of steps the validation part is
judged; the test part is judged once, with the parameters of the best validation loss.
"""

from experiments.studies.train.study import Settings, check, run

__all__ = ["Settings", "check", "run"]
