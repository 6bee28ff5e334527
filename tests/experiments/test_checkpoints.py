"""Checkpoints are the newest good state, whatever befell the files, and nothing else changes."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments.runner import CheckpointError, Checkpoints, archive


def carry(step):
    """A state that tells which step it is of."""
    return {"w": np.arange(6, dtype=np.float32).reshape(2, 3) * step, "step": np.int32(step)}


EXAMPLE = carry(0)


def saved(folder, *steps, keep=2):
    checkpoints = Checkpoints(folder, keep=keep)
    for step in steps:
        checkpoints.save(step, carry(step), best={"b": np.float32([step])}, facts={"at": step})
    assert checkpoints.close()


def assert_is(found, step):
    assert found.step == step
    assert jax.tree.map(np.array_equal, found.carry, carry(step)) == {"w": True, "step": True}
    assert found.carry["w"].dtype == np.float32
    assert found.best["b"].tolist() == [step]
    assert found.facts == {"at": step}


def everything(folder):
    """Every path with its content, and when it was last written."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else None,
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The checkpoints of steps 10 and 20; to be copied, not touched."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    saved(folder, 10, 20)
    return folder


@pytest.fixture
def folder(tmp_path, two):
    return shutil.copytree(two, tmp_path / "checkpoints")


@pytest.mark.parametrize(("keep", "left"), [(1, [40]), (2, [30, 40]), (9, [10, 20, 30, 40])])
def test_the_newest_stay(tmp_path, keep, left):
    saved(tmp_path, 10, 20, 30, 40, keep=keep)
    assert Checkpoints(tmp_path).steps() == left
    assert_is(Checkpoints(tmp_path).restore(EXAMPLE), 40)


def test_steps_are_compared_as_numbers(tmp_path):
    saved(tmp_path, 9, 10, keep=1)
    assert_is(Checkpoints(tmp_path).restore(EXAMPLE), 10)


def test_where_nothing_was_saved_there_is_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.restore(EXAMPLE) is None
    assert checkpoints.steps() == []
    assert not checkpoints.busy
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        checkpoints.load(EXAMPLE)
    assert checkpoints.close()
    assert not (tmp_path / "none").exists()


def test_content_that_is_cut_into_pieces_comes_back_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_PIECE", 7)  # bytes, which no array's own are a multiple of
    saved(tmp_path, 10)
    assert_is(Checkpoints(tmp_path).restore(EXAMPLE), 10)


@pytest.mark.parametrize("state", [{}, {"x": np.zeros((0, 3), np.float32)}], ids=["none", "empty"])
def test_a_carry_without_numbers_is_a_carry_all_the_same(tmp_path, state):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, facts={"at": 1})
    assert checkpoints.close()
    found = Checkpoints(tmp_path).restore(state)
    assert jax.tree.map(np.shape, found.carry) == jax.tree.map(np.shape, state)
    assert (found.best, found.facts) == ({}, {"at": 1})


def test_a_carry_that_is_donated_right_after_is_saved_as_it_was(tmp_path):
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    state = jnp.arange(1000.0)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"x": state}, best={"b": np.asarray(state)})
    for _ in range(3):
        state = overwrite(state)
    assert checkpoints.close()
    found = Checkpoints(tmp_path).restore({"x": jnp.zeros(1000)})
    assert found.carry["x"].tolist() == list(range(1000))
    assert found.best["b"].tolist() == list(range(1000))


def test_typed_keys_and_narrow_numbers_come_back(tmp_path):
    state = {"key": jax.random.split(jax.random.key(3), 2), "x": jnp.ones(3, jnp.bfloat16)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state)
    assert checkpoints.wait()
    found = checkpoints.restore(state).carry
    checkpoints.close()
    assert (jax.random.key_data(found["key"]) == jax.random.key_data(state["key"])).all()
    assert found["x"].dtype == jnp.bfloat16


@pytest.mark.parametrize("harm", ["truncated", "emptied", "deleted", "first byte", "last byte"])
def test_whichever_file_is_damaged_the_one_before_is_used(tmp_path, two, harm, capsys):
    names = [p.relative_to(two / "20") for p in sorted((two / "20").rglob("*")) if p.is_file()]
    assert len(names) >= 6
    for number, name in enumerate(names):
        folder = shutil.copytree(two, tmp_path / str(number))
        damage(folder / "20" / name, harm)
        found = Checkpoints(folder).restore(EXAMPLE)
        said = capsys.readouterr().err
        if str(name) == "digests.json" and harm == "deleted":
            # As of a process killed just before it wrote them: the checkpoint is whole.
            assert_is(found, 20)
            continue
        assert_is(found, 10)
        assert said.count("\n") == 1
        assert f"{folder / '20'} is damaged: " in said
        assert sorted(path.name for path in folder.iterdir()) == ["10", "unusable-20"]


