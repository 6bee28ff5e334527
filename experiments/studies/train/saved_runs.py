"""Saved runs: the task, the networks and the trajectory of a training run, read from its folder."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments import runner, tasks
from experiments.methods.evaluation import model_of
from experiments.runner.run_folder import RunError, trajectory_folder
from experiments.studies.train.settings import SERIES, Settings
from experiments.studies.train.training import load_task


class SavedRun(NamedTuple):
    """A run of `train`, finished or not. Its folder is only read.

    Attributes:
      folder: of the run.
      identity: of the run.
      settings: of the run.
      task: what was trained.
      step: of the newest checkpoint.
      networks: "params" and "model_state" of all networks at that step, with a leading axis.
      initial: the same before the first step; `None` for a warm start.
      trajectory: of the first network up to the step; empty for runs older than trajectories.
    """

    folder: Path
    identity: str
    settings: Settings
    task: tasks.Task
    step: int
    networks: dict[str, Any]
    initial: dict[str, Any] | None
    trajectory: runner.Snapshots

    def network(self, index: int) -> dict[str, Any]:
        """Returns one of the networks."""
        return jax.tree.map(lambda leaf: leaf[index], self.networks)


def read_description(folder: Path) -> dict[str, Any]:
    """Returns the content of `run.json` of a run of `train`.

    Raises:
      RunError: the folder does not hold a run, or holds a run of another study.
    """
    description = runner.read_description(folder)
    if description["study"] != "train":
        raise RunError(
            f"{folder} is a run of {description['study']}, which does not save networks; "
            "name a run of train"
        )
    return description


def load(folder: Path, *, data_dir: Path | None = None) -> SavedRun:
    """Loads the run in a folder, with networks that compute in float32.

    Args:
      folder: of the run.
      data_dir: where its data is now; by default where it was.

    Raises:
      RunError: the folder does not hold a run of `train`, or its data has changed.
      CheckpointError: there is no readable checkpoint.
      TrajectoryError: the trajectory cannot be read.
    """
    description = read_description(folder)
    changes: dict[str, Any] = {"precision": "float32"}
    if data_dir is not None:
        changes["data_dir"] = str(data_dir)
    changed = {**description, "settings": {**description["settings"], **changes}}
    settings = runner.saved_settings(Settings, changed)
    if settings.agents:
        raise RunError(
            f"{folder} is a run with --agents, which saves only the winner; use "
            "experiments.studies.train.load_network, or name a run without agents"
        )
    task = load_task(settings)
    if description["pins"].get("data", task.digest()) != task.digest():
        raise RunError(f"{folder} was trained on other data; restore that data")
    initial = _initial_networks(settings, task)
    newest = runner.Checkpoints(folder / "checkpoints" / SERIES).load_newest(initial)
    example = jax.tree.map(lambda leaf: leaf[0], initial)
    return SavedRun(
        folder,
        description["identity"],
        settings,
        task,
        newest.step,
        newest.carry,
        None if settings.warm_start else initial,
        runner.read_trajectory(trajectory_folder(folder, SERIES), example, until=newest.step),
    )


def _initial_networks(settings: Settings, task: tasks.Task) -> dict[str, Any]:
    """Returns the networks as the run initialized them, unless it was a warm start."""
    trainer = runner.trainer(task.build, task.batch_of, task.scores, optax.identity())
    keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
    return model_of(trainer.start(keys))


def stack(trees: list[Any]) -> Any:
    """Returns the trees as one, with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
