"""Language models trained by every method, in bits per character, with sampled text.

Topics of Python's help, which are bundled, as characters, bytes and byte pairs; Tiny Shakespeare,
War and Peace and nanoGPT's settings for Tiny Shakespeare from `--data-dir`. Each transformer is
trained by grids of learning rates for Adam (and SGD), by Prodigy and Schedule-Free, by self-tuning,
and by a population of agents, or by some of these where a grid takes hours.
`--fine-tune` trains low-rank changes of a saved network instead.
"""

from experiments import methods, runner
from experiments.studies.language import fine_tuning, per_character
from experiments.studies.language.recipes import recipes
from experiments.studies.language.samples import sample_notes
from experiments.studies.language.settings import Settings

__all__ = ["Settings", "check", "run"]


def check(settings: Settings) -> None:
    """Raises an error if the run to fine-tune or its text is unsuitable."""
    if settings.fine_tune:
        fine_tuning.recipe(settings.fine_tune, settings)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains every network by every method and draws the figures."""
    found, notes = recipes(settings)
    contests = methods.run_contests(settings, run, found)
    before: dict[str, float] = {}
    if settings.fine_tune:
        (recipe,) = (contest.recipe for contest in contests)
        before = {"before fine-tuning": fine_tuning.loss_before(recipe)}
        notes = [fine_tuning.note(recipe)]
    notes = [*notes, *per_character.NOTES, *sample_notes(contests)]
    results = methods.results("Language models: losses and the compute for them", contests, notes)
    table, values = per_character.results(contests, before)
    return results._replace(
        tables=[table, *results.tables], values={**results.values, "per character": values}
    )
