"""What a training run left: its task, its networks, and the path of the first of them."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments import runner, tasks
from experiments.runner.run import RunError, trajectory_folder
from experiments.studies import train


class SavedRun(NamedTuple):
    """A run of `train`, finished or not, as its folder has it. Nothing in it is changed.

    Attributes:
      folder: where it is.
      identity: of the run.
      settings: the run's own.
      task: what was trained.
      step: of the networks.
      networks: "params" and "model_state" of all networks at that step, with a leading axis.
      start: the same as they were drawn; of a warm start, which drew none, None.
      path: of the first network, up to the step; runs from before paths were kept have none.
    """

    folder: Path
    identity: str
    settings: train.Settings
    task: tasks.Task
    step: int
    networks: dict[str, Any]
    start: dict[str, Any] | None
    path: runner.Snapshots

    def network(self, number: int) -> dict[str, Any]:
        """One of the networks."""
        return jax.tree.map(lambda leaf: leaf[number], self.networks)


def read_description(folder: Path) -> dict[str, Any]:
    """The content of the `run.json` of a run that keeps networks.

    Raises:
      RunError: the folder is no run's, or one of another study.
    """
    description = runner.read_description(folder)
    if description["study"] != "train":
        raise RunError(
            f"{folder} is a run of {description['study']}, which keeps no networks; "
            "name a run of train"
        )
    return description


def load(folder: Path, *, data_dir: Path | None = None) -> SavedRun:
    """The run in a folder, its networks in float32 to compute with.

    Args:
      folder: of the run.
      data_dir: where its data are now; by default where they were.

    Raises:
      RunError: it is no run of `train`, or its data have changed.
      CheckpointError: it has no checkpoint that can be read.
      TrajectoryError: its path cannot be read.
    """
    description = read_description(folder)
    changes: dict[str, Any] = {"precision": "float32"}
    if data_dir is not None:
        changes["data_dir"] = str(data_dir)
    told = {**description, "settings": {**description["settings"], **changes}}
    settings = runner.saved_settings(train.Settings, told)
    task = train.task_of(settings)
    if description["pins"].get("data", task.digest()) != task.digest():
        raise RunError(f"{folder} was trained on other data; bring those back")
    drawn = _drawn(settings, task)
    newest = runner.Checkpoints(folder / "checkpoints" / train.LINE).load_newest(drawn)
    example = jax.tree.map(lambda leaf: leaf[0], drawn)
    return SavedRun(
        folder,
        description["identity"],
        settings,
        task,
        newest.step,
        newest.carry,
        None if settings.warm_start else drawn,
        runner.read_trajectory(trajectory_folder(folder, train.LINE), example, until=newest.step),
    )


def _drawn(settings: train.Settings, task: tasks.Task) -> dict[str, Any]:
    """The networks as the run drew them."""
    trainer = runner.trainer(task.build, task.batch_of, task.scores, optax.identity())
    keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
    state = trainer.start(keys)
    return {"params": state.params, "model_state": state.model_state}


def stacked(trees: list[Any]) -> Any:
    """Trees as one with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
