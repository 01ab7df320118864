"""`msgrpo export`: a model folder of its own out of a run's checkpoint, with the record of the run.

Knows which files of a checkpoint make the model, which only training needs, and where a card's sections begin. Knows
nothing about games or training.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from msgrpo_cli.common.files import put_in_place, read_json, write_json, write_text
from msgrpo_cli.common.text import part_in_words
from msgrpo_cli.config.schema import ModelConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.checkpoint import OF_TRAINING, base_of, describe, find_checkpoint, is_adapter, read_metadata
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.model_card import merged_card
from msgrpo_cli.runs.pretrained import is_local, local_path

from .adapters import name_base
from .loading import load_model, quiet_libraries

_LICENSES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
_OF_ADAPTER = ("adapter_config.json", "adapter_model*")


def export(target: str, folder: Path, *, merge: bool) -> Path:
    """Write the checkpoint that `target` names, or a run's best one, to `folder`: whole or not at all.

    An adapter stays one, and says where its base is, unless `merge` makes a whole model of both. Raises UsageError
    where `folder` holds anything, or the checkpoint or its base is not there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: not empty; give a new folder")
    checkpoint, run = find_checkpoint(target)
    score = read_metadata(checkpoint).get("score")
    told = "not scored yet"
    if score is not None:
        told = f"total reward {score['mean_total_reward']:.3f}, {part_in_words(score.get('split'))}"
    print(f"exporting {checkpoint} ({told})", file=sys.stderr)
    quiet_libraries()
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}.partial")
    try:
        aside.mkdir()
        write = _write_whole if not is_adapter(checkpoint) else _write_merged if merge else _write_adapter
        metadata = write(checkpoint, read_metadata(checkpoint), aside)
        describe(aside, metadata)
        if run is not None:
            add_record(Run(run), checkpoint, aside)
        put_in_place(aside, folder.absolute())
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _write_whole(checkpoint: Path, metadata: dict[str, Any], aside: Path) -> dict[str, Any]:
    """A model without what only training needs. Returns the metadata that fit what was written."""
    _copy(checkpoint, aside)
    _add_license(ModelConfig.model_validate(metadata["model"]), aside)
    return metadata


def _write_adapter(checkpoint: Path, metadata: dict[str, Any], aside: Path) -> dict[str, Any]:
    """The adapter alone, naming its base by hub id or by its place on this machine."""
    base = base_of(checkpoint, metadata)
    path = local_path(base.path)
    _copy(checkpoint, aside)
    name_base(aside, path, base.revision)
    _add_license(base, aside)
    if is_local(base.path):
        print(f"the adapter needs its base at {path}; --merge writes a whole model instead", file=sys.stderr)
    return {**metadata, "base": path if metadata["base"] else None}


def _write_merged(checkpoint: Path, metadata: dict[str, Any], aside: Path) -> dict[str, Any]:
    """The base with the adapter in its weights."""
    base = base_of(checkpoint, metadata)
    here: dict[str, Any] = {"path": str(checkpoint), "init": "pretrained", "revision": None}
    model, _ = load_model(base.model_copy(update=here), merge=True)
    model.save_pretrained(aside)
    _copy(checkpoint, aside, without=_OF_ADAPTER)
    _add_license(base, aside)
    card = aside / "README.md"
    write_text(card, merged_card(card.read_text(encoding="utf-8")))
    if quantization := metadata["lora"]["quantization"]:
        print(
            f"trained on a base in {quantization}, merged into the base as it is stored: answers may differ a little",
            file=sys.stderr,
        )
    return {**metadata, "lora": None, "base": None}


def _add_license(base: ModelConfig, aside: Path) -> None:
    """The texts that must go along with the base's weights, where they lie beside them."""
    if is_local(base.path):
        for file in sorted(Path(local_path(base.path)).glob("*")):
            if file.is_file() and any(fnmatch(file.name, pattern) for pattern in _LICENSES):
                shutil.copyfile(file, aside / file.name)


def _copy(checkpoint: Path, aside: Path, without: tuple[str, ...] = ()) -> None:
    for file in sorted(checkpoint.iterdir()):
        if file.is_file() and not any(fnmatch(file.name, pattern) for pattern in (*OF_TRAINING, *without)):
            shutil.copyfile(file, aside / file.name)  # peft writes weights that only their owner may read


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
    lines = [
        f"msgrpo train {given}".strip(),
        "msgrpo eval .            # scores this folder, on held-out starts if there are any",
    ]
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
