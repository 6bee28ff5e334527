"""The networks that the methods have trained, with their assessments."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments import methods
from experiments.studies.medical.assessment import Assessment, assess
from experiments.studies.medical.diagnoses import Diagnosis
from experiments.studies.medical.recipes import UNWEIGHTED

SHOWN = "self_tuning"


class Network(NamedTuple):
    """The first network of a method.

    Attributes:
      name: the title of the method, and the loss if it has no class weights.
      recipe: the title of the recipe.
      method: the key of the method.
      weighted: True if its loss had class weights.
      assessment: of the network.
    """

    name: str
    recipe: str
    method: str
    weighted: bool
    assessment: Assessment


def assessed(
    diagnosis: Diagnosis, contests: Sequence[methods.Contest]
) -> tuple[list[Network], list[str]]:
    """Returns the networks, and a note on each method whose network cannot be assessed."""
    parts = diagnosis.task.validation, diagnosis.task.test
    labels = diagnosis.labels(parts[0]), diagnosis.labels(parts[1])
    networks, failures = [], []
    for contest in contests:
        weighted = not contest.recipe.title.endswith(UNWEIGHTED)
        for method, trained in contest.trained.items():
            kept, name = trained.selected.kept, trained.title + UNWEIGHTED * (not weighted)
            try:
                found = assess(labels, (kept["validation"][0], kept["test"][0]), diagnosis.positive)
            except ValueError as error:  # it diverged, or gives every example the same probability
                failures.append(f"{name} has no assessment: {error}.")
            else:
                networks.append(Network(name, contest.recipe.title, method, weighted, found))
    return networks, failures


def shown(networks: Sequence[Network]) -> Network:
    """Returns the network of the verdict and of the figures: self-tuning, otherwise the first."""
    return next((each for each in networks if each.method == SHOWN), networks[0])
