"""A language model behind a server as a policy: state to messages, answer to text, text to action.

Knows prompts, a server and kept answers, and counts what was asked. Knows nothing about how a server is spoken to, nor
about rewards, statistics or how results are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from typing import Any

from msgrpo_cli.config.schema_api import ApiConfig
from msgrpo_cli.episode import Completion
from msgrpo_cli.games.guard import blaming
from msgrpo_cli.models.generation import Sampling
from msgrpo_cli.rollout.play import Decision
from msgrpo_cli.rollout.prompt import PromptTemplate

from .api_answers import Answer, KeptAnswers, request_hash
from .api_server import Conversation, Server

_MILLION = 1e6


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
    filtered: int = 0
    """Answers that the server's content filter withheld or cut; they do not count as empty."""
    too_long: int = 0
    """Answers of more tokens than the limit that was asked for: the server did not heed it."""
    cut_early: int = 0
    """Answers that a limit ended before the one that was asked for."""
    longest: int = 0
    """Tokens of the longest answer."""
    answered_by: list[str] = field(default_factory=list)
    """Every other name of the model by which the server has answered."""
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
        self._template = template
        self._config = config
        self._kept = kept
        self._server = Server(model, sampling, config)
        self._seen: set[str] = set()
        self._paid: tuple[int | None, int | None] = (0, 0)  # tokens of prompts and answers that were asked now
        self._answers = 0  # that this evaluation has, whether counted yet or not
        self.usage = Usage(model, self._server.base_url)

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        """One completion for each decision; equal requests are sent once."""
        asked: dict[str, tuple[Decision, Conversation]] = {}
        requests = []
        for decision in decisions:
            said = self._template.messages(decision.game, decision.observation, decision.history)
            messages = [{"role": role, "content": content} for role, content in said]
            drawn_by = list(decision.key) if self.sampling.temperature else None
            asking = {"server": self._server.base_url, "model": self._server.model, "messages": messages}
            request = request_hash({**asking, "key": drawn_by, **self._server.body})
            requests.append(request)
            if request not in asked and request not in self._seen:
                asked[request] = decision, messages
        self._answer(asked)
        return [self._completion(*pair) for pair in zip(decisions, requests, strict=True)]

    @property
    def progress(self) -> str:
        """What is not lost when the evaluation ends here."""
        return f"{self._answers} answers are kept in {self._kept.path}: the same command goes on from there"

    def _answer(self, asked: dict[str, tuple[Decision, Conversation]]) -> None:
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

    def _ask(self, messages: dict[str, Conversation]) -> Iterator[tuple[str, tuple[Answer, int]]]:
        """Answers with the retries that each took, as they come.

        After a failure no request begins any more; those under way are paid for, so they are waited for.
        """
        pool = ThreadPoolExecutor(self._config.concurrency, thread_name_prefix="api")

        def end_after_failure(future: Future[Any]) -> None:  # called by the thread that failed, before it goes on
            if not future.cancelled() and future.exception() is not None:
                pool.shutdown(wait=False, cancel_futures=True)

        try:
            waiting = {pool.submit(self._server.ask, of_one): request for request, of_one in messages.items()}
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
                hint = f"; {self.progress}" if self._answers else ""
                raise self._server.explained(failures[0], hint) from failures[0]
        except BaseException:  # interrupted: nobody waits for what is under way
            self._server.close()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _count(self, answer: Answer, *, now: bool) -> None:
        usage, config = self.usage, self._config
        usage.requests += 1
        usage.filtered += answer.filtered
        usage.empty += not (answer.filtered or answer.text.strip())
        if (tokens := answer.completion_tokens) is not None:
            usage.longest = max(usage.longest, tokens)
            usage.too_long += tokens > self.sampling.max_new_tokens
            usage.cut_early += answer.truncated and tokens < self.sampling.max_new_tokens
        if answer.model is not None and answer.model not in (usage.model, *usage.answered_by):
            usage.answered_by.append(answer.model)
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


def _sum(before: int | None, more: int | None) -> int | None:
    return None if before is None or more is None else before + more


def _cost(prompts: int | None, answers: int | None, config: ApiConfig) -> float | None:
    if prompts is None or answers is None or config.input_price is None or config.output_price is None:
        return None
    return (prompts * config.input_price + answers * config.output_price) / _MILLION
