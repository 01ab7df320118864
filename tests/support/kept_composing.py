"""Hydra's composing, each part of it once a process: in tests the same files are composed thousands of times.

Kept are what the text of a file reads as and, of our own files alone, what the same choices of groups come to. Values
are set by Hydra each time, on a copy; kept as bytes, which are copied in half the time of a tree and which the garbage
collector does not look through. Nothing of ours is replaced; tests/config/test_compose_kept.py compares.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import SimpleNamespace
from typing import IO, Any, cast
from unittest.mock import patch

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from msgrpo_cli.config.compose import config_dir

_compose = ConfigLoaderImpl._compose_config_from_defaults_list


class _KeptList(list[Any]):
    """Of defaults; what they come to is added when it is composed."""

    config: bytes | None = None


class _Kept:
    def __init__(self) -> None:
        self._ours = str(config_dir())
        self._files: dict[str, bytes] = {}
        self._lists: dict[object, DefaultsList] = {}

    def load(self, file: IO[str]) -> Any:
        text = file.read()
        if text not in self._files:
            file.seek(0)  # so that a mistake is told with the file's name
            self._files[text] = pickle.dumps(OmegaConf.load(file))
        return pickle.loads(self._files[text])

    def defaults_list(self, repo: Any, overrides_list: list[Any], **more: Any) -> DefaultsList:
        sources = tuple((source.scheme(), source.path, source.provider) for source in repo.get_sources())
        if any(scheme == "file" and path != self._ours for scheme, path, _ in sources):
            return create_defaults_list(repo=repo, overrides_list=overrides_list, **more)
        given = Overrides(repo=repo, overrides_list=overrides_list)
        values = set(map(id, given.config_overrides))
        choices = tuple(str(override.input_line) for override in overrides_list if id(override) not in values)
        asked = sources, tuple(sorted(more.items())), choices
        if asked not in self._lists:
            found = create_defaults_list(repo=repo, overrides_list=overrides_list, **more)
            found.defaults = _KeptList(found.defaults)
            self._lists[asked] = found
        found = self._lists[asked]
        return DefaultsList(found.defaults, found.defaults_tree, given.config_overrides, found.overrides)

    def composed(self, loader: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> DictConfig:
        if not isinstance(defaults, _KeptList):
            return _compose(loader, defaults, repo)
        if defaults.config is None:
            defaults.config = pickle.dumps(_compose(loader, defaults, repo))
        return cast(DictConfig, pickle.loads(defaults.config))


@contextmanager
def _in_place(load: Any, defaults_list: Any, composed: Any) -> Iterator[None]:
    Plugins.instance()  # which imports those who read files, as modules of their own
    readers = (SourcesRegistry.instance().resolve(scheme).load_config.__globals__ for scheme in ("file", "pkg"))
    with ExitStack() as stack:
        for names in readers:
            stack.enter_context(patch.dict(names, OmegaConf=SimpleNamespace(load=load)))
        stack.enter_context(patch.object(config_loader_impl, "create_defaults_list", defaults_list))
        stack.enter_context(patch.object(ConfigLoaderImpl, "_compose_config_from_defaults_list", composed))
        yield


def kept_composing() -> AbstractContextManager[None]:
    """For as long as it is open."""
    kept = _Kept()
    composed = lambda loader, defaults, repo: kept.composed(loader, defaults, repo)  # noqa: E731 - a method is bound
    return _in_place(kept.load, kept.defaults_list, composed)


def plain_composing() -> AbstractContextManager[None]:
    """As Hydra does it."""
    return _in_place(OmegaConf.load, create_defaults_list, _compose)
