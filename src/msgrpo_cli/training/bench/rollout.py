"""`msgrpo bench rollout`: playing one update's episodes, beside the bare model on the very tokens that were played.

Knows how an update is played and what is measured. Knows nothing about training or the command line.
"""

from __future__ import annotations

from typing import Any, NoReturn

from transformers import PreTrainedModel

from msgrpo_cli.common.console import say
from msgrpo_cli.common.memory import peak_memory
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.models.factory import game_factory, load_policy, play_rules
from msgrpo_cli.models.generation import Generated, Generator, Request
from msgrpo_cli.models.loading import quiet_libraries
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.models.precision import device_for
from msgrpo_cli.models.surroundings import neutralise
from msgrpo_cli.rollout.collect import PlayedUpdate, play_update

from ..generators import make_generator
from ..settings import update_rules
from .limit import LIMITS, Once, Pair, rollout_limit, trie_tokens
from .meter import beside_limits, machine, median, seconds_of, watching


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


def _no_trainer() -> NoReturn:
    raise UsageError("engine: vLLM plays for a trainer; bench rollout measures engine=single or continuous_batching")


def bench_rollout(config: RunConfig, repeats: int) -> dict[str, Any]:
    """Medians over `repeats` rounds, each of which plays, then runs the limits."""
    quiet_libraries()
    neutralise(say)
    device = device_for(config.trainer)
    recording = Recording(make_generator(config, _no_trainer))
    policy = load_policy(config, config.model, generator=recording, merge=True)
    play(config, policy)  # warms caches up
    memory = peak_memory(device)
    seconds: list[float] = []
    in_model: list[float] = []
    limits: dict[Once, list[float]] = {once: [] for once in LIMITS}
    for _ in range(repeats):
        recording.batches.clear()
        with watching(policy.model) as watch:
            seconds.append(seconds_of(lambda: play(config, policy), device))
        in_model.append(watch.seconds)
        for once, found in limits.items():
            found.append(seconds_of(lambda once=once: rollout_limit(policy.model, recording.batches, once), device))  # type: ignore[misc]
    pairs = [pair for batch in recording.batches for pair in batch]
    distinct_prompts = sum(len({prompt for prompt, _ in batch}) for batch in recording.batches)
    tokens = sum(len(answer) for _, answer in pairs)
    return {
        "decisions": len(pairs),
        "decisions_per_second": len(pairs) / median(seconds),
        "tokens_per_second": tokens / median(seconds),
        "seconds": median(seconds),
        "model_share": median([inside / whole for inside, whole in zip(in_model, seconds, strict=True)]),
        **beside_limits(seconds, limits),
        "prompt_tokens": sum(len(prompt) for prompt, _ in pairs),
        "answer_tokens": tokens,
        "tokens_read": watch.tokens_read,
        "trie_tokens": sum(map(trie_tokens, recording.batches)),
        "padding_share": watch.padding_share,
        "duplicate_prompt_share": 1 - distinct_prompts / len(pairs),
        "peak_memory_bytes": memory,
        "repeats": repeats,
        "machine": machine(device),
    }
