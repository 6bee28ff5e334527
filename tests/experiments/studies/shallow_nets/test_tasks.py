"""Tasks have disjoint, standardized parts."""

import numpy as np

from experiments.studies.shallow_nets.tasks import TASK_NAMES, load_task


def test_tasks_have_standardized_parts_without_common_examples():
    assert len(TASK_NAMES) == 20
    for name in ("wine", "moons", "Linnerud", "Friedman 2"):
        task = load_task(name)
        rows = np.concatenate([part["x"] for part in (task.train, task.validation, task.test)])
        assert len(np.unique(rows.round(5), axis=0)) >= len(rows) - 1  # a row may occur twice
        np.testing.assert_allclose(task.train["x"].mean(0), 0, atol=1e-5)
        if task.classes:
            assert {*task.train["y"].tolist()} == {*range(task.classes)}
        else:
            np.testing.assert_allclose(task.train["y"].std(0), 1, rtol=1e-5)
