"""Settings of a training run."""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar, Literal, Self

from experiments import runner, tasks
from experiments.methods.optimizers import OPTIMIZERS, OptimizerName
from experiments.models.transformer import SIZES
from experiments.runner.run_folder import newest_run, steps_done
from experiments.runner.settings import flag
from experiments.studies.train.rules import RuleName

SERIES = "train"
"""The name of the run's only series in its log and among its checkpoints."""
BATCH_SIZE = 64
"""Number of examples of an optimizer step by default, if there are as many."""
STEPS = {"smoke": 20, "small": 2_000, "full": 20_000}
_POSITIVE = [
    *("width", "depth", "context", "window", "vocabulary_size", "batch_size", "accumulate"),
    *("seeds", "steps", "evaluate_every", "evaluate_on", "patience"),
]


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of a training run."""

    may_change: ClassVar = (
        *runner.Settings.may_change,
        *("steps", "patience", "sample", "data_dir", "mesh"),
    )
    least: ClassVar = {
        **runner.Settings.least,
        **dict.fromkeys(_POSITIVE, 1),
        "tower": 0,
        "sample": 0,
    }
    data: str = "digits"
    """Name of a data set, or path of a file: .csv or .csv.gz (a table, see --target), .npz (arrays
    x and y, or x_train, y_train, x_test and y_test), .txt or .txt.gz (a text)."""
    target: str | None = None
    """Column of a .csv file to predict from the others. Columns of numbers are standardized; a
    column of at most 20 different texts becomes one input per text."""
    task: Literal["classification", "regression"] | None = None
    """Task of a .csv or .npz file. By default classification if the target has texts or, in a
    .csv, at most 20 different whole numbers or, in a .npz, whole numbers; otherwise regression."""
    ignore: tuple[str, ...] = ()
    """Columns of a .csv file that are not used, such as an id."""
    data_dir: Path | None = None
    """Folder of the data files; by default the environment variable JAXDESCENT_DATA."""
    model: Literal["auto", "mlp", "cnn", "resnet", "transformer", "lstm", "gru", "tcn"] = "auto"
    """Model; auto is a transformer for a text, an lstm for a series and an mlp for other data."""
    size: str | None = None
    """Size of a transformer: 0.1M (the default), 0.8M, 3M, 11M, 25M or 124M."""
    positions: Literal["learned", "rotary"] | None = None
    """Position encoding of a transformer; by default learned."""
    bias: bool | None = None
    """Give a transformer biases, as GPT-2 has; by default it has no biases."""
    width: int | None = None
    """Width of the hidden layers, if the model has this option; by default 128."""
    depth: int | None = None
    """Number of hidden layers, if the model has this option; 6n + 2 for a resnet."""
    dropout: float | None = None
    """Dropout probability in [0, 1), if the model has this option; by default 0."""
    tokenizer: Literal["character", "byte", "byte_pair"] | None = None
    """Tokenizer of a text; by default character."""
    vocabulary_size: int | None = None
    """Number of tokens of the byte_pair tokenizer; by default 1,024."""
    context: int | None = None
    """Context length of a language model in tokens; by default from --size, or 64."""
    window: int | None = None
    """Number of past rows of a series that a forecast uses; by default 20."""
    optimizer: OptimizerName = "adam"
    """The optimizer; schedule_free is AdamW, and is evaluated at its average."""
    learning_rate: float | None = None
    """Learning rate: the peak of the schedule, or the initial one with --tower. With --self-tuning
    it is a guess, which matters only below 1e-8; with prodigy it multiplies the learning rate that
    prodigy finds. By default 1 for prodigy, 0.0025 for schedule_free and 0.001 for others; with
    --self-tuning none is needed."""
    weight_decay: float | None = None
    """Weight decay of adamw, lion, muon, prodigy and schedule_free; by default optax's."""
    b2: float | None = None
    """Decay of the second moment in adam, adamw, lion and schedule_free; by default optax's."""
    clip: float | None = None
    """Largest norm of the gradient; by default gradients are not clipped."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine has a linear warmup over 5% of the steps, then decays to a tenth of the peak."""
    tower: int = 0
    """Height of the tower of optimizers that learns the learning rate; 0 keeps it fixed."""
    self_tuning: bool = False
    """Use jd.self_tuning, and evaluate at the average of the parameters."""
    agents: int | None = None
    """Train this many networks, agents, and prune them by --rule. Each has its own learning rate,
    from a hundredth to a hundred times --learning-rate, and, if the optimizer has one and it is not
    given, its own weight decay, from 1e-4 to 1, both log-uniform. The agent with the lowest
    validation loss wins."""
    rule: RuleName | None = None
    """Rule that prunes agents at each evaluation, by default successive_halving: by default there
    are ten evaluations, and 16 agents take 22.5% of the steps that they would take without
    pruning."""
    steps: int | None = None
    """Optimizer steps; by default 20, 2,000 or 20,000, depending on the scale. A run can be
    resumed with more steps, unless its schedule is cosine."""
    batch_size: int | None = None
    """Examples per optimizer step; by default 64, or all of a smaller training part."""
    accumulate: int = 1
    """Gradient accumulation: number of parts into which a batch is split to save memory."""
    stream: bool = False
    """Keep the training data on the host and send batches, for data larger than the device."""
    evaluate_every: int | None = None
    """Steps between evaluations; must divide --steps. By default about a fortieth, with --agents a
    tenth, of the --steps that the run was started with."""
    evaluate_on: int | None = None
    """Largest number of examples to evaluate on; by default 500 at smoke, otherwise all."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the computation; parameters and optimizer state are float32."""
    seeds: int = 1
    """Networks trained in parallel, each with its own initialization and data order."""
    sample: int = 200
    """Number of tokens that a language model generates at the end, at most its context."""
    patience: int | None = None
    """Stop after this number of evaluations without improvement; by default never."""
    warm_start: Path | None = None
    """Folder of a run of train to start from, or last for the newest: its best parameters, or else
    its last ones. The order of the examples is a new one, derived from --seed and from the number
    of steps that lie behind those parameters."""

    mesh: str | None = None
    """Devices to divide the work among, such as agents=4,data=2: axes of networks (agents, of
    --agents or --seeds), of a batch (data), and of a batch and the parameters (fsdp). By default
    one device has all. A run can be resumed on another mesh."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_ranges()
        self._check_combinations()
        if tasks.file_kind(self.data):  # so that it is found from any folder
            object.__setattr__(self, "data", str(Path(self.data).expanduser().absolute()))
        if self.warm_start == Path("last"):
            object.__setattr__(self, "warm_start", newest_run(self.runs, "train"))
        if not self.self_tuning:  # which finds it
            object.__setattr__(self, "learning_rate", self.rate)
        # A resumed run keeps its interval, also if it is given more steps.
        object.__setattr__(self, "evaluate_every", self.steps_per_chunk)

    def _check_ranges(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value >= 2**31:
                raise ValueError(f"{flag(name)} must be in [1, {2**31}), got {value}")
        if self.size is not None and self.size not in SIZES:
            raise ValueError(f"--size must be one of {', '.join(SIZES)}, got {self.size!r}")
        if self.weight_decay is not None and not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"--weight-decay must be in [0, inf), got {self.weight_decay}")
        if self.b2 is not None and not 0 <= self.b2 < 1:
            raise ValueError(f"--b2 must be in [0, 1), got {self.b2}")
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"--learning-rate must be in (0, inf), got {self.learning_rate}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"--clip must be in (0, inf), got {self.clip}")

    def _check_combinations(self) -> None:
        every = self.evaluate_every or 1
        if self.total_steps % every:
            less = self.total_steps // every * every
            raise ValueError(
                f"--evaluate-every must divide the {self.total_steps} steps, got {every}; "
                f"--steps {f'{less} or ' if less else ''}{less + every} would do"
            )
        if self.total_steps > 2 * self.evaluations * self.steps_per_chunk and (
            not self.evaluate_every
        ):
            part = "tenth" if self.agents else "fortieth"
            raise ValueError(
                f"--steps must have a divisor near a {part} of it, got {self.total_steps}; "
                "choose a rounder number, or set --evaluate-every"
            )
        self._check_agents()
        self._check_mesh()
        for name in ("weight_decay", "b2"):
            if getattr(self, name) is not None and not OPTIMIZERS[self.optimizer].takes(name):
                raise ValueError(f"{flag(name)} must be left out with {self.optimizer}")
        if self.tower and self.self_tuning:
            raise ValueError(f"--tower must be 0 with --self-tuning, got {self.tower}")
        learner = "--self-tuning" if self.self_tuning else "--tower"
        remedy = OPTIMIZERS[self.optimizer].remedy
        if self.learns_rate and remedy:
            raise ValueError(
                f"{learner} must be left out with {self.optimizer}, {remedy}; choose another "
                "--optimizer, such as adam"
            )
        if remedy and self.schedule != "constant":
            raise ValueError(
                f"--schedule must be constant with {self.optimizer}, {remedy}, got {self.schedule}"
            )
        if self.learns_rate and self.schedule != "constant":
            raise ValueError(
                f"--schedule must be constant with {learner}, which learns the learning rate, "
                f"got {self.schedule}"
            )
        batch_size = self.batch_size or BATCH_SIZE
        if batch_size % self.accumulate:
            raise ValueError(
                f"--accumulate must divide --batch-size {batch_size}, got {self.accumulate}"
            )

    def _check_agents(self) -> None:
        if self.agents is None:
            if self.rule:
                raise ValueError(f"--rule must be left out without --agents, got {self.rule}")
            return
        reasons = {
            "tower": "whose learning rates are fixed",
            "self_tuning": "whose learning rates are fixed",
            "warm_start": "which start from random parameters",
            "patience": "which --rule prunes",
            "stream": "which share the data on the device",
            "seeds": "each of which is a network",
            "accumulate": "which cannot split batches",
        }
        for name, reason in reasons.items():
            value = getattr(self, name)
            if value != type(self).__dataclass_fields__[name].default:
                raise ValueError(f"{flag(name)} must be left out with --agents, {reason}")
        if OPTIMIZERS[self.optimizer].averages:
            raise ValueError(
                f"--optimizer must evaluate its parameters with --agents, got {self.optimizer}, "
                "which averages them; choose another, such as adamw"
            )
        if self.agents < 2:
            raise ValueError(f"--agents must be in [2, inf), got {self.agents}")

    def _check_mesh(self) -> None:
        axes = self.axes
        networks = "agents" if self.agents else "seeds"
        count, devices = getattr(self, networks), axes.get("agents", 1)
        if count % devices:
            raise ValueError(
                f"{flag(networks)} must be a multiple of {devices}, the axis agents of --mesh, "
                f"got {count}"
            )
        if self.batch_size:
            self.check_divided(self.batch_size)

    def check_divided(self, batch_size: int) -> None:
        """Checks that the mesh divides a batch, and its parts with `--accumulate`."""
        devices = math.prod(self.axes.get(axis, 1) for axis in ("data", "fsdp"))
        if batch_size // self.accumulate % devices:
            raise ValueError(
                f"--batch-size must be a multiple of {devices * self.accumulate}, so that --mesh "
                f"divides {'its parts' if self.accumulate > 1 else 'it'}, got {batch_size}"
            )

    @property
    def axes(self) -> dict[str, int]:
        """Sizes of the axes of the mesh by name; empty without one."""
        if self.mesh is None:
            return {}
        return runner.parse_mesh(self.mesh, runner.AXES[:2] if self.agents else runner.AXES)

    def check_resume(self, saved: Self, folder: Path) -> None:
        """Checks that the run ends as if it had been started with these settings."""
        super().check_resume(saved, folder)
        if self.total_steps != saved.total_steps and self.schedule == "cosine":
            raise ValueError(
                f"--steps must be {saved.total_steps} with --schedule cosine, whose learning rate "
                f"depends on the number of steps, got {self.total_steps}"
            )
        if self.total_steps != saved.total_steps and self.rule == "predicted_to_lose":
            raise ValueError(
                f"--steps must be {saved.total_steps} with --rule predicted_to_lose, which "
                f"predicts the loss at the last step, got {self.total_steps}"
            )
        if self.total_steps < (done := steps_done(folder)):
            raise ValueError(
                f"--steps must be at least the {done} steps that {folder} has done, "
                f"got {self.total_steps}"
            )
        if (self.patience or math.inf) < (saved.patience or math.inf):
            least = f"at least {saved.patience}" if saved.patience else "left out"
            raise ValueError(
                f"--patience must be {least}, as when {folder} was started, got {self.patience}"
            )

    @property
    def learns_rate(self) -> bool:
        """True if the optimizer learns its learning rate."""
        return self.self_tuning or self.tower > 0

    @property
    def rate(self) -> float:
        """The learning rate, by default the optimizer's."""
        if self.learning_rate is None:
            return OPTIMIZERS[self.optimizer].learning_rate
        return self.learning_rate

    @property
    def total_steps(self) -> int:
        """The number of optimizer steps."""
        return self.steps or STEPS[self.scale]

    @property
    def evaluations(self) -> int:
        """The number of evaluations by default, approximately."""
        return 10 if self.agents else 40

    @property
    def steps_per_chunk(self) -> int:
        """The number of steps between two evaluations."""
        steps = self.total_steps
        wanted = max(1 if self.agents else 10, steps // self.evaluations)
        divisors = (every for every in range(min(wanted, steps), 0, -1) if steps % every == 0)
        return self.evaluate_every or next(divisors)
