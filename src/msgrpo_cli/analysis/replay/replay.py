"""The replay of a run: its episodes found, chosen, and shown as text, JSON, a page or in the terminal.

Knows the files of a run, and who shows what. Needs neither the game nor the model, so a run replays on any machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from msgrpo_cli.common.files import write_text
from msgrpo_cli.common.text import visible_line
from msgrpo_cli.errors import UsageError, shown
from msgrpo_cli.runs.directory import Run, find_run
from msgrpo_cli.runs.episodes import EpisodeFile, Place, Row

from .selection import Selected, Selection, select, total_regret

_OF_EVALUATION = ".episodes.jsonl"


@dataclass(frozen=True)
class Replay:
    """What was chosen, and where it lies."""

    run: Path
    file: EpisodeFile
    chosen: Selected[Place]
    wanted: Selection

    def rows(self) -> Iterator[tuple[int, Row]]:
        """The number of each episode in its file, and the episode; one at a time."""
        for place in self.chosen.places:
            yield place.number, self.file.at(place)

    def notes(self) -> list[str]:
        """What is shown, in sentences."""
        chosen, shown_ones = self.chosen, len(self.chosen.places)
        asked = f" ({self.wanted})" if str(self.wanted) else ""
        found = [f"{self.file.path.name}: {shown_ones} of {chosen.read} episodes{asked}."]
        if chosen.ranked_by == "regret":
            rest = f"; {chosen.unranked} without any known regret are left out" if chosen.unranked else ""
            found.append(f"The worst first, by total regret{rest}.")
        elif chosen.ranked_by is not None:
            found.append("The worst first, by total reward: no regret is known.")
        if self.file.complaint:
            found.append(self.file.complaint + ".")
        return found


def open_replay(run: str, evaluation: str | None, wanted: Selection) -> Replay:
    """Find the run and choose its episodes. Raises UsageError for what is not there."""
    folder = _folder(run)
    file = EpisodeFile(Run(folder).episodes if evaluation is None else _of_evaluation(folder, evaluation))
    if not file.path.exists():
        raise UsageError(f"{file.path}: no such file; the run has recorded no episode yet")
    return Replay(folder, file, select(file.scan(), wanted), wanted)


def as_data(replay: Replay) -> dict[str, Any]:
    """What `replay --json` prints."""
    return {
        "run": str(replay.run),
        "file": str(replay.file.path.relative_to(replay.run)),
        "episodes_read": replay.chosen.read,
        "episodes_matching": replay.chosen.matching,
        "ranked_by": replay.chosen.ranked_by,
        "unranked": replay.chosen.unranked,
        "episodes": [{"line": line, "total_regret": total_regret(row), **row} for line, row in replay.rows()],
    }


def print_text(replay: Replay) -> None:
    """Every episode as plain lines on stdout."""
    from .steps import lines_of

    count = len(replay.chosen.places)
    for place, (line, row) in enumerate(replay.rows(), 1):
        print("\n".join(lines_of(row, f"episode {place} of {count}, line {line}")))


def write_page(replay: Replay, out: Path) -> None:
    """One HTML page, whole or not at all; beyond its limit, unless one was asked for, episodes at even distances."""
    from .page import LIMIT, page, spread

    places = replay.chosen.places
    if not places:
        raise UsageError(f"{out}: not written: no episode is left by {replay.wanted or 'the file'}")
    explicit = replay.wanted.limit is not None or replay.wanted.worst is not None
    kept = places if explicit else spread(places, LIMIT)
    notes = replay.notes()
    if left := len(places) - len(kept):
        notes.append(f"{len(kept)} of them are here, at even distances; {left} are left out to keep the page small.")
    elif left := replay.chosen.matching - len(places):
        notes.append(f"{left} more match and are left out.")
    rows = [(place.number, replay.file.at(place)) for place in kept]
    write_text(out, page(rows, title=f"Replay of {_title(replay.run)}", notes=[visible_line(note) for note in notes]))


def show_in_terminal(replay: Replay) -> None:
    """Step through the episodes by keys."""
    from .terminal import replay_in_terminal

    @lru_cache(maxsize=4)
    def load(place: int) -> tuple[int, Row]:
        found = replay.chosen.places[place]
        return found.number, replay.file.at(found)

    replay_in_terminal(load, len(replay.chosen.places), _title(replay.run))


def tell(lines: list[str]) -> None:
    """On stderr, which is for all but results."""
    for line in lines:
        print(visible_line(line), file=sys.stderr)


def print_json(replay: Replay) -> None:
    print(json.dumps(as_data(replay), allow_nan=False))


def _folder(text: str) -> Path:
    """As `find_run`; a folder that holds no more than config.yaml and episodes replays, too."""
    path = Path(text)
    return (
        path if path.is_dir() and (Run(path).episodes.is_file() or Run(path).evaluations.is_dir()) else find_run(text)
    )


def _of_evaluation(run: Path, name: str) -> Path:
    known = sorted(path.name.removesuffix(_OF_EVALUATION) for path in Run(run).evaluations.glob(f"*{_OF_EVALUATION}"))
    if name not in known:
        raise UsageError(f"--eval {shown(name)}: no such evaluation in {run}; there are {', '.join(known) or 'none'}")
    return Run(run).evaluations / f"{name}{_OF_EVALUATION}"


def _title(run: Path) -> str:
    """The run's name, with game and model where config.yaml tells them."""
    name = visible_line(run.absolute().name)
    try:
        config = yaml.safe_load(Run(run).config.read_text(encoding="utf-8"))
        return f"{name}: {visible_line(str(config['model']['name']))} on {visible_line(str(config['env']['name']))}"
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return name
