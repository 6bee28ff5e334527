"""The methods in the order of their years, with their sources.

A line of `METHODS` adds one. A method either has a learning rate, which the study chooses from a
grid on each landscape and for the network, or has nothing to choose. Everything else is at its
published or usual value, equal on all landscapes.

A transformation is called with parameters of any shape. Muon orthogonalizes matrices. It sees a
vector of n coordinates as an n x 1 matrix, whose orthogonalization is the vector divided by its
norm, up to a constant factor: momentum with steps of constant length. In the network it acts on the
weights, and Adam with the same learning rate on the biases.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import optax
from optax import contrib

import jaxdescent as jd

MOMENTUM = 0.9
WEIGHT_DECAY = 0.01
TOWER_RATE, HYPER_RATE = 1e-3, 0.05
MUON_RMS = 0.2  # so that Muon's steps are about as long as Adam's at the same learning rate

Kind = Literal["grid", "fixed", "population", "global"]


class Method(NamedTuple):
    """A method.

    Attributes:
      title: name in tables and figures.
      year: of the source.
      source: authors, title or place, with an identifier if there is one.
      addition: the idea that it added.
      kind: "grid" with a learning rate from a grid; "fixed" with nothing to choose; "population"
        and "global" for searches that are not a transformation.
      make: called with a learning rate, f32[], which only methods of kind "grid" use; returns the
        transformation. None for searches.
      evaluated: called with the optimizer's state and the parameters; returns the parameters at
        which the method is evaluated, such as an average. None for the parameters themselves.
      takes_value: True if `update` reads the value.
      lowest_rate: logarithm to base 10 of the least learning rate for the network.
    """

    title: str
    year: int
    source: str
    addition: str
    kind: Kind
    make: Callable[[Any], Any] | None = None
    evaluated: Callable[[Any, Any], Any] | None = None
    takes_value: bool = False
    lowest_rate: int = -4

    @property
    def label(self) -> str:
        """The title with the year."""
        return f"{self.title} ({self.year})"


def _muon(learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    """Muon that sees a vector of parameters as a matrix of one column."""
    inner = optax.with_extra_args_support(contrib.muon(learning_rate, consistent_rms=MUON_RMS))

    def is_vector(tree: Any) -> bool:
        return isinstance(tree, jax.Array) and tree.ndim == 1

    def init(params: Any) -> Any:
        return inner.init(params[:, None] if is_vector(params) else params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        if not is_vector(updates):
            return inner.update(updates, state, params, **extra)
        columns: Any = inner.update(updates[:, None], state, params[:, None], **extra)
        return columns[0][:, 0], columns[1]

    return optax.GradientTransformationExtraArgs(init, update)


def _tower(_: Any) -> optax.GradientTransformationExtraArgs:
    return jd.hypergradient(optax.adam, optax.adam(HYPER_RATE), tune={"learning_rate": TOWER_RATE})


def _self_tuning(_: Any) -> optax.GradientTransformationExtraArgs:
    return jd.self_tuning(optax.adam)


METHODS: Mapping[str, Method] = {
    "gradient_descent": Method(
        "gradient descent",
        1847,
        "A. Cauchy, C. R. Acad. Sci. Paris 25, 536-538",
        "a step against the gradient",
        "grid",
        optax.sgd,
        lowest_rate=-3,
    ),
    "momentum": Method(
        "momentum",
        1964,
        "B. Polyak, USSR Comput. Math. Math. Phys. 4(5), 1-17, doi:10.1016/0041-5553(64)90137-5",
        "each step continues nine tenths of the last",
        "grid",
        partial(optax.sgd, momentum=MOMENTUM),
        lowest_rate=-3,
    ),
    "nesterov": Method(
        "Nesterov",
        1983,
        "Y. Nesterov, Soviet Math. Dokl. 27(2), 372-376; with constant momentum, as in "
        "I. Sutskever et al. 2013",
        "the gradient is taken where momentum leads",
        "grid",
        partial(optax.sgd, momentum=MOMENTUM, nesterov=True),
        lowest_rate=-3,
    ),
    "adagrad": Method(
        "AdaGrad",
        2011,
        "J. Duchi, E. Hazan, Y. Singer, JMLR 12, 2121-2159",
        "a step size for each coordinate, from the sum of its squared gradients",
        "grid",
        optax.adagrad,
        lowest_rate=-3,
    ),
    "rmsprop": Method(
        "RMSProp",
        2012,
        "T. Tieleman, G. Hinton, Neural Networks for Machine Learning, lecture 6.5",
        "a moving average in place of the sum, so that steps need not shrink",
        "grid",
        optax.rmsprop,
    ),
    "adam": Method(
        "Adam",
        2014,
        "D. Kingma, J. Ba, arXiv:1412.6980",
        "momentum and RMSProp together, both corrected for their start at 0",
        "grid",
        optax.adam,
    ),
    "adamw": Method(
        "AdamW",
        2017,
        "I. Loshchilov, F. Hutter, arXiv:1711.05101",
        "weight decay acts on the parameters, not through the gradient",
        "grid",
        partial(optax.adamw, weight_decay=WEIGHT_DECAY),
    ),
    "tower": Method(
        "tower",
        2019,
        "K. Chandra et al., arXiv:1909.13371; A. Baydin et al. 2017, arXiv:1703.04782",
        "another optimizer trains the learning rate",
        "fixed",
        _tower,
    ),
    "lion": Method(
        "Lion",
        2023,
        "X. Chen et al., arXiv:2302.06675",
        "the sign of momentum alone, a rule found by a program search",
        "grid",
        optax.lion,
        lowest_rate=-5,
    ),
    "schedule_free": Method(
        "Schedule-Free",
        2024,
        "A. Defazio et al., arXiv:2405.15682",
        "an average of the path replaces a decreasing learning rate",
        "grid",
        contrib.schedule_free_adamw,
        evaluated=contrib.schedule_free_eval_params,
    ),
    "muon": Method(
        "Muon",
        2024,
        "K. Jordan et al., kellerjordan.github.io/posts/muon; scale of J. Liu et al. 2025, "
        "arXiv:2502.16982",
        "momentum of a matrix is orthogonalized, so that its singular values become about equal",
        "grid",
        _muon,
    ),
    "magd": Method(
        "MAGD",
        2025,
        "M. Sakka, M. Bahrami, Applied Sciences 15(4), 2008; the pruning rule is jaxdescent's",
        "many agents descend, and those with high values are pruned",
        "population",
    ),
    "self_tuning": Method(
        "self-tuning",
        2026,
        "jaxdescent: jd.self_tuning",
        "a range test and the average of the path set the learning rate",
        "fixed",
        _self_tuning,
        evaluated=jd.averaged_params,
        takes_value=True,
    ),
    "hybrid": Method(
        "hybrid",
        2026,
        "jaxdescent: jd.hybrid",
        "CMA-ES chooses where L-BFGS descends, and restarts",
        "global",
    ),
}
"""The methods by name, in the order of their years."""
