"""Settings of the study of language models."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from experiments import methods
from experiments.runner.run_folder import newest_run

EVALUATED = 400
"""Windows of a part to evaluate small transformers on, below scale full."""


@dataclasses.dataclass(frozen=True)
class Settings(methods.Settings):
    """Settings of the study."""

    may_change: ClassVar = (*methods.Settings.may_change, "tasks")
    least: ClassVar = {**methods.Settings.least, "rank": 1}
    tasks: tuple[
        Literal[
            "topics",
            "topics_bytes",
            "topics_pairs",
            "shakespeare",
            "war_and_peace",
            "nanogpt",
            "nanogpt_gpu",
            "gpt2",
        ],
        ...,
    ] = (
        "topics",
        "topics_bytes",
        "topics_pairs",
        "shakespeare",
        "war_and_peace",
        "nanogpt",
        "nanogpt_gpu",
        "gpt2",
    )
    """Tasks: topics of Python's help as characters, bytes and byte pairs; Tiny Shakespeare and War
    and Peace as characters; nanoGPT's settings for Tiny Shakespeare on a CPU and on a GPU, and a
    transformer of 124 million parameters on byte pairs of War and Peace. The last two are trained
    at scale full only."""
    fine_tune: Path | None = None
    """Folder of a run of train with a transformer on a text, or last for the newest: instead of the
    tasks, low-rank changes of its weights are trained on --fine-tune-on. The tokenizers byte and
    byte_pair of train can express every text, character only the characters of its own text."""
    fine_tune_on: str = "tinyshakespeare"
    """Text to fine-tune on, with the run's tokenizer: the name of a text or a .txt file."""
    rank: int = 4
    """Rank of the changes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fine_tune == Path("last"):
            object.__setattr__(self, "fine_tune", newest_run(self.runs, "train"))
