"""Ctrl-C and SIGTERM as a wish, granted between two chunks, when everything can be saved."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818  it is no error
    """The run was asked to stop, and has saved what it had.

    Attributes:
      signal: the number of the signal that asked.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number


class Interruption:
    """While it is entered, the first signal is noted, and the second stops at once.

    In a thread other than the main one, where Python takes no signals, it does nothing.

    Example:
      >>> with Interruption() as interruption:
      ...     interruption.check()  # raises `Interrupted` once a signal has come
    """

    def __init__(self) -> None:
        self._came: int | None = None
        self._before: dict[int, object] = {}

    @property
    def wanted(self) -> bool:
        """Whether a signal has come."""
        return self._came is not None

    def check(self) -> None:
        """Raises `Interrupted` if a signal has come."""
        if self._came is not None:
            raise Interrupted(self._came)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._note) for each in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyrefly: ignore[bad-argument-type]
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._came is not None:
            raise KeyboardInterrupt
        self._came = number
        # A handler may not print: it may have interrupted a print.
        os.write(2, b"\nstopping after this chunk; once more to stop at once\n")
