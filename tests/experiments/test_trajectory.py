"""The path of a run is kept at a few steps, and never stands in the run's way."""

import errno
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import runner
from experiments.runner.trajectory import Trajectory, read_trajectory


def tree(number):
    return {"w": np.full((2, 3), number, np.float32), "key": jax.random.key(number)}


EXAMPLE = tree(0)


def filled(folder, chunks=10, **options):
    kept = Trajectory(folder, chunks=chunks, example=np.zeros(3), **options)
    for chunk in range(chunks + 1):
        kept.keep(chunk, 5 * chunk, np.full(3, chunk, float))
    return kept


@pytest.mark.parametrize(
    ("chunks", "most", "steps"),
    [
        (10, 32, [*range(0, 51, 5)]),
        (10, 6, [0, 10, 20, 30, 40, 50]),
        (10, 4, [0, 20, 40, 50]),
        (10, 3, [0, 25, 50]),
        (1, 32, [0, 5]),
    ],
)
def test_snapshots_are_even_and_the_ends_are_among_them(tmp_path, chunks, most, steps):
    filled(tmp_path, chunks, most=most)
    found = read_trajectory(tmp_path, np.zeros(3))
    assert found.steps.tolist() == steps
    for step, kept in zip(found.steps, found.trees, strict=True):
        np.testing.assert_array_equal(kept, np.full(3, step / 5))


@pytest.mark.parametrize("chunks", [1, 31, 32, 33, 40, 79, 1000])
def test_there_are_never_more_than_it_is_told(tmp_path, chunks):
    filled(tmp_path, chunks)
    assert len(read_trajectory(tmp_path, np.zeros(3)).steps) <= 32


def test_large_networks_have_fewer_and_the_largest_none(tmp_path):
    filled(tmp_path / "some", most_bytes=5 * 24)
    assert len([*(tmp_path / "some").iterdir()]) <= 5
    filled(tmp_path / "none", most_bytes=2 * 24)
    assert not (tmp_path / "none").exists()


def test_trees_come_back_whole_with_typed_keys_and_only_so_far_as_asked(tmp_path):
    kept = Trajectory(tmp_path, chunks=2, example=jax.eval_shape(lambda: {"w": jnp.zeros((2, 3))}))
    for chunk in range(3):
        kept.keep(chunk, chunk, tree(chunk))
    found = read_trajectory(tmp_path, EXAMPLE, until=1)
    assert found.steps.tolist() == [0, 1]
    np.testing.assert_array_equal(found.trees[1]["w"], tree(1)["w"])
    np.testing.assert_array_equal(
        jax.random.key_data(found.trees[1]["key"]), jax.random.key_data(jax.random.key(1))
    )


def test_the_same_numbers_are_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        filled(tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_a_full_disk_ends_the_path_and_not_the_run(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = Trajectory(tmp_path, chunks=4, example=np.zeros(3))
    kept.keep(0, 0, np.zeros(3))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        kept.keep(1, 10, np.ones(3))
    kept.keep(2, 20, np.ones(3))
    assert read_trajectory(tmp_path, np.zeros(3)).steps.tolist() == [0]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the path of this run ends before step 10: " in said
    assert "No space left" in said
    assert not [*tmp_path.glob("*.partial")]


@pytest.mark.parametrize("harm", ["truncate", "empty"])
def test_a_damaged_snapshot_is_named(tmp_path, harm):
    filled(tmp_path)
    path = tmp_path / "25.npz"
    path.write_bytes(path.read_bytes()[:40] if harm == "truncate" else b"")
    with pytest.raises(runner.TrajectoryError, match=r"snapshot .*25\.npz is damaged: "):
        read_trajectory(tmp_path, np.zeros(3))


def test_another_networks_path_does_not_fit(tmp_path):
    filled(tmp_path)
    with pytest.raises(runner.TrajectoryError, match="belongs to another run or other settings"):
        read_trajectory(tmp_path, np.zeros(4))


def test_where_there_is_no_path_there_are_no_snapshots(tmp_path):
    found = read_trajectory(tmp_path / "nothing", EXAMPLE)
    assert not len(found.steps)
    assert found.trees == []
