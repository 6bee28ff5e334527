"""Runs of studies: settings, folder, checkpoints, compiled chunks of steps, log and report."""

from experiments.runner.checkpoint_format import Checkpoint
from experiments.runner.checkpoints import CheckpointError, Checkpoints
from experiments.runner.interruption import Interrupted
from experiments.runner.loop import Chunk, Loop
from experiments.runner.mesh import AXES, Mesh, make_mesh, parse_mesh
from experiments.runner.outcomes import SeriesError
from experiments.runner.page import Table
from experiments.runner.progress import Progress
from experiments.runner.report import Results, add_figure, write_report
from experiments.runner.run import Run
from experiments.runner.run_folder import RunError, read_description, saved_settings
from experiments.runner.settings import Settings
from experiments.runner.stepping import Program
from experiments.runner.training import Trainer, TrainState, trainer
from experiments.runner.trajectory import Snapshots, Trajectory, TrajectoryError, read_trajectory

__all__ = [
    "AXES",
    "Checkpoint",
    "CheckpointError",
    "Checkpoints",
    "Chunk",
    "Interrupted",
    "Loop",
    "Mesh",
    "Program",
    "Progress",
    "Results",
    "Run",
    "RunError",
    "SeriesError",
    "Settings",
    "Snapshots",
    "Table",
    "TrainState",
    "Trainer",
    "Trajectory",
    "TrajectoryError",
    "add_figure",
    "make_mesh",
    "parse_mesh",
    "read_description",
    "read_trajectory",
    "saved_settings",
    "trainer",
    "write_report",
]
