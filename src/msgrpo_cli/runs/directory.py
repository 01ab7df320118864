"""The run directory: what a run leaves behind, by its names, and the record of its state.

Knows the files of a run and `run.json`. Knows nothing about models, games or training.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import psutil

from msgrpo_cli.common.files import SCHEMA, read_json, refuse_newer, write_json, write_text
from msgrpo_cli.common.lock import locked
from msgrpo_cli.errors import UsageError, shown

Status = Literal["running", "done", "failed", "interrupted"]
_RECORDED_PACKAGES = (
    "msgrpo",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "hydra-core",
    "gymnasium",
    "numpy",
)

_IMPORTED = time.monotonic()
_AGE_AT_IMPORT = time.time() - psutil.Process().create_time()  # later the clock may have been set

_PLACES = ("outputs/*/*/run.json", "multirun/*/*/*/run.json")  # below the current directory


@dataclass(frozen=True)
class Run:
    """One run directory; its files by name."""

    path: Path

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def episodes(self) -> Path:
        return self.path / "episodes.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def evaluations(self) -> Path:
        return self.path / "eval"

    @property
    def curve(self) -> Path:
        return self.path / "curve.png"

    @property
    def progress(self) -> Path:
        """What the run is doing; there while it works."""
        return self.path / "progress.json"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def reference(self) -> Path:
        """Weights of the KL reference, where there is one."""
        return self.path / "reference"

    @property
    def pool(self) -> Path:
        """Earlier weights that sit on seats, where there are some."""
        return self.path / "pool"

    @property
    def _names(self) -> tuple[Path, ...]:
        """What a run writes under its own name."""
        return (
            self.metrics,
            self.episodes,
            self.checkpoints,
            self.evaluations,
            self.curve,
            self.progress,
            self.config,
            self.reference,
            self.pool,
        )

    def record(self) -> dict[str, Any]:
        """What run.json says. Raises UsageError where there is none."""
        record = read_json(self.path / "run.json")
        if not isinstance(record, dict):
            raise UsageError(f"{self.path / 'run.json'}: broken: not an object")
        for name in ("summary", "versions"):
            if not isinstance(record.get(name) or {}, dict):
                raise UsageError(f"{self.path / 'run.json'}: broken: its {name} is not an object")
        refuse_newer(self.path / "run.json", record.get("schema", 0), SCHEMA)
        return record

    def update_record(self, **fields: Any) -> None:
        """Set fields of run.json."""
        path = self.path / "run.json"
        write_json(path, {**(read_json(path) if path.exists() else {}), **fields})

    def create(self, *, command: list[str], overrides: list[str], config: str) -> None:
        """Make a run of a directory: its config, and a record that it exists. Raises UsageError where one is there.

        Before `run.json` there is no run; from then on it can be resumed, whatever happens.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._refuse_what_is_there()  # before the lock names this process in it
        with locked(self.path):
            self._refuse_what_is_there()
            write_text(self.config, config)
            self.update_record(
                schema=SCHEMA, status="running", error=None, command=command, overrides=overrides, start=now()
            )

    def _refuse_what_is_there(self) -> None:
        if is_run(self.path):
            raise UsageError(
                f"hydra.run.dir={self.path}: holds a run already; go on with msgrpo train --resume {self.path}"
            )
        if strangers := sorted(path.name for path in self._names if path.exists()):
            raise UsageError(
                f"hydra.run.dir={self.path}: holds {strangers[0]}, which is no run's and would be overwritten; give "
                "another directory"
            )

    def begin(
        self, *, command: list[str], overrides: list[str], config_hash: str, device: str, threads: int
    ) -> dict[str, Any]:
        """Mark as running; on resume the first command and start, and what is known of scores, stay.

        Returns the record before.
        """
        before = self.record() if is_run(self.path) else {}
        known = before.get("overrides") or []
        if before.get("pid") is None and overrides:  # nothing went before
            known = []
        self.update_record(
            schema=SCHEMA,
            status="running",
            error=None,
            command=before.get("command") or command,
            overrides=[*known, *(text for text in overrides if text not in known)],
            config_hash=config_hash,
            versions=_versions(),
            commit=_commit(_program()),
            device=device,
            threads=threads,
            pid=os.getpid(),
            host=socket.gethostname(),
            start=before.get("start") or now(),
            began=now(),
            end=None,
            summary=before.get("summary") or {},
        )
        return before

    def finish(self, status: Status, error: str | None = None) -> None:
        """Mark the end, with the seconds that the process has lived and computed."""
        process = psutil.Process()
        used = process.cpu_times()
        self.update_record(
            status=status,
            error=error,
            end=now(),
            process_wall_seconds=round(_AGE_AT_IMPORT + time.monotonic() - _IMPORTED, 2),
            process_cpu_seconds=round(used.user + used.system, 2),
        )


