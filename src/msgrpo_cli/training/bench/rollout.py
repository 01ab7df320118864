"""`msgrpo bench rollout`: playing one update's episodes, beside the bare model on the very tokens that were played.

Knows how an update is played and what is measured. Knows nothing about training or the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from transformers import PreTrainedModel

from msgrpo_cli.common.console import say
from msgrpo_cli.common.memory import peak_memory
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.models.beginnings import distinct_beginnings
from msgrpo_cli.models.factory import game_factory, load_policy, play_rules
from msgrpo_cli.models.generation import Generated, Generator, Request
from msgrpo_cli.models.loading import quiet_libraries
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.models.precision import device_for
from msgrpo_cli.models.surroundings import neutralise
from msgrpo_cli.rollout.collect import PlayedUpdate, play_update

from ..generators import make_generator
from ..settings import update_rules
from .limit import Pair, rollout_limit
from .meter import machine, median, seconds_of, watching


class Recording:
    """A generator that keeps what it was asked and what it answered, batch by batch."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.batches: list[list[Pair]] = []

    def __call__(self, model: PreTrainedModel, request: Request) -> list[Generated]:
        answers = self._generator(model, request)
        pairs = zip(request.prompts, answers, strict=True)
        self.batches.append([(tuple(prompt), answer.token_ids) for prompt, answer in pairs])
        return answers


def play(config: RunConfig, policy: LanguageAgentPolicy) -> PlayedUpdate:
    """The episodes of update 1, as training plays them, without the judge that looks up the best action."""
    rules = play_rules(config, evaluation=False)
    return play_update(1, update_rules(config), game_factory(config.env, evaluation=False), policy, rules)


def _trie(batch: Sequence[Pair]) -> int:
    """Distinct beginnings of one decision's prompts and answers: what must be read of them where nothing is kept."""
    return distinct_beginnings((*prompt, *answer[:-1]) for prompt, answer in batch)


def _no_trainer() -> NoReturn:
    raise UsageError("engine: vLLM plays for a trainer; bench rollout measures engine=single or continuous_batching")


def bench_rollout(config: RunConfig, repeats: int) -> dict[str, Any]:
    """Medians over `repeats` rounds, each of which plays, then runs both limits."""
    quiet_libraries()
    neutralise(say)
    device = device_for(config.trainer)
    recording = Recording(make_generator(config, _no_trainer))
    policy = load_policy(config, config.model, generator=recording, merge=True)
    play(config, policy)  # warms caches up
    memory = peak_memory(device)
    seconds: list[float] = []
    in_model: list[float] = []
    limits: list[float] = []
    shared: list[float] = []
    for _ in range(repeats):
        recording.batches.clear()
        with watching(policy.model) as watch:
            seconds.append(seconds_of(lambda: play(config, policy), device))
        in_model.append(watch.seconds)
        for distinct, found in ((False, limits), (True, shared)):
            work = lambda distinct=distinct: rollout_limit(policy.model, recording.batches, distinct=distinct)  # noqa: E731
            found.append(seconds_of(work, device))
    pairs = [pair for batch in recording.batches for pair in batch]
    distinct_prompts = sum(len({prompt for prompt, _ in batch}) for batch in recording.batches)
    tokens = sum(len(answer) for _, answer in pairs)
    return {
        "decisions": len(pairs),
        "decisions_per_second": len(pairs) / median(seconds),
        "tokens_per_second": tokens / median(seconds),
        "seconds": median(seconds),
        "model_share": median([inside / whole for inside, whole in zip(in_model, seconds, strict=True)]),
        "limit_seconds": median(limits),
        "time_over_limit": median([whole / limit for whole, limit in zip(seconds, limits, strict=True)]),
        "shared_limit_seconds": median(shared),
        "time_over_shared_limit": median([whole / limit for whole, limit in zip(seconds, shared, strict=True)]),
        "prompt_tokens": sum(len(prompt) for prompt, _ in pairs),
        "answer_tokens": tokens,
        "positions": watch.positions,
        "trie_tokens": sum(map(_trie, recording.batches)),
        "padding_share": watch.padding_share,
        "duplicate_prompt_share": 1 - distinct_prompts / len(pairs),
        "peak_memory_bytes": memory,
        "repeats": repeats,
        "machine": machine(device),
    }
