"""The newest good checkpoint is restored, and nothing else on disk changes."""

import json
import os
import shutil
import subprocess
import sys
import threading
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import tensorstore

from experiments.runner import CheckpointError, Checkpoints


def make_carry(step):
    """Returns a carry that tells its step."""
    return {"w": np.arange(6, dtype=np.float32).reshape(2, 3) * step, "step": np.int32(step)}


EXAMPLE = make_carry(0)


def save_steps(folder, *steps, keep=2):
    checkpoints = Checkpoints(folder, keep=keep)
    for step in steps:
        save_step(checkpoints, step)
    assert checkpoints.close()


def save_step(checkpoints, step):
    best = {"b": np.float32([step])}
    checkpoints.save(step, make_carry(step), best=best, facts={"at": step})


def assert_is(checkpoint, step):
    assert checkpoint.step == step
    equal = jax.tree.map(np.array_equal, checkpoint.carry, make_carry(step))
    assert equal == {"w": True, "step": True}
    assert checkpoint.carry["w"].dtype == np.float32
    assert checkpoint.best["b"].tolist() == [step]
    assert checkpoint.facts == {"at": step}


def snapshot(folder):
    """Returns each path with its content and the time when it was last written."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else None,
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The checkpoints of steps 10 and 20; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    save_steps(folder, 10, 20)
    return folder


@pytest.fixture
def folder(tmp_path, two):
    return shutil.copytree(two, tmp_path / "checkpoints")


@pytest.fixture
def released(monkeypatch):
    """TensorStore opens no array, so that Orbax writes none, until this event is set."""
    event, open_array = threading.Event(), tensorstore.open

    def wait_and_open(*args, **options):
        event.wait(60)
        return open_array(*args, **options)

    monkeypatch.setattr(tensorstore, "open", wait_and_open)
    yield event
    event.set()


@pytest.mark.parametrize(("keep", "left"), [(1, [40]), (2, [30, 40]), (9, [10, 20, 30, 40])])
def test_the_newest_are_kept(tmp_path, keep, left):
    save_steps(tmp_path, 10, 20, 30, 40, keep=keep)
    assert Checkpoints(tmp_path).steps() == left
    assert_is(Checkpoints(tmp_path).restore(EXAMPLE), 40)


def test_steps_are_ordered_as_numbers(tmp_path):
    save_steps(tmp_path, 9, 10, keep=1)
    assert_is(Checkpoints(tmp_path).restore(EXAMPLE), 10)


def test_a_folder_without_checkpoints_restores_none(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.restore(EXAMPLE) is None
    assert checkpoints.steps() == []
    assert not checkpoints.busy
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        checkpoints.load_best(EXAMPLE)
    assert checkpoints.close()
    assert not (tmp_path / "none").exists()


def test_save_returns_before_the_checkpoint_is_written(tmp_path, released):
    checkpoints = Checkpoints(tmp_path)
    save_step(checkpoints, 1)
    assert checkpoints.busy
    assert checkpoints.steps() == []
    released.set()
    assert checkpoints.wait()
    assert not checkpoints.busy
    assert checkpoints.steps() == [1]
    assert checkpoints.close()


def test_older_checkpoints_stay_until_the_new_one_is_complete(folder, released):
    checkpoints = Checkpoints(folder, keep=1)
    save_step(checkpoints, 30)
    assert checkpoints.steps() == [10, 20]
    released.set()
    assert checkpoints.close()
    assert checkpoints.steps() == [30]


@pytest.mark.parametrize("carry", [{}, {"x": np.zeros((0, 3), np.float32)}], ids=["none", "empty"])
def test_a_carry_without_elements_is_restored(tmp_path, carry):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, carry, facts={"at": 1})
    assert checkpoints.close()
    restored = Checkpoints(tmp_path).restore(carry)
    assert jax.tree.map(np.shape, restored.carry) == jax.tree.map(np.shape, carry)
    assert (restored.best, restored.facts) == ({}, {"at": 1})


def test_arrays_without_elements_are_restored_beside_others(tmp_path):
    keys = jax.random.split(jax.random.key(0), 3)[:0]
    carry = {"empty": jnp.zeros((2, 0), jnp.bfloat16), "x": jnp.arange(3.0), "keys": keys}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, carry, best={"empty": np.zeros((0, 4), np.int8)})
    assert checkpoints.close()
    restored = Checkpoints(tmp_path).restore(carry)
    assert (restored.carry["empty"].shape, restored.carry["empty"].dtype) == ((2, 0), jnp.bfloat16)
    assert restored.carry["x"].tolist() == [0, 1, 2]
    assert (restored.carry["keys"].shape, restored.carry["keys"].dtype) == ((0,), keys.dtype)
    assert (restored.best["empty"].shape, restored.best["empty"].dtype) == ((0, 4), np.int8)
    with pytest.raises(
        CheckpointError, match=r"empty is bfloat16\[2,0\] there, expected int8\[2\]"
    ):
        Checkpoints(tmp_path).restore({**carry, "empty": np.zeros(2, np.int8)})


def test_a_carry_that_is_donated_after_the_save_is_saved_as_it_was(tmp_path, released):
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    carry = {"x": jnp.arange(1e4), "y": np.arange(1e4, dtype=np.float32)}
    checkpoints = Checkpoints(tmp_path)
    best = {"b": np.ones(3, np.float32)}
    checkpoints.save(1, carry, best=best)
    carry["y"][:] = -1
    best["b"][:] = -1
    overwritten = carry["x"]
    for _ in range(3):
        overwritten = overwrite(overwritten)
    jax.block_until_ready(overwritten)
    released.set()
    assert checkpoints.close()
    restored = Checkpoints(tmp_path).restore({"x": overwritten, "y": carry["y"]})
    np.testing.assert_array_equal(restored.carry["x"], np.arange(1e4, dtype=np.float32))
    np.testing.assert_array_equal(restored.carry["y"], np.arange(1e4, dtype=np.float32))
    assert restored.best["b"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_random_keys_and_narrow_numbers_are_restored(tmp_path, impl):
    keys = jax.random.split(jax.random.key(3, impl=impl), 2)
    carry = {"key": keys, "x": jnp.array([1, -0.0, jnp.nan], jnp.bfloat16), "i": jnp.int8(-3)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, carry)
    assert checkpoints.wait()
    restored = checkpoints.restore(carry).carry
    checkpoints.close()
    assert restored["key"].dtype == keys.dtype
    assert (jax.random.key_data(restored["key"]) == jax.random.key_data(keys)).all()
    for name in ("x", "i"):
        assert restored[name].dtype == carry[name].dtype
        assert np.asarray(restored[name]).tobytes() == np.asarray(carry[name]).tobytes()


def test_with_x64_wide_numbers_are_restored(tmp_path):
    with jax.enable_x64():
        carry = {"x": jnp.array(np.pi), "n": jnp.array(2**40)}
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(1, carry)
        assert checkpoints.close()
        restored = Checkpoints(tmp_path).restore(carry).carry
        assert (float(restored["x"]), int(restored["n"])) == (np.pi, 2**40)
    with pytest.raises(CheckpointError, match=r"int64\[\] there, expected int32\[\]"):
        Checkpoints(tmp_path).restore({"n": jnp.array(2), "x": jnp.array(2.0)})


class State(NamedTuple):
    params: dict
    key: jax.Array


def test_orbax_alone_opens_a_checkpoint_with_names_and_values(tmp_path):
    params = {"layers": [jnp.arange(3.0), jnp.ones(2, jnp.bfloat16)]}
    carry = (State(params, jax.random.key(3)), optax.adam(0.1).init(params))
    checkpoints = Checkpoints(tmp_path, owner="a run")
    checkpoints.save(5, carry, best={"b": np.arange(2)}, facts={"chunk": 7})
    assert checkpoints.close()
    with ocp.CheckpointManager(tmp_path) as manager:
        assert manager.latest_step() == 5
        read = ocp.args.StandardRestore()
        items = manager.restore(
            5, args=ocp.args.Composite(carry=read, best=read, facts=ocp.args.JsonRestore())
        )
    assert sorted(items["carry"]) == [
        "0.key",
        "0.params.layers.0",
        "0.params.layers.1",
        "1.0.count",
        "1.0.mu.layers.0",
        "1.0.mu.layers.1",
        "1.0.nu.layers.0",
        "1.0.nu.layers.1",
    ]
    assert items["carry"]["0.params.layers.0"].tolist() == [0, 1, 2]
    assert items["carry"]["0.params.layers.1"].dtype == jnp.bfloat16
    assert items["carry"]["0.key"] == jax.random.key(3)
    assert items["best"]["b"].tolist() == [0, 1]
    assert items["facts"]["facts"] == {"chunk": 7}


ON_TWO_DEVICES = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from experiments.runner import Checkpoints

one, two = map(Path, sys.argv[1:])
mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
split = jax.NamedSharding(mesh, jax.P("data"))
example = jax.device_put({"x": jnp.zeros(8), "keys": jax.random.split(jax.random.key(0), 4)}, split)
restored = Checkpoints(one).restore(example)
for name in example:
    assert restored.carry[name].sharding.is_equivalent_to(split, 1), name
    assert len(restored.carry[name].addressable_shards) == 2, name
checkpoints = Checkpoints(two)
checkpoints.save(2, {"x": restored.carry["x"] + 1, "keys": restored.carry["keys"]})
assert checkpoints.close()
again = Checkpoints(two).restore(example).carry["x"]
assert again.sharding.is_equivalent_to(split, 1)
assert again.tolist() == list(range(1, 9))
"""


