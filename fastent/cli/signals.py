"""Ctrl-C and SIGTERM: leave at the next safe point with the checkpoint written."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(BaseException):
    """The command was asked to leave."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Signals:
    """Handlers in force inside ``with``.

    Outside ``patient`` stretches the signal raises at once; inside it only sets ``received``,
    for a loop that looks at it. A second signal always raises.
    """

    CAUGHT = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self.patient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in self.CAUGHT:
                if signal.getsignal(number) != signal.SIG_IGN:  # as nohup and & want it
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.patient and self.received is None:
            self.received = number
        else:
            self.received = number
            raise Interrupted(number)

    def check(self) -> None:
        """Leave if a signal came during a patient stretch."""
        if self.received is not None:
            raise Interrupted(self.received)
