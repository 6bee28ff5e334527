"""Six optimizers at the edge of stability: sharpness against the stability threshold of each.

A network is trained on full batches of the digits and, if its files are found, of CIFAR-10. Every
20 steps the greatest eigenvalue of the (preconditioned) Hessian, the sharpness, is compared with
the optimizer's stability threshold. The sharpness rises to the threshold and then stays there
(J. Cohen et al. 2021, arXiv:2103.00065, and 2022, arXiv:2207.14484; for SAM P. Long and
P. Bartlett 2023, arXiv:2309.12488).

For comparison the study runs learning rates far below the edge, which must not be flagged as
diverging; diverging quadratics, which must be flagged; and `jd.scale_by_sharpness`, which keeps
the sharpness at a fraction of the threshold.
"""

from functools import cache

from experiments import runner
from experiments.data import DataError
from experiments.studies.edge_of_stability.figure import draw
from experiments.studies.edge_of_stability.quadratics import descend_quadratic
from experiments.studies.edge_of_stability.report import results
from experiments.studies.edge_of_stability.settings import (
    CIFAR,
    CIFAR_IMAGES,
    CIFAR_SEEDS,
    CIFAR_STEPS,
    DIGITS,
    IMAGES,
    RATIOS,
    SMOKE,
    STEPS,
    Settings,
)
from experiments.studies.edge_of_stability.summary import CaseResult
from experiments.studies.edge_of_stability.training import (
    PROBE_EVERY,
    Plan,
    ProbedTraining,
    load_batch,
    load_cifar,
)

__all__ = ["Settings", "run"]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs every case and draws a figure for each data set."""
    plans, skipped = _plans(settings)
    if not plans:
        raise runner.RunError("; ".join(skipped))
    for plan in plans:
        run.pin(f"data of {plan.batch.title}", plan.batch.digest())
    total = sum(len(plan.cases) * plan.seeds * plan.steps for plan in plans)
    with runner.Progress(total=total) as progress:
        by_plan = [_run_cases(run, plan, progress) for plan in plans]
    for plan, case_results in zip(plans, by_plan, strict=True):
        run.save_figure(f"edge of stability, {plan.batch.title}", draw(case_results))
    quadratics = {ratio: descend_quadratic(ratio) for ratio in RATIOS[settings.scale]}
    return results(settings, [each for found in by_plan for each in found], quadratics, skipped)


def _plans(settings: Settings) -> tuple[list[Plan], list[str]]:
    """Returns the plan of each data set, and a sentence for each that is skipped."""
    scale = settings.scale
    plans, skipped = [], []
    if "digits" in settings.tasks:
        digits = load_batch("digits", IMAGES[scale])
        cases = SMOKE if scale == "smoke" else DIGITS
        plans.append(Plan(digits, cases, settings.seeds, STEPS[scale]))
    if "cifar10" in settings.tasks:
        try:
            images = load_cifar(CIFAR_IMAGES[scale], settings.data_dir)
        except DataError as error:
            skipped.append(f"CIFAR-10 is skipped: {error}")
        else:
            seeds = min(settings.seeds, CIFAR_SEEDS[scale])
            plans.append(Plan(images, CIFAR, seeds, CIFAR_STEPS[scale]))
    return plans, skipped


def _run_cases(run: runner.Run, plan: Plan, progress: runner.Progress) -> list[CaseResult]:
    @cache
    def training(optimizer: str, fraction: float | None) -> ProbedTraining:
        chunks = plan.steps // PROBE_EVERY
        return ProbedTraining(
            run, plan.batch, optimizer, progress, chunks=chunks, fraction=fraction
        )

    return [
        CaseResult(
            plan.batch.title,
            case,
            [training(case.optimizer, case.fraction)(case, seed) for seed in range(plan.seeds)],
        )
        for case in plan.cases
    ]
