"""The answers that a server has given, kept in a folder: what was answered once is neither asked nor paid for again.

Knows lines of JSON. Knows nothing about servers, games or prices.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msgrpo_cli.common.jsonl import append_lines, cut_lines, length_of_lines, read_lines
from msgrpo_cli.common.lock import locked
from msgrpo_cli.errors import UsageError

_BEGINNING = b'{"request": "'  # of every line


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to one request. Raises ValueError for what is none."""

    text: str
    truncated: bool
    """The token limit ended it."""
    prompt_tokens: int | None
    """As the server counts and bills, as are the next; None where it does not say."""
    completion_tokens: int | None
    model: str | None = None  # not in answers of before it was kept
    """Who answered, by the server's own word."""
    filtered: bool = False  # not in answers of before it was kept
    """The server's content filter withheld it, or cut it."""

    def __post_init__(self) -> None:
        if not (isinstance(self.text, str) and isinstance(self.truncated, bool) and isinstance(self.filtered, bool)):
            raise ValueError(f"an answer of {type(self.text).__name__} in place of text")
        for tokens in (self.prompt_tokens, self.completion_tokens):
            if tokens is not None and (type(tokens) is not int or tokens < 0):
                raise ValueError(f"{tokens!r} tokens")


def request_hash(request: Mapping[str, Any]) -> str:
    """Equal for equal requests."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:32]


@contextmanager
def kept_answers(folder: Path) -> Iterator[KeptAnswers]:
    """Hold a folder, made where there is none, and its answers. Raises UsageError where it cannot be used."""
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder))
            answers = KeptAnswers(folder / "answers.jsonl")
        except OSError as problem:
            raise UsageError(f"api.answers={folder}: cannot be used: {problem.strerror}") from problem
        except UsageError as problem:
            raise UsageError(f"{problem}, or name another folder with api.answers") from problem
        yield answers


class KeptAnswers:
    """A file of answers by the hash of their request.

    A last line that breaks off, as a killed process leaves it, is cut. Raises UsageError, and leaves the file alone,
    where it holds anything else than answers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._refuse_foreign()
        whole = length_of_lines(path, self._is_answer)
        if path.exists() and path.stat().st_size > whole:
            cut_lines(path, whole)
        self._answers = {row["request"]: Answer(**row["answer"]) for row in read_lines(path)}

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, request: str) -> Answer | None:
        """The answer to the request of this hash, where there is one."""
        return self._answers.get(request)

    def keep(self, request: str, answer: Answer, observation: str) -> None:
        """Add an answer to the file. `observation` is for those who read it."""
        self._answers[request] = answer
        append_lines(self.path, [{"request": request, "observation": observation, "answer": asdict(answer)}])

    def _refuse_foreign(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            beginning = file.read(len(_BEGINNING))
        if not _BEGINNING.startswith(beginning):
            raise UsageError(f"{self.path}: no file of answers; move it away")

    def _is_answer(self, row: Mapping[str, Any]) -> bool:
        if not isinstance(row, Mapping) or row.keys() != {"request", "observation", "answer"}:
            raise UsageError(f"{self.path}: holds a line that is no answer; move it away")
        try:
            Answer(**row["answer"])
        except (TypeError, ValueError) as problem:
            raise UsageError(f"{self.path}: holds a line that is no answer ({problem}); move it away") from problem
        return True
