"""Where a model lies (inside the package, in a local directory or file, on the hub), and whether its files are whole.

Knows paths, the package's assets, the header of a safetensors file and how to ask a hub; a GGUF file is `gguf`'s
business. Knows nothing about torch or transformers.
"""

from __future__ import annotations

import functools
import json
import threading
from importlib.resources import files
from pathlib import Path

from msgrpo_cli.config.schema import ModelConfig
from msgrpo_cli.errors import RunError, UsageError

from .gguf import check_file, files_in, is_gguf

EMBEDDED = "embedded:"
_PATIENCE = 8.0  # seconds to reach a hub
_ADVICE = "give a local directory with model.path=DIR, or model.init=random for random weights"
_LOG_IN = "log in with `hf auth login`, or set the variable HF_TOKEN to a token"
_UNREACHABLE = "no such local directory, not in the local cache, and the hub cannot be reached"
ASSETS = Path(str(files("msgrpo_cli"))) / "assets"


def is_local(path: str) -> bool:
    """Whether `path` names something on this machine rather than on the hub."""
    return path.startswith((EMBEDDED, "/", "./", "../", "~")) or is_gguf(path) or Path(path).is_dir()


def local_path(path: str) -> str:
    """The directory or GGUF file behind `path`; a hub id stays as it is."""
    if path.startswith(EMBEDDED):
        return str(ASSETS / path.removeprefix(EMBEDDED))
    return str(Path(path).expanduser()) if is_local(path) else path


def check_local(path: str) -> None:
    """Raises UsageError where a local path holds no model; hub ids pass."""
    if is_gguf(path):
        return check_file(path)
    folder = Path(local_path(path))
    adapter = (folder / "adapter_config.json").is_file()
    if is_local(path) and not adapter and not (folder / "config.json").is_file():
        named = f"; a GGUF file is named itself: model.path={found[0]}" if (found := files_in(folder)) else ""
        raise UsageError(f"model.path={path}: no model here (no {folder / 'config.json'}){named}")


def architecture_file(name: str) -> Path | None:
    """The config of a named model that ships with the package, for random weights without a download."""
    file = ASSETS / "architectures" / f"{name}.json"
    return file if file.is_file() else None


def check_reachable(config: ModelConfig) -> None:
    """Raises UsageError where a local path holds no model, RunError where a hub cannot be reached; loads nothing."""
    check_local(config.path)
    if (
        is_local(config.path)
        and config.init == "pretrained"
        and not is_gguf(config.path)
        and (problem := problem_with(Path(local_path(config.path))))
    ):
        raise UsageError(f"model.path={config.path}: {problem}")
    known = config.init == "random" and architecture_file(config.name) is not None
    if not is_local(config.path) and not known:
        reach(config.path, config.revision)


@functools.cache
def reach(model_id: str, revision: str | None) -> str:
    """What to load a hub model from: its id where the hub answers, else its folder in the local cache.

    Raises RunError, within ten seconds, where there is neither; a hub that did not answer is not asked again.
    """
    from huggingface_hub import constants

    cached = _cached(model_id, revision, "config.json")
    if constants.HF_HUB_OFFLINE:
        refusal: str | None = "not in the local cache, and HF_HUB_OFFLINE is set"
    else:
        refusal = _asked(model_id, revision)
    if refusal is None:
        return model_id
    if cached is not None:
        return str(cached.parent)
    raise RunError(f"model.path={model_id}: {refusal}; {_ADVICE}")


def fetched(model_id: str, revision: str | None, name: str) -> Path | None:
    """A small file of a hub model, from the cache or the hub; None where it has none or the hub does not answer."""
    from huggingface_hub import constants, hf_hub_download

    cached = _cached(model_id, revision, name)
    if cached is not None or constants.HF_HUB_OFFLINE or reach(model_id, revision) != model_id:
        return cached
    try:
        return Path(hf_hub_download(model_id, name, revision=revision, etag_timeout=5))
    except (OSError, ValueError, RuntimeError):
        return None


def _cached(model_id: str, revision: str | None, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(model_id, name, revision=revision)
    except ValueError as problem:  # not even the form of an id
        raise UsageError(
            f"model.path={model_id}: no such local directory, nor a hub id such as owner/name"
        ) from problem
    return Path(found) if isinstance(found, str) else None


def _asked(model_id: str, revision: str | None) -> str | None:
    """Ask the hub for the model's config.json: None where it would give it, else why not."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of httpx or its successor

    answers: list[str | None] = []

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(model_id, "config.json", revision=revision), timeout=_PATIENCE)
            answers.append(None)
        except (OSError, ValueError, RuntimeError, HTTPError) as error:
            answers.append(_refusal(error, revision))

    worker = threading.Thread(target=ask, daemon=True)
    worker.start()
    worker.join(_PATIENCE)
    return answers[0] if answers else f"{_UNREACHABLE} (no answer within {_PATIENCE:.0f} s)"


def _refusal(error: Exception, revision: str | None) -> str:
    """The hub's answer in words. Never the error's own text alone where a token may help."""
    from huggingface_hub import errors

    for kind, reason in (
        (errors.GatedRepoError, f"a gated model: ask for access on its page on the hub, then {_LOG_IN}"),
        (errors.RepositoryNotFoundError, f"no such model on the hub, or a private one: then {_LOG_IN}"),
        (errors.RevisionNotFoundError, f"model.revision={revision}: no such revision on the hub"),
        (errors.EntryNotFoundError, "the hub has it, but without a config.json"),
    ):
        if isinstance(error, kind):
            return reason
    response = getattr(error, "response", None)
    if response is not None and response.status_code in (401, 403):
        return f"the hub refuses the token that it was given: {_LOG_IN}"
    first_line = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"{_UNREACHABLE} ({first_line})"


_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ELSEWHERE = "adapter_config.json"  # an adapter's weights are its own, its base is named there
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def problem_with(folder: Path) -> str | None:
    """Why the weights in a model directory cannot be loaded; None where nothing speaks against it.

    Pickled weights run code when they are read, so they are never loaded, whatever is asked.
    """
    if (folder / _ELSEWHERE).is_file():
        return None
    if (folder / _INDEX).is_file():
        return _problem_with_shards(folder)
    if (folder / _ONE).is_file():
        return problem_with_file(folder / _ONE)
    if any((folder / name).is_file() for name in _PICKLED):
        return (
            f"{_PICKLED[0]}: pickled weights run code when they are read, so they are never loaded; where you "
            "trust them, load and save them once with transformers, which writes model.safetensors"
        )
    return f"no weights here (no {_ONE})"


def _problem_with_shards(folder: Path) -> str | None:
    try:
        names = set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{_INDEX}: broken: it lists no files"
    problems = (problem_with_file(folder / str(name)) for name in sorted(names, key=str))
    return next((problem for problem in problems if problem is not None), None)


def problem_with_file(file: Path) -> str | None:
    """What is wrong with the length or the header of a safetensors file; its tensors are not read."""
    from safetensors import SafetensorError, safe_open

    try:
        size = file.stat().st_size
        if not file.is_file():
            return f"{file.name}: not a file"
        with safe_open(file, framework="np"):
            return None
    except OSError as error:
        return f"{file.name}: cannot be read: {error.strerror or error}"
    except SafetensorError as error:
        if _CUT in str(error):
            return f"{file.name}: damaged: {size} bytes, not what its header says"
        return f"{file.name}: broken: not a safetensors file: {error}"


_CUT = "incomplete metadata"  # what the safetensors library says where length and header do not agree