def damage(path, harm):
    content = path.read_bytes()
    if harm == "deleted":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "emptied":
        path.write_bytes(b"")
    elif harm == "first byte":
        path.write_bytes(bytes([content[0] ^ 4]) + content[1:])
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 4]))


def test_without_digests_a_truncated_file_of_numbers_is_noticed_all_the_same(folder, capsys):
    (folder / "20" / "digests.json").unlink()
    for path in [*(folder / "20" / "arrays").rglob("d/*")]:
        path.write_bytes(path.read_bytes()[:-40])
    assert_is(Checkpoints(folder).restore(EXAMPLE), 10)
    assert "20 is damaged: " in capsys.readouterr().err


def test_a_save_that_was_never_finished_is_no_checkpoint(folder):
    shutil.copytree(folder / "20", folder / "30.orbax-checkpoint-tmp")
    assert_is(Checkpoints(folder).restore(EXAMPLE), 20)
    checkpoints = Checkpoints(folder)
    checkpoints.save(30, carry(30), best={"b": np.float32([30])}, facts={"at": 30})
    assert checkpoints.close()
    assert_is(checkpoints.restore(EXAMPLE), 30)
    assert not [*folder.glob("*tmp*")]  # what was left of it makes room


def test_a_step_that_was_set_aside_is_saved_again(folder, capsys):
    for attempt in range(3):
        (folder / "20" / "facts" / "metadata").write_text("")
        checkpoints = Checkpoints(folder)
        assert_is(checkpoints.restore(EXAMPLE), 10)
        checkpoints.save(20, carry(20), best={"b": np.float32([20])}, facts={"at": 20})
        assert checkpoints.close()
        assert_is(Checkpoints(folder).restore(EXAMPLE), 20)
        assert len([*folder.glob("unusable-20*")]) == attempt + 1
    capsys.readouterr()


def test_if_all_are_damaged_one_line_says_what_to_do(folder, capsys):
    for step in ("10", "20"):
        (folder / step / "facts" / "metadata").unlink()
    before = everything(folder)
    with pytest.raises(CheckpointError) as raised:
        Checkpoints(folder).load(EXAMPLE)
    assert everything(folder) == before
    said = str(raised.value)
    assert "\n" not in said
    assert f"no checkpoint can be used: {folder / '20'} is damaged: " in said
    assert f"mend or remove {folder}" in said
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
        items = {"arrays": ocp.args.StandardSave({"x": np.arange(3)})}
        manager.save(20, args=ocp.args.Composite(**items, facts=ocp.args.JsonSave({"a": 1})))


def orbax_without_a_manager(folder):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "20", {"x": np.arange(3)})


@pytest.mark.parametrize(
    "foreign", [orbax_single, orbax_items, orbax_same_items, orbax_without_a_manager]
)
@pytest.mark.filterwarnings("ignore")  # Orbax's own, about how it is used here
def test_a_foreign_checkpoint_is_named_in_one_line_and_left_untouched(tmp_path, foreign, capsys):
    folder = tmp_path / "checkpoints"
    foreign(folder)
    before = everything(folder)
    with pytest.raises(CheckpointError) as raised:
        Checkpoints(folder).restore(EXAMPLE)
    assert everything(folder) == before
    said = str(raised.value)
    assert "\n" not in said
    assert f"{folder / '20'} is no checkpoint of these experiments" in said
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (
            {**EXAMPLE, "w": np.zeros((3, 2), np.float32)},
            "w is float32[2,3] there and float32[3,2]",
        ),
        ({**EXAMPLE, "step": np.float32(0)}, "step is int32[] there and float32[] here"),
        ({**EXAMPLE, "more": np.float32(0)}, "more is missing there and float32[] here"),
        ({"w": EXAMPLE["w"]}, "step is int32[] there and missing here"),
    ],
    ids=["shape", "dtype", "too few", "too many"],
)
def test_a_checkpoint_that_does_not_fit_is_an_error_and_not_damaged(two, example, words):
    before = everything(two)
    with pytest.raises(CheckpointError) as raised:
        Checkpoints(two).restore(example)
    assert f"{two / '20'} belongs to another run or other settings: {words}" in str(raised.value)
    assert everything(two) == before


def test_load_takes_the_best_and_changes_nothing_on_disk(two):
    before = everything(two)
    assert Checkpoints(two).load({"b": np.zeros(1, np.float32)})["b"].tolist() == [20]
    assert everything(two) == before


