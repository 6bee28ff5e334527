"""Gradients by other means than differentiation at one point: one protocol for all of them.

    estimator = jd.estimators.smoothed(sigma=0.1, num_samples=64)
    value, grads = estimator.value_and_grad(function)(params, key=key)

    smoothed               mean gradient over a Gaussian, from values or from gradients
    spsa                   simultaneous perturbation, from two values
    evolution_strategies   from the ranks of values
    guided_es              from values, mostly along directions that are given
    low_rank_es            from values, for large networks: samples in the memory of one
    exact                  the gradient itself, for comparison
    value_only             no gradient: for rules that need values alone
    Estimator, Estimate    the protocol, and all that an estimator returns

`jd.minimize`, `jd.fit` and their loops take an estimator as `estimator=`.
"""

from jaxdescent.estimators.estimator import Estimate, Estimator, exact, value_only
from jaxdescent.estimators.evolution_strategies import evolution_strategies
from jaxdescent.estimators.guided_es import guided_es
from jaxdescent.estimators.low_rank_es import low_rank_es
from jaxdescent.estimators.smoothed import smoothed
from jaxdescent.estimators.spsa import spsa

__all__ = [
    "Estimate",
    "Estimator",
    "evolution_strategies",
    "exact",
    "guided_es",
    "low_rank_es",
    "smoothed",
    "spsa",
    "value_only",
]


def __dir__() -> list[str]:
    return __all__