def left_interrupted(run: Run) -> str | None:
    """Mark a run as interrupted; returns the command that goes on with it, None where somebody has marked it before."""
    with contextlib.suppress(OSError, UsageError):
        if run.record().get("status") == "running":
            run.finish("interrupted")
            return f"msgrpo train --resume {shlex.quote(str(run.path.absolute()))}"
    return None


def now() -> str:
    """The present moment as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def is_run(path: Path) -> bool:
    """Whether a directory holds a run."""
    return (path / "run.json").is_file()


def known_runs(root: Path) -> list[Path]:
    """The runs in outputs/ and multirun/, by the day or sweep they lie in and their names."""
    return sorted((p.parent for place in _PLACES for p in root.glob(place)), key=lambda p: (p.parent.name, p.name))


def find_run(text: str, root: Path = Path(".")) -> Path:
    """The run that `text` names: a run directory, `last`, or the beginning of the name of one in outputs/ or multirun/.

    Raises UsageError where none or several fit.
    """
    path = Path(text)
    if path.is_dir():
        if is_run(path):
            return path
        if (path / "sweep.json").is_file():
            raise UsageError(f"{shown(text)}: a sweep, not a run; name one of its jobs, or see msgrpo report {text}")
        raise UsageError(f"{shown(text)}: not a run directory (it has no run.json)")
    known = known_runs(root)
    if text == "last" and known:
        return max(known, key=lambda p: str(read_json(p / "run.json").get("start")))
    fitting = [p for p in known if p.name == text] or [p for p in known if p.name.startswith(text)]
    if len(fitting) == 1 and text != "last":
        return fitting[0]
    found = f"{len(fitting)} runs begin so: " + ", ".join(p.name for p in fitting[:5]) if fitting else "no such run"
    raise UsageError(
        f"{shown(text)}: {found}; give a run directory, `last`, or the beginning of one name under outputs/ or "
        "multirun/"
    )


def surroundings() -> dict[str, str | None]:
    """What `begin` records of the program: its commit, and the versions of what it computes with."""
    return {"commit": _commit(_program()), **_versions()}


def _program() -> Path:
    return Path(str(files("msgrpo_cli")))


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for name in _RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _commit(program: Path) -> str | None:
    """The commit of the checkout that the folder of the program belongs to; None elsewhere.

    With -dirty where the program or its conf was changed; records beside them may grow while they are made.
    """
    if not _git(program, "ls-files", "--", "."):  # installed, perhaps below somebody else's checkout
        return None
    changed = _git(program, "status", "--porcelain", "--", ":/src", ":/conf")
    return f"{_git(program, 'rev-parse', 'HEAD')}{'-dirty' if changed else ''}"


def _git(folder: Path, *arguments: str) -> str:
    """What git says in a folder; nothing where it fails."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()


def tell_how_to_go_on(run: Run) -> None:
    """Mark a run that was ended as interrupted, and say once how it goes on."""
    if (command := left_interrupted(run)) is not None:
        print(f"go on with: {command}", file=sys.stderr)
