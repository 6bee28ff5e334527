"""The tasks of the study and how they are trained.

The residual network has 20 layers and its published recipe: SGD with momentum .9 and learning rate
.1, divided by 10 after 32,000 and 48,000 of 64,000 steps, batches of 128, L2 regularization 1e-4,
random crops and flips, for a test accuracy of 91.25% (K. He, X. Zhang, S. Ren, J. Sun 2015,
arXiv:1512.03385, section 4.2 and table 6). At scale small it is trained for 10 epochs on a tenth of
the images, with a schedule of the same shape.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import optax

from experiments import methods, tasks
from experiments.data import DataError
from experiments.studies.vision.augmentation import augmented
from experiments.tasks import ModelConfig

L2, RATE, BATCH_SIZE = 1e-4, 0.1, 128
AT_FULL = 64_000
EPOCHS_OF_SUBSET = 10
ONCE = ("prodigy", "schedule_free", "self_tuning", "self_tuning_sgd")
"""Methods that train once, for tasks on which a grid takes hours."""


@dataclasses.dataclass(frozen=True)
class Settings(methods.Settings):
    """Settings of the study."""

    may_change: ClassVar = (*methods.Settings.may_change, "tasks")
    tasks: tuple[Literal["digits", "mnist", "cifar10", "resnet20"], ...] = (
        "digits",
        "mnist",
        "cifar10",
        "resnet20",
    )
    """Tasks: a perceptron on digits and on MNIST, a small convolutional network on CIFAR-10, and
    ResNet-20 on it."""


def recipes(settings: Settings) -> tuple[list[methods.Recipe], list[str]]:
    """Returns the recipes, and a note on each task whose data is missing."""
    found, notes = [], []
    for name in settings.tasks:
        try:
            found.append(RECIPES[name](settings))
        except DataError as error:
            notes.append(f"{name} was left out: {error}")
    return found, notes


def _digits(settings: Settings) -> methods.Recipe:
    task = tasks.load("digits", ModelConfig("mlp"))
    return methods.Recipe(
        title="digits", task=task, steps=1_000, batch_size=64, seed=settings.seed, seeds=3
    )


def _mnist(settings: Settings) -> methods.Recipe:
    model = ModelConfig("cnn" if settings.scale == "full" else "mlp")
    task = tasks.load("mnist", model, data_dir=settings.data_dir)
    return methods.Recipe(
        title="MNIST", task=task, steps=2_000, batch_size=64, seed=settings.seed, seeds=2
    )


def _cifar10(settings: Settings) -> methods.Recipe:
    task = _cifar10_task(settings, ModelConfig("cnn"))
    return methods.Recipe(
        title="CIFAR-10, small network",
        task=task,
        steps=5_000 if settings.scale == "full" else 140,
        batch_size=BATCH_SIZE,
        seed=settings.seed,
        agents=8,
    )


def _resnet20(settings: Settings) -> methods.Recipe:
    task = augmented(_cifar10_task(settings, ModelConfig("resnet", depth=20)))
    full = settings.scale == "full"
    epochs = EPOCHS_OF_SUBSET * (task.train.examples // BATCH_SIZE)
    steps = AT_FULL if full else epochs
    schedule = optax.piecewise_constant_schedule(RATE, {steps // 2: 0.1, 3 * steps // 4: 0.1})
    recipe = methods.Recipe(
        title="CIFAR-10, ResNet-20",
        task=task,
        steps=steps,
        batch_size=BATCH_SIZE,
        seed=settings.seed,
        sgd=_regularized_sgd,
        published={"published schedule": _regularized_sgd(schedule)},
    )
    return recipe if full else dataclasses.replace(recipe, methods=ONCE)


def _cifar10_task(settings: Settings, model: ModelConfig) -> tasks.Task:
    """Returns the task with all images, or with the subset at smaller scales."""
    name = "cifar10" if settings.scale == "full" else "cifar10_subset"
    return tasks.load(name, model, data_dir=settings.data_dir)


def _regularized_sgd(learning_rate: Any) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(L2), optax.sgd(learning_rate, momentum=0.9))


RECIPES: dict[str, Callable[[Settings], methods.Recipe]] = {
    "digits": _digits,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "resnet20": _resnet20,
}
