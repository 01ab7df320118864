"""A language model behind an OpenAI-compatible server as a policy: state to messages, request to text, text to action.

Knows prompts, the `openai` package and kept answers. Knows nothing about rewards, statistics or how results are shown.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .api_schema import ApiConfig
from .credentials import masked
from .episode import Completion
from .errors import RunError, UsageError
from .games.guard import blaming
from .generation import Sampling
from .kept_answers import Answer, KeptAnswers, request_hash
from .prompt import PromptTemplate
from .rollout import Decision

if TYPE_CHECKING:
    import openai

_MILLION = 1e6
_NO_KEY = "none"  # a server that wants no key ignores it, and the package does not start without one
_APART = 5.0  # seconds between two words about retries
_SHOWN = 300  # characters of what a server says is wrong
_PATIENCE = 5.0  # seconds for the list of models, which only an advice needs


@dataclass
class Usage:
    """What an evaluation asked of a server. `tokens` and cost count kept answers too: they were paid for once."""

    model: str
    base_url: str
    requests: int = 0
    """Answered, now or before."""
    kept: int = 0
    """Of these, how many an earlier evaluation had asked."""
    retries: int = 0
    empty: int = 0
    """Answers without a word, such as those of a model that was still thinking; they are invalid."""
    prompt_tokens: int | None = 0
    """None where the server does not say, as in the next."""
    completion_tokens: int | None = 0
    cost_usd: float | None = None
    """None where tokens or a price are unknown, as in the next."""
    cost_usd_now: float | None = None
    """Without what was answered before."""

    def to_json(self) -> dict[str, Any]:
        """As stored with the evaluation."""
        return asdict(self)


class ApiPolicy:
    """Asks the server for every decision, with as many requests under way as the config allows.

    An answer belongs to its request: the messages, how it is sampled, and, unless it is decoded greedily, the key of
    the decision. Raises UsageError for what the server refuses for good, RunError where it cannot be reached or has no
    room after all retries; every answer that came before is kept.
    """

    def __init__(
        self,
        model: str,
        template: PromptTemplate,
        sampling: Sampling,
        config: ApiConfig,
        kept: KeptAnswers,
        on_answer: Callable[[int], None] = lambda answers: None,
    ) -> None:
        """`on_answer` is told how many answers this evaluation has."""
        self.sampling = sampling
        self._on_answer = on_answer
        self._model = model
        self._template = template
        self._config = config
        self._kept = kept
        self._client = _client(config)
        self._body = _body(sampling, config)
        self._seen: set[str] = set()
        self._paid: tuple[int | None, int | None] = (0, 0)  # tokens of prompts and answers that were asked now
        self._answers = 0  # that this evaluation has, whether counted yet or not
        self.usage = Usage(model, str(self._client.base_url).rstrip("/"))

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        """One completion for each decision; equal requests are sent once."""
        asked: dict[str, tuple[Decision, list[dict[str, str]]]] = {}
        requests = []
        for decision in decisions:
            said = self._template.messages(decision.game, decision.observation, decision.history)
            messages = [{"role": role, "content": content} for role, content in said]
            drawn_by = list(decision.key) if self.sampling.temperature else None
            asking = {"server": self.usage.base_url, "model": self._model, "messages": messages, "key": drawn_by}
            request = request_hash({**asking, **self._body})
            requests.append(request)
            if request not in asked and request not in self._seen:
                asked[request] = decision, messages
        self._answer(asked)
        return [self._completion(*pair) for pair in zip(decisions, requests, strict=True)]

    @property
    def progress(self) -> str:
        """What is not lost when the evaluation ends here."""
        return f"{self._answers} answers are kept in {self._kept.path}: the same command goes on from there"

    def _answer(self, asked: dict[str, tuple[Decision, list[dict[str, str]]]]) -> None:
        """See that every request has a kept answer, and count it."""
        missing = {request: pair for request, pair in asked.items() if self._kept.get(request) is None}
        self.usage.kept += len(asked) - len(missing)
        self._answers += len(asked) - len(missing)
        for request, (answer, retries) in self._ask({request: pair[1] for request, pair in missing.items()}):
            self._kept.keep(request, answer, missing[request][0].observation)
            self.usage.retries += retries
            self._answers += 1
            self._on_answer(self._answers)
        for request in asked:
            self._seen.add(request)
            self._count(self._kept_answer(request), now=request in missing)

    def _ask(self, messages: dict[str, list[dict[str, str]]]) -> Iterator[tuple[str, tuple[Answer, int]]]:
        """Answers with the retries that each took, as they come.

        After a failure no request begins any more; those under way are paid for, so they are waited for.
        """
        pool = ThreadPoolExecutor(self._config.concurrency, thread_name_prefix="api")

        def end_after_failure(future: Future[Any]) -> None:  # called by the thread that failed, before it goes on
            if not future.cancelled() and future.exception() is not None:
                pool.shutdown(wait=False, cancel_futures=True)

        try:
            waiting = {pool.submit(self._request, of_one): request for request, of_one in messages.items()}
            for future in waiting:
                future.add_done_callback(end_after_failure)
            for future in as_completed(waiting):
                if future.exception() is not None:
                    break
                yield waiting.pop(future), future.result()
            pool.shutdown(cancel_futures=True)
            ended = [future for future in waiting if not future.cancelled()]
            for future in ended:
                if future.exception() is None:
                    yield waiting[future], future.result()
            if failures := [failure for future in ended if (failure := future.exception()) is not None]:
                raise self._explained(failures[0]) from failures[0]
        except BaseException:  # interrupted: nobody waits for what is under way
            self._client.close()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _request(self, messages: list[dict[str, str]]) -> tuple[Answer, int]:
        sent: Any = self._client.chat.completions.with_raw_response
        raw = sent.create(model=self._model, messages=messages, **self._body)
        said = raw.parse()
        if not getattr(said, "choices", None):
            raise RunError(f"{self.usage.base_url}: the answer holds no choices, so the server speaks another protocol")
        choice, usage = said.choices[0], said.usage
        try:
            answer = Answer(
                text="" if choice.message.content is None else choice.message.content,
                truncated=choice.finish_reason == "length",
                prompt_tokens=usage.prompt_tokens if usage else None,
                completion_tokens=usage.completion_tokens if usage else None,
            )
        except (AttributeError, ValueError) as problem:
            raise RunError(f"{self.usage.base_url}: speaks another protocol: {problem}") from problem
        return answer, raw.retries_taken

    def _count(self, answer: Answer, *, now: bool) -> None:
        usage, config = self.usage, self._config
        usage.requests += 1
        usage.empty += not answer.text.strip()
        usage.prompt_tokens = _sum(usage.prompt_tokens, answer.prompt_tokens)
        usage.completion_tokens = _sum(usage.completion_tokens, answer.completion_tokens)
        usage.cost_usd = _cost(usage.prompt_tokens, usage.completion_tokens, config)
        if now:
            self._paid = _sum(self._paid[0], answer.prompt_tokens), _sum(self._paid[1], answer.completion_tokens)
        usage.cost_usd_now = _cost(*self._paid, config)

    def _kept_answer(self, request: str) -> Answer:
        answer = self._kept.get(request)
        assert answer is not None
        return answer

    def _completion(self, decision: Decision, request: str) -> Completion:
        answer = self._kept_answer(request)
        with blaming(type(decision.game).__name__, "in parse, at the decision {}", decision.key):
            action = decision.game.parse(answer.text)
        return Completion(answer.text, action, truncated=answer.truncated)

    def _explained(self, problem: BaseException) -> BaseException:
        """What the server or the way to it said, with a remedy, and where the answers so far lie."""
        import openai

        config, where = self._config, self.usage.base_url
        text = problem.response.text if isinstance(problem, openai.APIStatusError) else str(problem)
        said = masked(" ".join(text.split()))[:_SHOWN]
        kept = f"; {self.progress}" if self._answers else ""
        match problem:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                have = "refuses the key in" if os.environ.get(config.key_variable) else "wants a key, and none is in"
                return UsageError(f"{where} {have} the variable {config.key_variable}: {said}{kept}")
            case openai.NotFoundError():
                return UsageError(
                    f"model.path={self._model}: {where} does not know it ({said}); {self._models()}"
                    f"api.base_url usually ends in /v1{kept}"
                )
            case openai.APIStatusError() if problem.status_code in (400, 413, 422):
                return UsageError(f"policy=api: {where} refuses the request ({problem.status_code}): {said}{kept}")
            case openai.APITimeoutError():
                return RunError(f"api.timeout={config.timeout:g}: no answer from {where} in so many seconds{kept}")
            case openai.APIConnectionError():
                cause = masked(str(problem.__cause__ or said))
                return RunError(f"api.base_url={where}: cannot be reached: {cause}{kept}")
            case openai.APIStatusError():
                tried = f"{config.retries} retries"
                return RunError(f"{where} answers {problem.status_code} after {tried}: {said}{kept}")
            case openai.APIError() | ValueError():
                return RunError(f"{where}: an answer that the protocol does not know: {said}{kept}")
        return problem

    def _models(self) -> str:
        import openai

        with contextlib.suppress(openai.OpenAIError):  # only an advice
            known = self._client.with_options(max_retries=0, timeout=_PATIENCE).models.list()
            return f"it serves {', '.join(sorted(model.id for model in known)[:20])}; "
        return ""


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


def _sum(before: int | None, more: int | None) -> int | None:
    return None if before is None or more is None else before + more


def _cost(prompts: int | None, answers: int | None, config: ApiConfig) -> float | None:
    if prompts is None or answers is None or config.input_price is None or config.output_price is None:
        return None
    return (prompts * config.input_price + answers * config.output_price) / _MILLION


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
