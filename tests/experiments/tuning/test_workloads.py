"""Workloads are five, need no files for two of them, and say what is missing."""

import jax
import numpy as np
import pytest

from experiments import runner
from experiments.data import DataError
from experiments.tuning import workloads


def test_a_task_without_its_data_is_left_out_with_a_line(tmp_path):
    settings = workloads.Settings(
        scale="smoke", tasks=("mnist", "diabetes"), data_dir=tmp_path, runs=tmp_path
    )
    run = runner.Run.start("trials", settings)
    try:
        (arena,), (line,) = workloads.arenas(settings, run)
    finally:
        run.close()
    assert arena.workload is workloads.WORKLOADS["diabetes"]
    assert line.startswith("MNIST MLP is left out: ")
    assert "\n" not in line
    with pytest.raises(DataError):
        workloads.Arena(workloads.WORKLOADS["mnist"], settings)


def test_every_task_can_be_cut_into_tenths():
    assert {*workloads.WORKLOADS} == {*workloads.Settings().tasks}
    for workload in workloads.WORKLOADS.values():
        assert workload.steps % workloads.CHUNKS == 0
    assert workloads.STEPS["smoke"] % workloads.CHUNKS == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"seeds": 0}, r"--seeds must be in \[1, inf\), got 0"),
        ({"tasks": ()}, "--tasks must name at least one"),
        ({"optimizers": []}, "--optimizers must name at least one"),
    ],
)
def test_bad_settings_are_a_line(flags, said):
    with pytest.raises(ValueError, match=said):
        workloads.Settings(**flags)


def test_a_network_has_the_shapes_that_its_task_asks_for(tmp_path):
    settings = workloads.Settings(scale="smoke", seeds=2, runs=tmp_path)
    arena = workloads.Arena(workloads.WORKLOADS["diabetes"], settings)
    assert sum(leaf.size for leaf in jax.tree.leaves(arena.params)) == 10 * 64 + 64 + 64 + 1
    assert [len(chosen) for _, chosen in arena.held_out] == [89, 89]
    np.testing.assert_array_equal(arena.held_out[0][1], np.arange(89))
