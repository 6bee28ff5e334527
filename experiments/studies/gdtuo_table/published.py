"""Table 1 of the paper: test errors on MNIST in percent, each of three runs.

Source: K. Chandra, A. Xie, J. Ragan-Kelley, E. Meijer, "Gradient Descent: The Ultimate
Optimizer", NeurIPS 2022, arXiv:1909.13371. Each tower has a second row, marked (x): the bottom
rule alone, with the hyperparameters that the tower had learned at the end.
"""

from collections.abc import Mapping
from typing import NamedTuple

from experiments.studies.gdtuo_table.rules import RULES, Level


class Published(NamedTuple):
    """A published test error.

    Attributes:
      error: in percent.
      spread: the number after its ± in the paper.
    """

    error: float
    spread: float


class PublishedRow(NamedTuple):
    """A row of the paper: a plain rule, or a tower of two.

    Attributes:
      name: in tables.
      base: the plain rule of the rerun.
      levels: from the bottom up; one for a plain rule.
      published: the paper's error.
      learned: the hyperparameters that the paper's tower learned.
      rerun: the error of the plain rule with them.
    """

    name: str
    base: str
    levels: tuple[Level, ...]
    published: Published
    learned: Mapping[str, float] | None = None
    rerun: Published | None = None


_PLAIN = {"AdamBaydin": "Adam", "RMSPropAlpha": "RMSProp"}
_LABELS = {"AdamBaydin": "Adam^a", "RMSPropAlpha": "RMSProp^a", "RMSProp": "RMSProp^a,g"}


def _plain(rule: str, error: float, spread: float) -> PublishedRow:
    return PublishedRow(rule, rule, (Level(rule),), Published(error, spread))


def _tower(
    bottom: str,
    top: str,
    rate: str | None,
    published: tuple[float, float],
    rerun: tuple[float, float],
    **learned: float,
) -> PublishedRow:
    """Returns a tower of two. By default `rate`, the top rule's learning rate, is the package's."""
    base = _PLAIN.get(bottom, bottom)
    given = {} if rate is None else {"alpha": float(rate)}
    return PublishedRow(
        f"{_LABELS.get(bottom, bottom)}/{top}{'' if rate is None else f'({rate})'}",
        base,
        (Level(bottom), Level(top, given)),
        Published(*published),
        {**RULES[base].starts, **learned},
        Published(*rerun),
    )


ROWS = (
    _plain("SGD", 8.99, 0.05),
    _tower("SGD", "SGD", None, (4.81, 0.10), (5.44, 0.10), alpha=0.0769),
    _tower("SGD", "Adam", "0.1", (4.86, 0.06), (2.80, 0.09), alpha=0.4538),
    _tower("SGD", "AdaGrad", None, (4.85, 0.21), (5.17, 0.03), alpha=0.0836),
    _tower("SGD", "RMSProp", "0.1", (4.52, 0.02), (2.52, 0.07), alpha=0.5920),
    _plain("Adam", 4.67, 0.06),
    _tower("Adam", "SGD", "1e-5", (3.03, 0.02), (3.11, 0.06), alpha=0.0040, beta1=0.899),
    _tower("AdamBaydin", "SGD", "1e-5", (3.12, 0.04), (3.47, 0.02), alpha=0.0021),
    _tower("Adam", "Adam", None, (3.05, 0.09), (3.24, 0.13), alpha=0.0038, beta1=0.870),
    _tower("AdamBaydin", "Adam", None, (3.04, 0.08), (3.08, 0.12), alpha=0.0036),
    _plain("AdaGrad", 7.40, 0.08),
    _tower("AdaGrad", "SGD", None, (6.90, 0.16), (7.75, 0.02), alpha=0.0080),
    _tower("AdaGrad", "AdaGrad", None, (5.03, 0.23), (6.67, 0.08), alpha=0.0151),
    _plain("RMSProp", 4.19, 0.47),
    _tower("RMSPropAlpha", "SGD", "1e-4", (3.55, 0.23), (3.93, 0.70), alpha=0.0030),
    _tower("RMSProp", "SGD", "1e-4", (3.33, 0.07), (3.25, 0.09), alpha=0.0032, gamma=0.9899),
    _tower("RMSPropAlpha", "RMSProp", "1e-4", (3.42, 0.45), (3.60, 0.04), alpha=0.0021),
    _tower("RMSProp", "RMSProp", "1e-4", (2.96, 0.11), (3.65, 0.36), alpha=0.0020, gamma=0.9962),
)
