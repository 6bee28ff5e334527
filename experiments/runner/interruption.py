"""Graceful stop on Ctrl-C or SIGTERM: after a chunk or a series, when the state can be saved."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import NoReturn, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOPPING = (
    b"\nstopping at the next safe point (the end of this series or chunk); "
    b"interrupt again to stop at once\n"
)


class Interrupted(Exception):  # noqa: N818  a request, not an error
    """The run stopped because of a signal, after it saved its state.

    Attributes:
      signal: number of the signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number


class Interruption:
    """Context in which the first signal is recorded and the second one stops at once.

    It does nothing outside the main thread, because Python handles signals only there.

    Example:
      >>> with Interruption() as interruption:
      ...     interruption.check()  # raises `Interrupted` after a signal
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._previous_handlers: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        """True after a signal."""
        return self._received is not None

    def check(self) -> None:
        """Raises `Interrupted` after a signal."""
        if self._received is not None:
            raise Interrupted(self._received)

    def stop(self) -> NoReturn:
        """Raises `Interrupted`, also if another process of the run got the signal."""
        raise Interrupted(self._received or signal.SIGTERM)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous_handlers = {
                number: signal.signal(number, self._receive) for number in _SIGNALS
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)  # pyrefly: ignore[bad-argument-type]
        self._previous_handlers = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._received is not None:
            raise KeyboardInterrupt
        self._received = number
        # A handler may not print: it may have interrupted a print.
        os.write(2, _STOPPING)
