"""Networks of methods are assessed by their first seed, and failures are named."""

from types import SimpleNamespace

import numpy as np

from experiments.methods import Contest, Outcome, Trained
from experiments.studies.medical import diagnoses
from experiments.studies.medical.networks import assessed, shown
from experiments.studies.medical.recipes import UNWEIGHTED
from experiments.studies.medical.settings import Settings


def trained(title, validation, test):
    zeros = np.zeros((1, len(test)))
    kept = {"validation": validation, "test": test}
    return Trained(title, {"": Outcome(zeros[:, 0], zeros[0], zeros, zeros, zeros[0], {}, kept)})


def test_the_first_seed_is_assessed_and_a_diverged_network_is_named():
    diagnosis = diagnoses.load(Settings(data="breast_cancer"))
    parts = diagnosis.task.validation, diagnosis.task.test
    malignant = [diagnosis.labels(part).astype(np.float32) for part in parts]
    right = [np.stack([p, 1 - p], 1) for p in (0.2 + 0.6 * each for each in malignant)]
    wrong = [each[:, ::-1] for each in right]
    seeds = [np.stack(pair) for pair in zip(right, wrong, strict=True)]
    nothing = [np.full_like(each, np.nan) for each in seeds]
    methods = {
        "adam": trained("Adam", *(each[::-1] for each in seeds)),
        "prodigy": trained("Prodigy", *nothing),
        "self_tuning": trained("self-tuning", *seeds),
    }
    contests = [
        Contest(SimpleNamespace(title=title), found)
        for title, found in (
            ("a", methods),
            ("a" + UNWEIGHTED, {"self_tuning": methods["self_tuning"]}),
        )
    ]
    networks, failures = assessed(diagnosis, contests)
    assert [(each.name, each.assessment.auc.value) for each in networks] == [
        ("Adam", 0.0),
        ("self-tuning", 1.0),
        ("self-tuning, unweighted loss", 1.0),
    ]
    assert [each.weighted for each in networks] == [True, True, False]
    (failure,) = failures
    assert failure.startswith("Prodigy has no assessment: probabilities must be in [0, 1]")
    assert shown(networks).name == "self-tuning"
    assert shown(networks[:1]).name == "Adam"
