"""A trajectory has snapshots at evenly spaced steps and never stops the run."""

import errno
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import runner
from experiments.runner.trajectory import Trajectory, read_trajectory


def make_tree(number):
    return {"w": np.full((2, 3), number, np.float32), "key": jax.random.key(number)}


EXAMPLE = make_tree(0)


def save_all(folder, chunks=10, start=0, **options):
    trajectory = Trajectory(folder, chunks=chunks, example=np.zeros(3), **options)
    for chunk in range(start, chunks + 1):
        trajectory.save(chunk, 5 * chunk, np.full(3, chunk, float))


@pytest.mark.parametrize(
    ("chunks", "max_snapshots", "steps"),
    [
        (10, 32, [*range(0, 51, 5)]),
        (10, 6, [0, 10, 20, 30, 40, 50]),
        (10, 4, [0, 20, 40, 50]),
        (10, 3, [0, 25, 50]),
        (1, 32, [0, 5]),
    ],
)
def test_snapshots_are_evenly_spaced_and_include_both_ends(tmp_path, chunks, max_snapshots, steps):
    save_all(tmp_path, chunks, max_snapshots=max_snapshots)
    snapshots = read_trajectory(tmp_path, np.zeros(3))
    assert snapshots.steps.tolist() == steps
    for step, tree in zip(snapshots.steps, snapshots.trees, strict=True):
        np.testing.assert_array_equal(tree, np.full(3, step / 5))


@pytest.mark.parametrize("chunks", [1, 31, 32, 33, 40, 79, 1000])
def test_the_number_of_snapshots_is_limited(tmp_path, chunks):
    save_all(tmp_path, chunks)
    assert len(read_trajectory(tmp_path, np.zeros(3)).steps) <= 32


@pytest.mark.parametrize(
    ("chunks", "more", "steps"),
    [
        (40, 80, [*range(0, 401, 20)]),  # every second, then every fourth chunk
        (45, 90, [*range(0, 441, 20), 450]),  # the end of the shorter series is removed
        (31, 32, [*range(0, 160, 10), 160]),
        (10, 20, [*range(0, 101, 5)]),
    ],
)
def test_a_series_that_goes_on_has_evenly_spaced_snapshots(tmp_path, chunks, more, steps):
    save_all(tmp_path / "two parts", chunks, steps_per_chunk=5)
    save_all(tmp_path / "two parts", more, start=chunks + 1, steps_per_chunk=5)
    snapshots = read_trajectory(tmp_path / "two parts", np.zeros(3))
    assert snapshots.steps.tolist() == steps
    assert len(steps) <= 32


def test_large_networks_have_fewer_snapshots_and_the_largest_have_none(tmp_path):
    save_all(tmp_path / "some", max_bytes=5 * 24)
    assert len([*(tmp_path / "some").iterdir()]) <= 5
    save_all(tmp_path / "none", max_bytes=2 * 24)
    assert not (tmp_path / "none").exists()


def test_trees_are_read_with_random_keys_up_to_the_last_step_asked_for(tmp_path):
    example = jax.eval_shape(lambda: {"w": jnp.zeros((2, 3))})
    trajectory = Trajectory(tmp_path, chunks=2, example=example)
    for chunk in range(3):
        trajectory.save(chunk, chunk, make_tree(chunk))
    snapshots = read_trajectory(tmp_path, EXAMPLE, until=1)
    assert snapshots.steps.tolist() == [0, 1]
    np.testing.assert_array_equal(snapshots.trees[1]["w"], make_tree(1)["w"])
    np.testing.assert_array_equal(
        jax.random.key_data(snapshots.trees[1]["key"]), jax.random.key_data(jax.random.key(1))
    )


def test_bfloat16_is_read_as_it_was_saved(tmp_path):
    tree = {"x": jnp.array([1.5, -0.0], jnp.bfloat16)}
    Trajectory(tmp_path, chunks=1, example=tree).save(0, 0, tree)
    (found,) = read_trajectory(tmp_path, tree).trees
    assert found["x"].dtype == jnp.bfloat16
    assert found["x"].tobytes() == np.asarray(tree["x"]).tobytes()


def test_equal_snapshots_have_equal_bytes(tmp_path):
    for name in ("one", "other"):
        save_all(tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_a_full_disk_ends_the_trajectory_and_not_the_run(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    trajectory = Trajectory(tmp_path, chunks=4, example=np.zeros(3))
    trajectory.save(0, 0, np.zeros(3))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        trajectory.save(1, 10, np.ones(3))
    trajectory.save(2, 20, np.ones(3))
    assert read_trajectory(tmp_path, np.zeros(3)).steps.tolist() == [0]
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "the trajectory ends before step 10: " in printed
    assert "No space left" in printed
    assert not [*tmp_path.glob("*.partial")]


@pytest.mark.parametrize("damage", ["truncate", "empty"])
def test_a_damaged_snapshot_is_named(tmp_path, damage):
    save_all(tmp_path)
    path = tmp_path / "25.npz"
    path.write_bytes(path.read_bytes()[:40] if damage == "truncate" else b"")
    with pytest.raises(runner.TrajectoryError, match=r"snapshot .*25\.npz is damaged: "):
        read_trajectory(tmp_path, np.zeros(3))


def test_a_snapshot_of_an_earlier_version_is_named(tmp_path):
    np.savez(tmp_path / "5.npz", table="{}", content=np.zeros(1, np.uint8))
    with pytest.raises(
        runner.TrajectoryError, match=r"snapshot .*5\.npz was saved by an earlier version"
    ):
        read_trajectory(tmp_path, np.zeros(3))


def test_the_trajectory_of_another_network_does_not_match(tmp_path):
    save_all(tmp_path)
    with pytest.raises(runner.TrajectoryError, match="belongs to another run or other settings"):
        read_trajectory(tmp_path, np.zeros(4))


def test_a_missing_folder_has_no_snapshots(tmp_path):
    snapshots = read_trajectory(tmp_path / "nothing", EXAMPLE)
    assert not len(snapshots.steps)
    assert snapshots.trees == []
