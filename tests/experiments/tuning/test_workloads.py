"""Workloads load their data, or are skipped with a message."""

import jax
import numpy as np
import pytest

from experiments import runner
from experiments.data import DataError
from experiments.tuning import protocol, workloads


def test_a_workload_without_its_data_is_skipped_with_a_note(tmp_path):
    settings = workloads.Settings(
        scale="smoke", tasks=("mnist", "diabetes"), data_dir=tmp_path, runs=tmp_path
    )
    run = runner.Run.start("trials", settings)
    try:
        (workload,), (note,) = workloads.prepare_workloads(settings, run)
    finally:
        run.close()
    assert workload.workload is workloads.WORKLOADS["diabetes"]
    assert note.startswith("MNIST MLP is skipped: ")
    assert "\n" not in note
    with pytest.raises(DataError):
        workloads.WORKLOADS["mnist"].prepare(settings)


def test_every_workload_divides_into_chunks():
    assert {*workloads.WORKLOADS} == {*workloads.Settings().tasks}
    for workload in workloads.WORKLOADS.values():
        assert workload.steps % protocol.CHUNKS == 0
    assert protocol.SMOKE_STEPS % protocol.CHUNKS == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"seeds": 0}, r"--seeds must be in \[1, inf\), got 0"),
        ({"tasks": ()}, "--tasks must name at least one"),
        ({"optimizers": []}, "--optimizers must name at least one"),
    ],
)
def test_invalid_settings_are_rejected(flags, message):
    with pytest.raises(ValueError, match=message):
        workloads.Settings(**flags)


def test_a_prepared_workload_has_its_networks_parameters_and_held_out_examples(tmp_path):
    settings = workloads.Settings(scale="smoke", seeds=2, runs=tmp_path)
    workload = workloads.WORKLOADS["diabetes"].prepare(settings)
    assert sum(leaf.size for leaf in jax.tree.leaves(workload.params)) == 10 * 64 + 64 + 64 + 1
    assert [len(chosen) for _, chosen in workload.held_out] == [89, 89]
    np.testing.assert_array_equal(workload.held_out[0][1], np.arange(89))


def test_programs_of_a_workload_are_discarded_before_the_next():
    @jax.jit
    def double(x):
        return 2 * x

    sizes = []
    for number in workloads.in_turn([1, 2]):
        sizes.append(double._cache_size())
        assert double(number) == 2 * number
    assert sizes == [0, 0]
    assert double._cache_size() == 0
