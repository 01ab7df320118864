"""What stands over a run while it works: display, watchdog, the file that tells its phase, and the words in which it
fails.

Knows the run directory, phases and failures. Knows nothing about how to play or train.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from msgrpo_cli.common.console import say
from msgrpo_cli.common.files import write_json
from msgrpo_cli.common.signals import end_at_next_safe_point
from msgrpo_cli.errors import NotFinite, RunError
from msgrpo_cli.runs import checkpoint
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.progress import PhaseFile
from msgrpo_cli.runs.resume import remove_leftovers

from .display import Display
from .failures import Limit, explained, row_to_json
from .parallel.heartbeat import Heartbeat
from .watchdog import Watchdog

_SHOW_CURSOR = "\x1b[?25h"


class Supervision:
    """A context manager around the whole work on one run."""

    def __init__(self, run: Run, total_updates: int, beat: Heartbeat | None = None) -> None:
        self._run, self._beat = run, beat or Heartbeat()
        self.display = Display(total_updates, on_phase=self._at)
        self._watchdog = Watchdog(self.display.say, self._end, self._end_now)
        self._phase_file = PhaseFile(run.progress)

    def __enter__(self) -> Self:
        self._watchdog.__enter__()
        self._phase_file.__enter__()
        self.display.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if error[1] is not None:
            error[1].add_note(f"phase {self._watchdog.phase}")
        self.display.__exit__(*error)
        self._watchdog.__exit__(*error)
        self._phase_file.__exit__(*error)

    def _at(self, name: str, finished: int, total: int) -> None:
        self._watchdog.at(name, finished, total)
        self._phase_file.at(name, finished, total)
        self._beat.at(name, finished, total)

    @contextmanager
    def explaining(
        self, limits: Callable[[], Mapping[str, Limit]], text_of: Callable[[tuple[int, ...]], str]
    ) -> Iterator[None]:
        """Turn what users can mend into RunErrors that say how; what is not finite goes to failure.json.

        `limits()` gives the key that bounds the memory of each phase, `text_of(ids)` the text of token ids.
        """
        try:
            yield
        except Exception as error:
            remove_leftovers(self._run)  # on a full disk that makes room for the record of the end
            last = next(reversed(checkpoint.checkpoints(self._run)), None)
            if isinstance(error, NotFinite):
                rows = [row_to_json(row, text_of(row.prompt_ids), text_of(row.completion_ids)) for row in error.rows]
                write_json(self._run.path / "failure.json", {**error.found, "error": str(error), "rows": rows})
            better = explained(error, self._watchdog.phase, limits(), last.name if last else None)
            if better is None:
                raise
            raise better from error

    def last_words(self) -> None:
        """Mark the run as interrupted where a second signal ends the process at once; called in another thread."""
        self._leave_terminal()
        self._run.finish("interrupted", "ended at once by a second signal")

    def _end(self, reason: str) -> None:
        self.display.say(f"error: {reason}; the run ends")
        end_at_next_safe_point(RunError(reason))

    def _end_now(self, reason: str) -> None:
        self._leave_terminal()
        say(reason)
        self._run.finish("failed", reason)
        os._exit(RunError.exit_code)

    def _leave_terminal(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(_SHOW_CURSOR)