def test_a_carry_moves_between_one_device_and_two(tmp_path):
    carry = {"x": jnp.arange(8.0), "keys": jax.random.split(jax.random.key(1), 4)}
    checkpoints = Checkpoints(tmp_path / "one")
    checkpoints.save(1, carry)
    assert checkpoints.close()
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ON_TWO_DEVICES, tmp_path / "one", tmp_path / "two"]
    environment = {**os.environ, **flags}
    child = subprocess.run(command, env=environment, capture_output=True, text=True)  # noqa: S603
    assert child.returncode == 0, child.stderr
    restored = Checkpoints(tmp_path / "two").restore(carry)
    assert restored.carry["x"].sharding == carry["x"].sharding
    assert restored.carry["x"].tolist() == list(range(1, 9))
    assert (restored.carry["keys"] == carry["keys"]).all()
    part = Checkpoints(tmp_path / "two").load_newest({"x": jnp.zeros(8)})
    assert part.carry["x"].tolist() == list(range(1, 9))


@pytest.mark.parametrize("harm", ["truncate", "empty", "delete", "first byte", "last byte"])
def test_if_any_file_is_damaged_the_checkpoint_before_is_used(tmp_path, two, harm, capsys):
    names = [p.relative_to(two / "20") for p in sorted((two / "20").rglob("*")) if p.is_file()]
    assert len(names) >= 6
    for number, name in enumerate(names):
        folder = shutil.copytree(two, tmp_path / str(number))
        damage(folder / "20" / name, harm)
        restored = Checkpoints(folder).restore(EXAMPLE)
        printed = capsys.readouterr().err
        if str(name) == "digests.json" and harm == "delete":
            # As in a process that was killed before it wrote them: the checkpoint is complete.
            assert_is(restored, 20)
            continue
        assert_is(restored, 10)
        assert printed.count("\n") == 1
        assert f"{folder / '20'} is damaged: " in printed
        assert "; it is renamed to unusable-20" in printed
        assert sorted(path.name for path in folder.iterdir()) == ["10", "unusable-20"]


