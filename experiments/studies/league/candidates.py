"""The optimizers of the league.

AdEMAMix: M. Pagliardini, P. Ablin, D. Grangier 2024, arXiv:2409.03137. Schedule-Free:
A. Defazio et al. 2024, arXiv:2405.15682.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from optax import contrib

import jaxdescent as jd
from experiments.studies.league.budget import within_budget
from experiments.studies.league.osgm_best import best_params, osgm_best
from experiments.studies.league.schedule_free_plus import schedule_free_plus
from experiments.tuning import trials, workloads
from experiments.tuning.trials import Candidate

HYPER_RATE, TOWER_START = 0.05, 1e-3
HEIGHTS = (1, 2, 3)
FIXED_RATE = 1e-3  # of the rows whose learning rate is one number on every task
WARMUP = 0.05  # fraction of the steps


def _params_of_state(state: Any, params: Any) -> Any:
    del params
    return state.params


def _x_of_state(state: Any, params: Any) -> Any:
    del params
    return state.x


_average = contrib.schedule_free_eval_params
# Each has its documented defaults, which `DEFAULTS` lists.
PUBLISHED = {
    "Prodigy": Candidate(contrib.prodigy()),
    "D-Adaptation": Candidate(contrib.dadapt_adamw()),
    "Mechanic (adam)": Candidate(contrib.mechanize(optax.adam(1.0))),
    "DoG": Candidate(contrib.dog()),
    "DoWG": Candidate(contrib.dowg()),
    "MoMo": Candidate(contrib.momo()),
    "MoMo-Adam": Candidate(contrib.momo_adam()),
    "COCOB": Candidate(contrib.cocob()),
    "Schedule-Free sgd": Candidate(contrib.schedule_free_sgd(), last_params=_average),
    "Schedule-Free adamw": Candidate(contrib.schedule_free_adamw(), last_params=_average),
    "ScheduleFree+": Candidate(schedule_free_plus(), last_params=_x_of_state),
    "AdEMAMix": Candidate(contrib.ademamix(FIXED_RATE)),
}


def _lbfgs(steps: int) -> Candidate:
    return Candidate(within_budget(optax.lbfgs(memory_size=10), steps), needs_value_fn=True)


def _osgm_best(steps: int) -> Candidate:
    del steps
    return Candidate(osgm_best(), last_params=best_params)


def _online_scaled(steps: int) -> Candidate:
    del steps
    return Candidate(jd.online_scaled(), last_params=_params_of_state)


# Run on deterministic tasks only. Each makes at most one gradient a step on average.
DETERMINISTIC: dict[str, Callable[[int], Candidate]] = {
    "L-BFGS": _lbfgs,
    "OSGM-Best": _osgm_best,
    "online_scaled": _online_scaled,
}
DEFAULTS = (
    "Defaults: Prodigy learning_rate 1, estim_lr0 1e-6; D-Adaptation (dadapt_adamw) the same; "
    "Mechanic over adam at 1, s_init 1e-6, its weight_decay 0.01; DoG learning_rate 1, "
    "init_step heuristic 1e-6; DoWG learning_rate 1; MoMo learning_rate 1, lower_bound 0; "
    "MoMo-Adam learning_rate 0.01, lower_bound 0; COCOB alpha 100; Schedule-Free sgd "
    "learning_rate 1, b1 0.9, adamw learning_rate 0.0025, b1 0.9, both without warmup; "
    f"'fixed Schedule-Free adamw' at {FIXED_RATE:g}, with a linear warmup over {WARMUP:.0%} of the "
    "steps; ScheduleFree+ learning_rate 1, betas 0.9 and 0.95, without annealing or warmup; "
    f"AdEMAMix at {FIXED_RATE:g}, b1 0.9, b2 0.999, b3 0.9999, alpha 5, without the "
    "schedules of alpha and b3 that its authors use on long runs; "
    "L-BFGS (optax) memory 10, a zoom line search whose evaluations count, and no update when they "
    "are as many as the steps; online_scaled memory 20, initial_step 1; "
    "self-tuning has its default guess, 1e-3; towers start at "
    f"{TOWER_START}, learned in log space by Adam at {HYPER_RATE}, which the next level learns."
)


@dataclasses.dataclass(frozen=True)
class Settings(workloads.Settings):
    """Settings of the league."""


class Entry(NamedTuple):
    """An optimizer that is run once.

    Attributes:
      name: in tables and logs.
      self_tuned: the optimizer that `jd.self_tuning` tunes; `None` for the others.
    """

    name: str
    self_tuned: str | None = None


def tuning_free(
    settings: Settings, steps: int, *, deterministic: bool = False
) -> dict[Entry, Candidate]:
    """Returns the optimizers that are run once, without tuning.

    Args:
      settings: of the study.
      steps: the number of steps of a trial.
      deterministic: True to include the optimizers for deterministic tasks.
    """
    factories = {name: workloads.FACTORIES[name] for name in settings.optimizers}
    published = {Entry(name): candidate for name, candidate in PUBLISHED.items()}
    warmed_up = contrib.schedule_free_adamw(FIXED_RATE, warmup_steps=_warmup_steps(steps))
    fixed = {Entry("fixed Schedule-Free adamw"): Candidate(warmed_up, last_params=_average)}
    towers = {
        Entry(f"{name}, tower of height {height}"): _tower(factories[name], height)
        for name in ("sgd", "adam")
        if name in factories
        for height in HEIGHTS
    }
    self_tuned = {
        Entry(f"{name} self-tuning", name): trials.self_tuning(factory)
        for name, factory in factories.items()
    }
    found = {**published, **fixed, **towers, **self_tuned}
    if deterministic:
        found |= {Entry(name): make(steps) for name, make in DETERMINISTIC.items()}
    return found


def _tower(factory: Any, height: int) -> Candidate:
    tower: optax.GradientTransformation = optax.adam(HYPER_RATE)
    for _ in range(height - 1):
        tower = jd.hypergradient(optax.adam, tower, tune={"learning_rate": HYPER_RATE})
    tower = jd.hypergradient(factory, tower, tune={"learning_rate": TOWER_START})
    return Candidate(tower, get_rate=trials.learned_rate)


def _warmup_steps(steps: int) -> int:
    return max(1, round(WARMUP * steps))


def warmup_cosine(factory: Any, steps: int) -> Any:
    """Returns the factory with a warmup-cosine schedule that peaks at `learning_rate`."""
    shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, _warmup_steps(steps), steps)

    def scheduled(learning_rate: Any) -> optax.GradientTransformation:
        return factory(lambda count: learning_rate * shape(count))

    return scheduled
