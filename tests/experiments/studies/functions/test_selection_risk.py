"""Pruning the best agent is harmful only if no kept agent is as good."""

import numpy as np

from experiments.studies.functions.selection_risk import NUM_RUNGS, risk_of_cuts


def test_pruning_the_best_agent_is_harmless_if_a_kept_one_is_as_good():
    values = np.tile(np.arange(256.0), (NUM_RUNGS, 1))
    values[-1, 255] = -1.0
    risk = risk_of_cuts(values)
    assert risk.pruned.all()
    assert risk.harmful.all()
    values[-1, 0] = -1.0 + 1e-6
    risk = risk_of_cuts(values)
    assert risk.pruned.all()
    assert not risk.harmful.any()
    values[-1, 255] = 255.0
    assert not risk_of_cuts(values).pruned.any()