def damage(path, harm):
    content = path.read_bytes()
    if harm == "delete":
        path.unlink()
    elif harm == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "first byte":
        path.write_bytes(bytes([content[0] ^ 4]) + content[1:])
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 4]))


def test_without_digests_truncated_arrays_are_noticed(folder, capsys):
    (folder / "20" / "digests.json").unlink()
    for path in (folder / "20" / "carry").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:-40])
    assert_is(Checkpoints(folder).restore(EXAMPLE), 10)
    assert "20 is damaged: " in capsys.readouterr().err


def test_an_unfinished_save_is_ignored_and_removed_by_the_next(folder):
    shutil.copytree(folder / "20", folder / "30.orbax-checkpoint-tmp")
    assert_is(Checkpoints(folder).restore(EXAMPLE), 20)
    save_steps(folder, 30)
    assert_is(Checkpoints(folder).restore(EXAMPLE), 30)
    assert not [*folder.glob("*tmp*")]


def test_the_step_of_an_unusable_checkpoint_is_saved_again(folder, capsys):
    for attempt in range(3):
        (folder / "20" / "facts" / "metadata").write_text("")
        checkpoints = Checkpoints(folder)
        assert_is(checkpoints.restore(EXAMPLE), 10)
        save_step(checkpoints, 20)
        assert checkpoints.close()
        assert_is(Checkpoints(folder).restore(EXAMPLE), 20)
        assert len([*folder.glob("unusable-20*")]) == attempt + 1
    capsys.readouterr()


def test_if_all_are_damaged_one_line_says_what_to_do(folder, capsys):
    for step in ("10", "20"):
        (folder / step / "facts" / "metadata").unlink()
    before = snapshot(folder)
    with pytest.raises(CheckpointError) as raised:
        Checkpoints(folder).load_best(EXAMPLE)
    assert snapshot(folder) == before
    message = str(raised.value)
    assert "\n" not in message
    assert f"no checkpoint can be used: {folder / '20'} is damaged: " in message
    assert f"repair or remove {folder}" in message
    assert capsys.readouterr().err == ""


