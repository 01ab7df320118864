"""Secrets that must neither be saved with a run nor shown: how they are recognised, and where they belong instead.

Knows environment variables and the look of a hub's tokens. Knows nothing about configs or who prints.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgrpo_cli.errors import UsageError

_VARIABLES = re.compile(r"[A-Z][A-Z0-9_]*_(TOKEN|API_KEY|PASSWORD)")
_SHORTEST = 8  # a shorter value may be an ordinary word
_LOOKS_LIKE_ONE = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
_KEYS = ("api_key", "hub_token", "password", "token")
_ADVICE = (
    "would be saved with the run; log in with `hf auth login`, or set a variable such as HF_TOKEN or OPENAI_API_KEY, "
    "whose name ends in _TOKEN or _API_KEY"
)


def names_a_secret(variable: str) -> bool:
    """Whether an environment variable holds a secret, by its name, such as HF_TOKEN or OPENAI_API_KEY."""
    return _VARIABLES.fullmatch(variable) is not None


def masked(text: str) -> str:
    """The text without secrets."""
    return _without(_known(), text)


def _without(secrets: Sequence[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return _LOOKS_LIKE_ONE.sub("***", text)


def refuse_in_overrides(overrides: Sequence[str]) -> None:
    """Raises UsageError, which names the key alone, where an override holds a secret."""
    known = _known()
    for text in overrides:
        key, _, value = text.partition("=")
        if _is_secret(key, value, known) or masked(key) != key:
            raise UsageError(f"{masked(key)}: a token on the command line {_ADVICE}")


def refuse_in_config(data: Mapping[str, Any]) -> None:
    """Raises UsageError, which names the key alone, where a composed config holds a secret."""
    known = _known()  # once: there are a hundred keys
    for key, value in _leaves(data):
        if _is_secret(key, value, known):
            raise UsageError(f"{key}: a token in a config {_ADVICE}")


def _is_secret(key: str, value: str, known: Sequence[str]) -> bool:
    name = key.rpartition(".")[2].lstrip("+~")
    named_so = name in _KEYS and value not in ("", "null")
    misplaced = (name == "base_url" and "@" in value) or (name == "key_variable" and not names_a_secret(value))
    return named_so or misplaced or _without(known, value) != value


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", str(value)


def _known() -> list[str]:
    """Longest first, so that no rest of one stays."""
    values = (value.strip() for name, value in os.environ.items() if names_a_secret(name))
    return sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True)