def test_load_takes_part_of_the_newest_carry_where_no_best_was_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, carry(3))
    assert checkpoints.close()
    found = Checkpoints(tmp_path).load({"w": EXAMPLE["w"]})
    assert found["w"].tolist() == carry(3)["w"].tolist()


def test_newest_takes_part_of_the_newest_carry_and_changes_nothing_on_disk(two):
    before = everything(two)
    found = Checkpoints(two).newest({"w": EXAMPLE["w"]})
    newest = max(Checkpoints(two).steps())
    assert (found.step, found.facts) == (newest, {"at": newest})
    np.testing.assert_array_equal(found.carry["w"], carry(newest)["w"])
    assert everything(two) == before


def test_load_falls_back_without_setting_anything_aside(folder, capsys):
    damage(folder / "20" / "facts" / "metadata", "truncated")
    before = everything(folder)
    assert Checkpoints(folder).load({"b": np.zeros(1, np.float32)})["b"].tolist() == [10]
    assert everything(folder) == before
    assert "20 is damaged: " in capsys.readouterr().err


def test_load_that_does_not_fit_is_one_line(two):
    with pytest.raises(CheckpointError, match=r"b is float32\[1\] there and float32\[2\] here"):
        Checkpoints(two).load({"b": np.zeros(2, np.float32)})


def failing(error):
    def fail(*_):
        raise error

    return fail


def test_a_save_that_fails_is_told_once_and_the_next_one_is_tried(folder, monkeypatch, capsys):
    checkpoints = Checkpoints(folder)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", failing(OSError("no\nroom")))
        checkpoints.save(30, carry(30))
        assert not checkpoints.wait()
        assert not checkpoints.wait()
    said = capsys.readouterr().err
    assert said == (
        f"could not save a checkpoint in {folder}: no room; the last good one is step 20\n"
    )
    assert checkpoints.steps() == [10, 20]
    checkpoints.save(30, carry(30))
    assert checkpoints.close()
    assert checkpoints.steps() == [20, 30]


def test_the_same_failure_is_told_once_until_a_save_succeeds(folder, monkeypatch, capsys):
    checkpoints = Checkpoints(folder)

    def told(step, error=None):
        with monkeypatch.context() as patch:
            if error:
                patch.setattr(shutil, "disk_usage", failing(error))
            checkpoints.save(step, carry(step))
            assert checkpoints.wait() == (error is None)
        return capsys.readouterr().err.count("could not save a checkpoint")

    assert told(30, OSError("no room")) == 1
    assert told(40, OSError("no room")) == 0
    assert told(50, OSError("no right")) == 1
    assert told(60) == 0
    assert told(70, OSError("no right")) == 1
    assert checkpoints.steps() == [20, 60]
    assert not checkpoints.close()


def test_the_next_save_tells_of_one_that_failed(tmp_path, monkeypatch, capsys):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", failing(OSError()))
        checkpoints.save(1, carry(1))
        checkpoints.wait()
    checkpoints.save(2, carry(2))
    assert checkpoints.close()
    assert capsys.readouterr().err.endswith("OSError; there is none\n")


def test_the_digests_name_every_file_but_themselves(two):
    names = {str(path.relative_to(two / "20")) for path in (two / "20").rglob("*")}
    listed = json.loads((two / "20" / "digests.json").read_text())
    assert {*listed} == {n for n in names if (two / "20" / n).is_file()} - {"digests.json"}
    assert all(len(digest) == 64 for digest in listed.values())


def test_what_another_run_saved_is_set_aside_for_what_this_one_did(tmp_path, capsys):
    folder = tmp_path / "checkpoints"
    for owner, step in (("mine", 10), ("theirs", 20)):
        checkpoints = Checkpoints(folder, owner=owner)
        checkpoints.save(step, carry(step), facts={"at": step})
        assert checkpoints.close()
    assert Checkpoints(folder, owner="mine").restore(EXAMPLE).step == 10
    assert f"{folder / '20'} belongs to another run; it is set aside" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["10", "unusable-20"]
    with pytest.raises(
        CheckpointError, match=r"no checkpoint can be used: .*belongs to another run"
    ):
        Checkpoints(folder, owner="a third's").restore(EXAMPLE)
    assert sorted(path.name for path in folder.iterdir()) == ["10", "unusable-20"]


def test_where_nothing_fits_nothing_is_renamed(folder, capsys):
    damage(folder / "20" / "facts" / "metadata", "truncated")
    before = everything(folder)
    with pytest.raises(CheckpointError, match="belongs to another run or other settings"):
        Checkpoints(folder).restore({"other": EXAMPLE["w"]})
    assert everything(folder) == before