def orbax_single(folder):
    with ocp.CheckpointManager(folder) as manager:
        manager.save(20, args=ocp.args.StandardSave({"x": np.arange(3)}))


def orbax_items(folder):
    with ocp.CheckpointManager(folder) as manager:
        items = {"state": ocp.args.StandardSave({"x": np.arange(3)})}
        manager.save(20, args=ocp.args.Composite(**items, meta=ocp.args.JsonSave({"a": 1})))


def orbax_same_items(folder):
    with ocp.CheckpointManager(folder) as manager:
        items = {"carry": ocp.args.StandardSave({"x": np.arange(3)})}
        manager.save(20, args=ocp.args.Composite(**items, facts=ocp.args.JsonSave({"a": 1})))


def orbax_without_a_manager(folder):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "20", {"x": np.arange(3)})


@pytest.mark.parametrize(
    "foreign", [orbax_single, orbax_items, orbax_same_items, orbax_without_a_manager]
)
@pytest.mark.filterwarnings("ignore")  # Orbax's own, about how it is used here
def test_a_foreign_checkpoint_is_named_in_one_line_and_not_changed(tmp_path, foreign, capsys):
    folder = tmp_path / "checkpoints"
    foreign(folder)
    before = snapshot(folder)
    with pytest.raises(CheckpointError) as raised:
        Checkpoints(folder).restore(EXAMPLE)
    assert snapshot(folder) == before
    message = str(raised.value)
    assert "\n" not in message
    assert f"{folder / '20'} is not a checkpoint of these experiments" in message
    assert capsys.readouterr().err == ""


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_line(tmp_path):
    with ocp.CheckpointManager(tmp_path) as manager:
        record = {"format": "jaxdescent checkpoint 1", "owner": "", "facts": {}}
        pieces = ocp.args.StandardSave({"0": np.zeros(3, np.uint8)})
        items = ocp.args.Composite(arrays=pieces, facts=ocp.args.JsonSave(record))
        manager.save(20, args=items)
    before = snapshot(tmp_path)
    with pytest.raises(CheckpointError) as raised:
        Checkpoints(tmp_path).restore(EXAMPLE)
    assert str(raised.value) == (
        f"no checkpoint can be used: {tmp_path / '20'} was saved by an earlier version, "
        f"which this one cannot read; start a new run"
    )
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (
            {**EXAMPLE, "w": np.zeros((3, 2), np.float32)},
            "w is float32[2,3] there, expected float32[3,2]",
        ),
        ({**EXAMPLE, "step": np.float32(0)}, "step is int32[] there, expected float32[]"),
        ({**EXAMPLE, "more": np.float32(0)}, "more is missing there, expected float32[]"),
        ({"w": EXAMPLE["w"]}, "step is int32[] there, expected nothing"),
    ],
    ids=["shape", "dtype", "too few", "too many"],
)
def test_a_checkpoint_of_another_program_is_an_error_that_names_the_array(two, example, words):
    before = snapshot(two)
    with pytest.raises(CheckpointError) as raised:
        Checkpoints(two).restore(example)
    assert f"{two / '20'} belongs to another run or other settings: {words}" in str(raised.value)
    assert snapshot(two) == before


def test_load_best_reads_the_best_and_changes_nothing_on_disk(two):
    before = snapshot(two)
    assert Checkpoints(two).load_best({"b": np.zeros(1, np.float32)})["b"].tolist() == [20]
    assert snapshot(two) == before


def test_load_best_reads_part_of_the_newest_carry_if_no_best_was_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, make_carry(3))
    assert checkpoints.close()
    part = Checkpoints(tmp_path).load_best({"w": EXAMPLE["w"]})
    assert part["w"].tolist() == make_carry(3)["w"].tolist()


def test_load_newest_reads_part_of_the_newest_carry_and_changes_nothing_on_disk(two):
    before = snapshot(two)
    newest = Checkpoints(two).load_newest({"w": EXAMPLE["w"]})
    assert (newest.step, newest.facts) == (20, {"at": 20})
    np.testing.assert_array_equal(newest.carry["w"], make_carry(20)["w"])
    assert newest.best["b"].tolist() == [20]
    assert snapshot(two) == before


def test_load_best_reads_an_older_checkpoint_if_the_newest_is_damaged(folder, capsys):
    damage(folder / "20" / "facts" / "metadata", "truncate")
    before = snapshot(folder)
    assert Checkpoints(folder).load_best({"b": np.zeros(1, np.float32)})["b"].tolist() == [10]
    assert snapshot(folder) == before
    assert "20 is damaged: " in capsys.readouterr().err


