"""An OpenAI-compatible server: how a conversation is sent there, what comes back, and what its refusals mean.

Knows the `openai` package, sampling settings and the key's variable. Knows nothing about games or kept answers.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgrpo_cli.common.numbers import counted
from msgrpo_cli.common.secrets import masked
from msgrpo_cli.common.text import one_line
from msgrpo_cli.config.schema_api import ApiConfig
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.models.generation import Sampling

from .api_answers import Answer

if TYPE_CHECKING:
    import openai

_APART = 5.0  # seconds between two words about retries
_SHOWN = 300  # characters of what a server says is wrong
_NO_KEY = "none"  # a server that wants no key ignores it, and the package does not start without one
_PATIENCE = 5.0  # seconds for the list of models, which only an advice needs

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0  # seconds, doubling, as the package waits
_CUT, _FILTERED = {"length", "max_tokens", "max_length", "max_output_tokens", "model_length"}, "content_filter"
_ENDED = {
    "stop",
    "tool_calls",
    "function_call",
    _FILTERED,
    "eos",
    "eos_token",
    "end_turn",
    "stop_sequence",
    *_CUT,
}
"""What servers call an answer that the model has ended, or a limit; others, such as error or abort, are failures of
theirs, and so is a word that nobody knows."""
_FAILED = {"error", "errors", "detail", "message", "msg", "code", "status", "choices"}
"""Fields by which a server says what went wrong: what has one of them, and no choice, is of this protocol."""
_log = logging.getLogger("openai._base_client")  # where the package tells its own retries

Conversation = Sequence[Mapping[str, str]]
"""Messages: role and content."""


class _NoAnswer(Exception):
    """What came with status 200 is no answer: the server failed, which it says in words if at all."""


class Server:
    """One model of a server, asked with one way of sampling; may be asked by several threads at once.

    Raises UsageError where the `openai` package, the address or a usable key is missing.
    """

    def __init__(self, model: str, sampling: Sampling, config: ApiConfig) -> None:
        self.model = model
        self.body = _body(sampling, config)
        """The fields of a request besides model and messages."""
        self._config = config
        self._client = _client(config)

    @property
    def base_url(self) -> str:
        """Where it is."""
        return str(self._client.base_url).rstrip("/")

    def close(self) -> None:
        """Let go of whatever is under way."""
        self._client.close()

    def ask(self, messages: Conversation) -> tuple[Answer, int]:
        """The answer, and how often the request was sent again. Raises what `explained` explains.

        The package sends again what was refused; here is sent again what came with status 200 and is no answer.
        """
        sent: Any = self._client.chat.completions.with_raw_response
        retries = 0
        for attempt in itertools.count():
            raw = sent.create(model=self.model, messages=messages, **self.body)
            retries += raw.retries_taken
            try:
                return self._answer(raw), retries + attempt
            except _NoAnswer as problem:
                if attempt >= self._config.retries:
                    raise RunError(f"{self.base_url}: {problem}{_after(attempt)}") from problem
                wait = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT)
                _log.info("Retrying in %s seconds: %s", wait, problem)
                time.sleep(wait)
        raise AssertionError

    def _answer(self, raw: Any) -> Answer:
        """Raises _NoAnswer where there is none: the server failed, or speaks another protocol."""
        import openai

        text = masked(" ".join(raw.text.split()))[:_SHOWN]
        try:
            said = raw.parse()
        except (ValueError, openai.APIError) as problem:
            raise _NoAnswer(f"an answer that is not whole ({one_line(problem)}): {text!r}") from problem
        choices = getattr(said, "choices", None)
        listed = choices if isinstance(choices, list) else []
        first = min(listed, key=lambda choice: getattr(choice, "index", None) or 0, default=None)  # in whatever order
        if any(getattr(part, "error", None) for part in (said, first, getattr(first, "message", None))):
            raise _NoAnswer(f"an error with status 200: {text}")
        if first is not None and getattr(first, "message", None) is None:
            raise _NoAnswer(f"speaks another protocol: an answer without a message: {text}")
        if first is None:
            if _FAILED & getattr(said, "model_fields_set", set()):
                raise _NoAnswer(f"no answer, though status 200: {text}")
            hint = "" if self.base_url.endswith("/v1") else "; api.base_url usually ends in /v1"
            raise _NoAnswer(f"speaks another protocol: it says {text!r}, without choices{hint}")
        try:
            content, told, usage = first.message.content, first.finish_reason, said.usage
            reason = told.lower() if isinstance(told, str) else told
            refusal = getattr(first.message, "refusal", None)
            if not (content if reason is None else reason in _ENDED):
                raise _NoAnswer(f"an answer with finish_reason {told}: {text}")
            return Answer(
                text="" if content is None else content,
                truncated=reason in _CUT,
                prompt_tokens=usage.prompt_tokens if usage else None,
                completion_tokens=usage.completion_tokens if usage else None,
                model=said.model if isinstance(said.model, str) else None,
                filtered=reason == _FILTERED or (not content and bool(refusal)),
            )
        except (AttributeError, TypeError, ValueError) as problem:
            raise _NoAnswer(f"speaks another protocol: {problem}: {text}") from problem

    def explained(self, problem: BaseException, hint: str) -> BaseException:
        """What the server or the way to it said, with a remedy; `hint` ends the line."""
        import openai

        if isinstance(problem, RunError):
            return RunError(f"{problem}{hint}")
        config, where = self._config, self.base_url
        text = problem.response.text if isinstance(problem, openai.APIStatusError) else str(problem)
        said = masked(" ".join(text.split()))[:_SHOWN]
        match problem:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                have = "refuses the key in" if os.environ.get(config.key_variable) else "wants a key, and none is in"
                return UsageError(f"{where} {have} the variable {config.key_variable}: {said}{hint}")
            case openai.NotFoundError():
                return UsageError(
                    f"model.path={self.model}: {where} does not know it ({said}); {self._models()}"
                    f"api.base_url usually ends in /v1{hint}"
                )
            case openai.APIStatusError() if problem.status_code in (400, 413, 422):
                return UsageError(f"policy=api: {where} refuses the request ({problem.status_code}): {said}{hint}")
            case openai.APITimeoutError():
                return RunError(f"api.timeout={config.timeout:g}: no answer from {where} in so many seconds{hint}")
            case openai.APIConnectionError():
                cause = masked(str(problem.__cause__ or said))
                return RunError(f"api.base_url={where}: cannot be reached: {cause}{hint}")
            case openai.APIStatusError():
                retries = int(problem.request.headers.get("x-stainless-retry-count", 0))  # as the package counts them
                return RunError(f"{where} answers {problem.status_code}{_after(retries)}: {said}{hint}")
            case openai.APIError() | ValueError():
                return RunError(f"{where}: an answer that the protocol does not know: {said}{hint}")
        return problem

    def _models(self) -> str:
        import openai

        with contextlib.suppress(openai.OpenAIError):  # only an advice
            known = self._client.with_options(max_retries=0, timeout=_PATIENCE).models.list()
            return f"it serves {', '.join(sorted(model.id for model in known)[:20])}; "
        return ""


def _after(retries: int) -> str:
    return f" after {counted(retries, 'retry', 'retries')}" if retries else ""


@contextlib.contextmanager
def retries_told() -> Iterator[None]:
    """Let the package say on stderr, now and then, that it sends a request again: waiting in silence looks broken."""
    log, last = logging.getLogger("openai._base_client"), 0.0

    def is_due(record: logging.LogRecord) -> bool:
        nonlocal last
        due = record.msg.startswith("Retrying") and time.monotonic() - last >= _APART
        last = time.monotonic() if due else last
        return due

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("no usable answer yet; %(message)s"))
    handler.addFilter(is_due)
    level, above = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = above


def _client(config: ApiConfig) -> openai.OpenAI:
    try:
        import openai
    except ImportError:
        raise UsageError("policy=api: the openai package is not installed; pip install 'msgrpo[api]'") from None
    key = os.environ.get(config.key_variable, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"policy=api: what the variable {config.key_variable} holds is no key: it has odd characters")
    if not key and config.base_url is None and not os.environ.get("OPENAI_BASE_URL"):
        raise UsageError(
            f"policy=api: no server is named and {config.key_variable} holds no key; give api.base_url=http://HOST/v1, "
            f"or set the variable {config.key_variable} to a key of OpenAI"
        )
    return openai.OpenAI(
        base_url=config.base_url, api_key=key or _NO_KEY, max_retries=config.retries, timeout=config.timeout
    )


def _body(sampling: Sampling, config: ApiConfig) -> dict[str, Any]:
    """The fields of a request besides model and messages; what the protocol does not know goes as vLLM names it."""
    further: dict[str, Any] = {}
    if sampling.top_k > 0:
        further["top_k"] = sampling.top_k
    if sampling.min_p:
        further["min_p"] = sampling.min_p
    if sampling.repetition_penalty != 1.0:
        further["repetition_penalty"] = sampling.repetition_penalty
    body: dict[str, Any] = {"temperature": sampling.temperature, config.max_tokens_key: sampling.max_new_tokens}
    if sampling.top_p < 1.0:
        body["top_p"] = sampling.top_p
    return {**body, "extra_body": {**further, **config.extra_body}}
