"""Variants of `jd.hybrid`, each of which lacks one of its parts."""

import jax

import jaxdescent as jd
from experiments.studies.hybrid.evaluations import Search
from jaxdescent.global_search.hybrid import Limits, search
from jaxdescent.global_search.parts import Parts

TITLES = {
    "first_descent": "without first descent",
    "minima": "without search over minima",
    "points": "without search over points",
    "sweeps": "without coordinate searches",
    "adaptation": "without adaptation",
    "restarts": "without restarts",
    "population_sizes": "with one population size",
    "last_descents": "without last descents",
}
"""Titles of the variants, by the part that is switched off."""

VARIANTS = tuple(f"without_{part}" for part in TITLES)
"""Names of the variants."""

PATIENCE, LANES = 20, 16  # the defaults of jd.hybrid

NOTE = (
    "The ablation switches off one part of jd.hybrid at a time. Without the first descent, the "
    "search begins with its first generation. Without the search over minima, all evaluations go "
    "to the search over points, which ranks samples by their values alone, and the reverse. "
    "Without coordinate searches, their tenth of the evaluations goes to the other two. Without "
    "adaptation, all generations of a run are drawn from its first Gaussian, so that the search "
    "over minima is L-BFGS from random starts. Without restarts, each search ends with its first "
    "run. With one population size, all runs have the population and the width of the first. "
    "Without last descents, a run ends without a descent from its best point, and so does the "
    "whole. Variants have the same instances and random keys."
)


def search_without(
    part: str, problem: jd.Problem, key: jax.Array, budget: int, target: float
) -> Search:
    """Calls `jd.hybrid` with its defaults, except that one part is switched off."""
    parts = Parts()._replace(**{part: False})
    limits = Limits.of(budget, target, PATIENCE)
    result = search(problem, key, limits, lanes=LANES, parts=parts)
    return Search.of_hybrid(result, target)
