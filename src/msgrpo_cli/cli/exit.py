"""How a command ends: its exit code, one line on stderr for what went wrong, results alone on stdout.

Knows exit codes and streams. Knows nothing about what the commands do.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

from msgrpo_cli.common.console import say
from msgrpo_cli.common.text import one_line
from msgrpo_cli.errors import INTERRUPTED, Interrupted, RunError, UsageError

_NO_PLACE = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
"""Of a place that cannot be used; met before anything is started, since a run tells its own failures."""


@contextlib.contextmanager
def ending(verbose: bool) -> Iterator[None]:
    """Turn whatever leaves a command into its exit code; the traceback is shown with `-v`."""
    try:
        yield
    except Interrupted as problem:
        _leave(problem, problem, problem.exit_code, verbose)
    except KeyboardInterrupt as problem:
        _leave(problem, "interrupted", INTERRUPTED, verbose)
    except (UsageError, RunError) as problem:
        _leave(problem, problem, problem.exit_code, verbose)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except SystemExit:
        raise
    except OSError as problem:
        started = problem.filename is None or problem.errno not in _NO_PLACE
        said = f"{problem.filename or 'stdout'}: {problem.strerror or problem}"
        code = RunError.exit_code if started else UsageError.exit_code
        _leave(problem, said if started else f"{said}; give another place", code, verbose)
    except BaseException as problem:  # noqa: BLE001 - the outermost boundary: users see a line, not a traceback
        _leave(problem, f"{type(problem).__name__}: {one_line(problem)}", RunError.exit_code, verbose)


def _leave(problem: BaseException, message: object, code: int, verbose: bool) -> NoReturn:
    if verbose:
        traceback.print_exception(problem)
    say(message)
    sys.exit(code)