def test_load_best_of_another_shape_is_one_line(two):
    with pytest.raises(CheckpointError, match=r"b is float32\[1\] there, expected float32\[2\]"):
        Checkpoints(two).load_best({"b": np.zeros(2, np.float32)})


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def test_a_save_that_fails_is_reported_once_and_the_next_is_tried(folder, monkeypatch, capsys):
    checkpoints = Checkpoints(folder)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", raising(OSError("no\nroom")))
        save_step(checkpoints, 30)
        assert not checkpoints.wait()
        assert not checkpoints.wait()
    printed = capsys.readouterr().err
    assert printed == (
        f"could not save a checkpoint in {folder}: no room; the last good one is step 20\n"
    )
    assert checkpoints.steps() == [10, 20]
    save_step(checkpoints, 30)
    assert checkpoints.close()
    assert checkpoints.steps() == [20, 30]


@pytest.mark.parametrize("when", ["at once", "in the background"])
def test_an_error_of_orbax_is_reported_in_one_line(folder, monkeypatch, capsys, when):
    checkpoints = Checkpoints(folder)
    name = "async_save" if when == "at once" else "finalize"
    with monkeypatch.context() as patch:
        patch.setattr(ocp.CompositeCheckpointHandler, name, raising(OSError("disk\nerror")))
        save_step(checkpoints, 30)
        assert not checkpoints.wait()
    assert capsys.readouterr().err == (
        f"could not save a checkpoint in {folder}: disk error; the last good one is step 20\n"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["10", "20"]
    save_step(checkpoints, 30)
    assert checkpoints.close()
    assert_is(Checkpoints(folder).restore(EXAMPLE), 30)


def test_the_same_failure_is_reported_once_until_a_save_succeeds(folder, monkeypatch, capsys):
    checkpoints = Checkpoints(folder)

    def count_reports(step, error=None):
        with monkeypatch.context() as patch:
            if error:
                patch.setattr(shutil, "disk_usage", raising(error))
            save_step(checkpoints, step)
            assert checkpoints.wait() == (error is None)
        return capsys.readouterr().err.count("could not save a checkpoint")

    assert count_reports(30, OSError("no room")) == 1
    assert count_reports(40, OSError("no room")) == 0
    assert count_reports(50, OSError("no right")) == 1
    assert count_reports(60) == 0
    assert count_reports(70, OSError("no right")) == 1
    assert checkpoints.steps() == [20, 60]
    assert not checkpoints.close()


def test_the_report_says_if_there_is_no_good_checkpoint(tmp_path, monkeypatch, capsys):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", raising(OSError()))
        save_step(checkpoints, 1)
        checkpoints.wait()
    save_step(checkpoints, 2)
    assert checkpoints.close()
    assert capsys.readouterr().err.endswith("OSError; there is none\n")


def test_a_folder_that_cannot_be_created_is_reported(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    checkpoints = Checkpoints(tmp_path / "file" / "checkpoints")
    save_step(checkpoints, 1)
    assert not checkpoints.close()
    assert capsys.readouterr().err.count("\n") == 1


def test_the_digests_have_every_other_file(two):
    names = {str(path.relative_to(two / "20")) for path in (two / "20").rglob("*")}
    digests = json.loads((two / "20" / "digests.json").read_text())
    assert {*digests} == {n for n in names if (two / "20" / n).is_file()} - {"digests.json"}
    assert all(len(digest) == 64 for digest in digests.values())


def test_a_checkpoint_of_another_run_is_renamed_and_an_own_one_is_used(tmp_path, capsys):
    folder = tmp_path / "checkpoints"
    for owner, step in (("this run", 10), ("another run", 20)):
        checkpoints = Checkpoints(folder, owner=owner)
        save_step(checkpoints, step)
        assert checkpoints.close()
    assert Checkpoints(folder, owner="this run").restore(EXAMPLE).step == 10
    printed = capsys.readouterr().err
    assert f"{folder / '20'} belongs to another run; it is renamed to unusable-20" in printed
    assert sorted(path.name for path in folder.iterdir()) == ["10", "unusable-20"]
    with pytest.raises(
        CheckpointError, match=r"no checkpoint can be used: .*belongs to another run"
    ):
        Checkpoints(folder, owner="a third run").restore(EXAMPLE)
    assert sorted(path.name for path in folder.iterdir()) == ["10", "unusable-20"]


def test_if_no_checkpoint_matches_nothing_is_renamed(folder, capsys):
    damage(folder / "20" / "facts" / "metadata", "truncate")
    before = snapshot(folder)
    with pytest.raises(CheckpointError, match="belongs to another run or other settings"):
        Checkpoints(folder).restore({"other": EXAMPLE["w"]})
    assert snapshot(folder) == before
