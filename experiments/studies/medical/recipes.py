"""Recipes that train the networks of a diagnosis by every method, with class weights and without.

Trainings of `Settings.steps` steps. At scale full, PneumoniaMNIST has the published length: 100
epochs of batches of 128 (J. Yang et al., Scientific Data 10, 2023).
"""

from experiments import methods
from experiments.studies.medical.diagnoses import Diagnosis
from experiments.studies.medical.predictions import predictions
from experiments.studies.medical.settings import BATCH_SIZES, Settings
from experiments.studies.medical.weighting import balanced

ONCE = ("prodigy", "schedule_free", "self_tuning", "self_tuning_sgd")
"""Methods that train once; they also train with the unweighted loss."""
UNWEIGHTED = ", unweighted loss"


def recipes(settings: Settings, diagnosis: Diagnosis) -> list[methods.Recipe]:
    """Returns the recipe with class weights, and the recipe without them if a method trains it."""
    name, title = settings.data_name, diagnosis.name
    is_table = name == "breast_cancer"
    shared = {
        "steps": settings.steps,
        "batch_size": BATCH_SIZES[name],
        "seed": settings.seed,
        "seeds": 3 if is_table else 1,
        "agents": 16 if is_table else 8,
        "keep": predictions(diagnosis.task),
    }
    found = [methods.Recipe(title=title, task=balanced(diagnosis.task), **shared)]
    if set(ONCE) & set(settings.methods):
        found.append(
            methods.Recipe(title=title + UNWEIGHTED, task=diagnosis.task, methods=ONCE, **shared)
        )
    return found
