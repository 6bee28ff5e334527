"""The methods by name. A line of `METHODS` adds one."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import jax
import optax
from optax import contrib

import jaxdescent as jd
from experiments.methods.optimizers import schedule_free_average
from experiments.methods.outcome import Outcome, Trained
from experiments.methods.recipe import Recipe
from experiments.methods.training import Descent, Session, train_agents


def _grid(kind: str, cosine: bool, session: Session, name: str) -> dict[str, Outcome]:
    recipe = session.recipe
    factory = recipe.adam if kind == "adam" else recipe.sgd

    def make(learning_rate: jax.Array) -> optax.GradientTransformation:
        return factory(recipe.scheduled(learning_rate) if cosine else learning_rate)

    descent = Descent(session, name, optax.inject_hyperparams(make)(learning_rate=1.0))
    rates = recipe.rates[0 if kind == "adam" else 1]
    return {f"{rate:g}": descent(rate) for rate in rates}


def _self_tuning(kind: str, session: Session, name: str) -> dict[str, Outcome]:
    factory = session.recipe.adam if kind == "adam" else session.recipe.sgd
    return {"": Descent(session, name, jd.self_tuning(factory), jd.averaged_params)()}


def _prodigy(session: Session, name: str) -> dict[str, Outcome]:
    return {"": Descent(session, name, contrib.prodigy())()}


def _schedule_free(session: Session, name: str) -> dict[str, Outcome]:
    averages = jax.jit(jax.vmap(schedule_free_average))
    return {"": Descent(session, name, contrib.schedule_free_adamw(), averages)()}


def _agents(rule: Callable[[], jd.Rule], session: Session, name: str) -> dict[str, Outcome]:
    return {"": train_agents(session, name, rule())}


class Method(NamedTuple):
    """A way to train.

    Attributes:
      title: in tables and in the names of series.
      train: called as `train(session, title)`; returns the outcomes by learning rate, or one with
        the key "".
    """

    title: str
    train: Callable[[Session, str], dict[str, Outcome]]


METHODS: dict[str, Method] = {
    "adam": Method("Adam, constant", partial(_grid, "adam", False)),
    "adam_cosine": Method("Adam, cosine", partial(_grid, "adam", True)),
    "sgd": Method("SGD, constant", partial(_grid, "sgd", False)),
    "sgd_cosine": Method("SGD, cosine", partial(_grid, "sgd", True)),
    "prodigy": Method("Prodigy", _prodigy),
    "schedule_free": Method("Schedule-Free", _schedule_free),
    "self_tuning": Method("self-tuning Adam", partial(_self_tuning, "adam")),
    "self_tuning_sgd": Method("self-tuning SGD", partial(_self_tuning, "sgd")),
    "agents": Method("agents, pruned", partial(_agents, jd.pruning.successive_halving)),
    "agents_unpruned": Method("agents, unpruned", partial(_agents, jd.pruning.no_pruning)),
}
GRIDS = ("adam", "adam_cosine", "sgd", "sgd_cosine")

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[*METHODS]


def number_of_trainings(recipe: Recipe, name: str) -> int:
    """Returns the number of series of a method, each of `recipe.steps` steps."""
    if name in GRIDS:
        return len(recipe.rates[GRIDS.index(name) // 2])
    return recipe.seeds if name.startswith("agents") else 1


def train_by_all(session: Session, names: Sequence[str]) -> dict[str, Trained]:
    """Trains the networks of a recipe by several methods.

    Args:
      session: the session.
      names: of the methods, keys of `METHODS`. Those that the recipe leaves out are skipped.

    Returns:
      The results by name; `recipe.published` comes last.
    """
    found = {}
    for name in session.recipe.selected(names):
        title, train = METHODS[name]
        found[name] = Trained(title, train(session, title))
    for title, tx in session.recipe.published.items():
        found[title] = Trained(title, {"": Descent(session, title, tx)()})
    return found
