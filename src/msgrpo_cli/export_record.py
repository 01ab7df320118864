"""What an exported folder tells of its run: config, scores, curve, and the commands that made and score it.

Knows run directories and where a card's sections begin. Knows nothing about models or what a card says otherwise.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from msgrpo_cli.common.files import read_json, write_json, write_text
from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.directory import Run

_BEFORE = "\n## Use\n"
"""The section of a card that these stand in front of."""


def add_record(run: Run, checkpoint: Path, folder: Path) -> None:
    """Copy what there is of the run into `folder`, and tell of it in the folder's card."""
    sections = [_commands(run)]
    if run.config.is_file():
        config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        text = yaml.safe_dump(_public(config), sort_keys=False, allow_unicode=True)
        write_text(folder / "run_config.yaml", text)
        sections.append("The whole config of the run is in `run_config.yaml`.")
    if (scores := _scores(run, checkpoint)) is not None:
        write_json(folder / "results.json", scores)
        sections.append("The evaluation above, whole: `results.json`.")
    if run.curve.is_file():
        shutil.copyfile(run.curve, folder / "curve.png")
        sections.insert(0, "## Learning curve\n\n![Total reward by update, of the run](curve.png)")
    card = folder / "README.md"
    before, use, after = card.read_text(encoding="utf-8").partition(_BEFORE)
    write_text(card, "\n\n".join([before.rstrip("\n"), *sections]) + "\n" + use + after)


def _commands(run: Run) -> str:
    given = " ".join(shlex.quote(_public(text)) for text in run.record().get("overrides") or ())
    lines = [f"msgrpo train {given}".strip(), "msgrpo eval .            # scores this folder on held-out starts"]
    return "## Commands\n\n```\n" + "\n".join(lines) + "\n```"


def _scores(run: Run, checkpoint: Path) -> Mapping[str, Any] | None:
    """The final evaluation, where it is that of this checkpoint."""
    try:
        scores = read_json(run.evaluations / "best.json")
    except UsageError:
        return None
    inside = PurePosixPath(*checkpoint.resolve().parts).name
    return scores if PurePosixPath(str(scores.get("checkpoint"))).name == inside else None


def _public(value: Any) -> Any:
    """The same without absolute paths: of those only the last part is told, for a folder travels."""
    if isinstance(value, dict):
        return {key: _public(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_public(inner) for inner in value]
    if isinstance(value, str):
        key, equals, text = value.rpartition("=")
        if text.startswith("/"):
            return f"{key}{equals}{PurePosixPath(text).name}"
    return value
