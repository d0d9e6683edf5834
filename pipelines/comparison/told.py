"""The line of a comparison that says what is being done."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status

from actors.interfaces import Progress

TOLD_EVERY_S = 15.0


@dataclass
class Told:
    """The line that says what is being done: replaced on a terminal, printed now and then elsewhere."""

    console: Console
    status: Status
    about: str
    printed: float = field(default_factory=time.monotonic, init=False)

    def of(self, part: str) -> Progress:
        """Tells how far a part of it is."""

        def progress(done: int, total: int) -> None:
            line = f"{self.about}: {part}, {done} of {total}"
            self.status.update(line)
            if not self.console.is_terminal and time.monotonic() - self.printed > TOLD_EVERY_S:
                self.console.print(line, highlight=False)
                self.printed = time.monotonic()

        return progress
