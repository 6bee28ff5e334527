"""The published table of hypergradient descent on MNIST, beside our results.

Runs every row of Table 1 of "Gradient Descent: The Ultimate Optimizer" (K. Chandra, A. Xie,
J. Ragan-Kelley, E. Meijer, NeurIPS 2022, arXiv:1909.13371): a network of 784-128-10, batches of
256, 30 epochs, three seeds in parallel, and towers with unconstrained hyperparameters.

The paper's SGD and AdaGrad rows agree with ours after 30 epochs. Its Adam and RMSProp rows agree
with ours after 5 epochs, in their errors and in the learned hyperparameters; after 30 epochs ours
have smaller errors. The example in the package's README trains for 5 epochs. The table therefore
compares each row after 5 and after 30 epochs.

The rows of `jd.self_tuning` are single runs from its default initial learning rate, tested at the
averaged parameters.

Without MNIST the study runs on scikit-learn's digits, whose rows can only be compared with each
other.
"""

from experiments import runner
from experiments.studies.gdtuo_table import published, rows
from experiments.studies.gdtuo_table.figure import draw
from experiments.studies.gdtuo_table.report import results
from experiments.studies.gdtuo_table.settings import EPOCHS, Settings, load_task
from experiments.studies.gdtuo_table.training import RowHistories, RowTraining

__all__ = ["Settings", "check", "run"]


def check(settings: Settings) -> None:
    """Raises an error if the data is missing."""
    load_task(settings)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains every row and draws the figure."""
    task = load_task(settings)
    run.pin("data", task.digest())
    on_mnist = task.name == "mnist"
    epochs = EPOCHS[settings.scale]
    count = sum(1 if row.learned is None else 2 for row in published.ROWS) + len(rows.SELF_TUNING)
    histories: RowHistories = []
    with runner.Progress(total=count * epochs * task.steps) as progress:
        train = RowTraining(run, task, settings.seeds, epochs, progress)
        for printed in published.ROWS:
            row = rows.paper_row(printed, compare=on_mnist)
            history = train(row)
            histories.append((row, history))
            if printed.learned is not None:
                values = printed.learned if on_mnist else history.learned_after(-1)
                rerun = rows.rerun_row(printed, values, compare=on_mnist)
                histories.append((rerun, train(rerun)))
        for name in rows.SELF_TUNING:
            row = rows.self_tuning_row(name)
            histories.append((row, train(row)))
    run.save_figure("gdtuo_table", draw(histories))
    return results(task, histories)
