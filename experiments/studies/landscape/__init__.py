"""The loss around a trained network: random, Hessian and principal planes, lines and barriers.

Reads a run of `train`. Around its last parameters there are three planes: along random directions
with the norms of the network's filters, along the two eigenvectors of the Hessian with the
greatest eigenvalues, and the principal plane of the training trajectory. Lines connect the initial
and the last parameters, and two networks of the run if it has two. The sharpness in a small box
is measured too. Where the trajectory is drawn on a plane, its true losses are shown beside the
losses on the plane. All losses are of the same training examples, in float32, without dropout.
"""

import time
from typing import Any

from experiments import runner
from experiments.studies.landscape.figures import save_figures
from experiments.studies.landscape.report import results
from experiments.studies.landscape.settings import Settings
from experiments.studies.landscape.slices import SLICES
from experiments.studies.landscape.subject import load_subject
from experiments.studies.train import saved_runs
from jaxdescent.extras import require

__all__ = ["Settings", "check", "run"]


def check(settings: Settings) -> None:
    """Raises an error if a package or the run is missing."""
    _require_packages()
    saved_runs.read_description(settings.saved)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Evaluates and draws every slice that the run has the networks for."""
    _require_packages()  # before the work, also when a run is resumed
    subject = load_subject(settings)
    run.pin("saved run", subject.saved.identity)
    run.pin("step", str(subject.saved.step))
    found: dict[str, Any] = {}
    for name, part in SLICES.items():
        run.interruption.check()
        if part.possible(subject):
            began = time.monotonic()
            found[name] = run.series(
                name, part.record, lambda part=part: part.evaluate(subject, settings)
            )
            print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
    save_figures(run, subject, found)
    return results(settings, subject, found)


def _require_packages() -> None:
    """Raises an error that says how to install a package that the figures need."""
    for module, extra in (("plotly", "landscape"), ("matfree", "stability")):
        require(module, extra)
