"""Progress of a run: a live bar in a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar


class Progress:
    """Shows how many steps of a run are done, its loss, steps per second and the time left.

    Args:
      total: number of steps of the whole run.
      every: seconds between lines where the output is not a terminal.

    Attributes:
      done: number of steps that were advanced or skipped.

    Example:
      >>> with Progress(total=2, every=0.0) as progress:
      ...     progress.advance("demo", steps=2, loss=0.25, steps_per_second=100.0)
      demo: 2/2 steps, loss 0.25, 100 steps/s, 0 s left
    """

    def __init__(self, total: int, *, every: float = 5.0):
        self.total, self.every = total, every
        self.done = self._skipped = 0
        self._began = self._last_line = time.monotonic()
        console = Console()
        self._bar = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description:28s}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f}%  {task.fields[numbers]}"),
            )
            self._bar = Bar(*columns, console=console, transient=True)
            self._task = self._bar.add_task("", total=total, numbers="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def extend(self, steps: int) -> None:
        """Counts steps that the total did not include."""
        self.total += steps
        if self._bar:
            self._bar.update(self._task, total=self.total)

    def skip(self, steps: int) -> None:
        """Counts steps that take no time: done before the run was resumed, or never needed."""
        self.done += steps
        self._skipped += steps
        if self._bar:
            self._bar.update(self._task, completed=self.done)

    def advance(
        self, series: str, *, steps: int, steps_per_second: float, loss: float | None = None
    ) -> None:
        """Counts steps that were computed, and shows the numbers."""
        self.done += steps
        now = time.monotonic()
        numbers = [] if loss is None else [f"loss {loss:.3g}"]
        numbers.append(f"{speed(steps_per_second)} steps/s")
        computed = self.done - self._skipped
        if computed:  # else there is no measurement of the time per step
            left = (now - self._began) / computed * max(0, self.total - self.done)
            numbers.append(f"{left:.0f} s left")
        shown = ", ".join(numbers)
        if self._bar:
            self._bar.update(self._task, completed=self.done, description=series, numbers=shown)
        elif now - self._last_line >= self.every or self.done >= self.total:
            print(f"{series}: {self.done}/{self.total} steps, {shown}", flush=True)
            self._last_line = now


def speed(steps_per_second: float) -> str:
    """Returns a number of steps per second as text."""
    return f"{steps_per_second:{',.0f' if steps_per_second >= 10 else '.2g'}}"
