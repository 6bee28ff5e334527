"""What every study is given: settings, a folder, checkpoints, compiled stepping, a report."""

from experiments.runner.checkpoint_format import Checkpoint as Checkpoint
from experiments.runner.checkpoints import CheckpointError as CheckpointError
from experiments.runner.checkpoints import Checkpoints as Checkpoints
from experiments.runner.interruption import Interrupted as Interrupted
from experiments.runner.loop import Chunk as Chunk
from experiments.runner.loop import Loop as Loop
from experiments.runner.progress import Progress as Progress
from experiments.runner.report import write_report as write_report
from experiments.runner.run import Results as Results
from experiments.runner.run import Run as Run
from experiments.runner.run import RunError as RunError
from experiments.runner.run import Settings as Settings
from experiments.runner.run import read_description as read_description
from experiments.runner.run import saved_settings as saved_settings
from experiments.runner.stepping import Program as Program
from experiments.runner.training import Trainer as Trainer
from experiments.runner.training import TrainState as TrainState
from experiments.runner.training import trainer as trainer
from experiments.runner.trajectory import Snapshots as Snapshots
from experiments.runner.trajectory import Trajectory as Trajectory
from experiments.runner.trajectory import TrajectoryError as TrajectoryError
from experiments.runner.trajectory import read_trajectory as read_trajectory
