"""What every study is given: settings, a folder, progress, compiled stepping, a report."""

from experiments.runner.progress import Progress as Progress
from experiments.runner.report import write_report as write_report
from experiments.runner.run import Results as Results
from experiments.runner.run import Run as Run
from experiments.runner.run import Settings as Settings
from experiments.runner.stepping import Chunk as Chunk
from experiments.runner.stepping import Program as Program
