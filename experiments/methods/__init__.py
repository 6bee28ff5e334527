"""Ways to train the network of a task, and what each costs if its tuning is counted.

    recipe = methods.Recipe(title="digits", task=task, steps=1_000, batch_size=64)
    contests = methods.run_contests(settings, run, [recipe])
    return methods.results("Handwritten digits", contests)

Grids of learning rates are trained from end to end and the best one is selected by its validation
loss; methods without a learning rate are trained once; populations are pruned or not. Each method
is reported with its loss on the test part, at the evaluation with the least validation loss, and
with the FLOPs and the joules of everything that it trained.
"""

from experiments.methods.contest import Contest
from experiments.methods.outcome import Outcome, Trained
from experiments.methods.recipe import Recipe
from experiments.methods.registry import METHODS
from experiments.methods.report import notes_on, results, table, values_of, verdict
from experiments.methods.study import Settings, run_contests, save_figures, train_contests

__all__ = [
    "METHODS",
    "Contest",
    "Outcome",
    "Recipe",
    "Settings",
    "Trained",
    "notes_on",
    "results",
    "run_contests",
    "save_figures",
    "table",
    "train_contests",
    "values_of",
    "verdict",
]
