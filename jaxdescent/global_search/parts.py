"""Parts of `jd.hybrid` that can be switched off, to measure what each contributes.

`python -m experiments hybrid --ablation` switches them off one at a time.
"""

from typing import NamedTuple


class Parts(NamedTuple):
    """Parts of the search; `jd.hybrid` has all of them.

    Attributes:
      first_descent: one descent from a random point before all else.
      minima: the search over local minima. Without it, both shares of the evaluations go to the
        search over points, which ranks samples by their values alone.
      points: the search over points.
      sweeps: searches along the coordinates, and a descent after each that improves the best point.
      adaptation: CMA-ES moves and shapes a run's Gaussian. Without it, each generation of a run is
        drawn from the first Gaussian: the search over local minima is then L-BFGS from random
        starts.
      restarts: a search begins another run when one has ended. Without them, `hybrid` stops when
        both searches have ended.
      population_sizes: restarts differ in population size and in initial width (BIPOP). Without
        them, each run is like the first.
      last_descents: a descent from the best point of each run when it has ended, and from the best
        point of all at last.
    """

    first_descent: bool = True
    minima: bool = True
    points: bool = True
    sweeps: bool = True
    adaptation: bool = True
    restarts: bool = True
    population_sizes: bool = True
    last_descents: bool = True
