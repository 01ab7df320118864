"""How likely a model is to give an answer, word for word: the mass of given answers under the law that samples them.

Knows token ids, logits and how tokens are drawn. Knows nothing about games, prompts, or what an answer means.

Whoever follows an answer token by token passes all of its beginnings, and each of them is an answer as well if the turn
ends there. So one reading of a few answers weighs these and all of their beginnings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from msgrpo_cli.errors import UsageError

from .beginnings import Tokens, plan
from .caches import cache_name, has_plain_cache
from .generation import Sampling, warpers_of
from .kept_beginnings import KeptBeginnings
from .level_reading import pass_of, read_levels

Masses = Mapping[Tokens, float]
"""Of answers, up to but without their end of turn: the probability that exactly this is said."""
_Node = tuple[int, Tokens]
"""(number of the prompt, what was answered so far)."""
_Readings = Iterator[tuple[Sequence[_Node], torch.Tensor]]
"""Level after level its nodes, and the logits of the token after each, shape (nodes, vocabulary)."""
_Read = Callable[[PreTrainedModel, Sequence[Tokens], Sequence[Sequence[Tokens]], int], _Readings]


@dataclass(frozen=True)
class Weighing:
    """Prompts, the answers that are weighed after each of them, and the law by which tokens are drawn."""

    prompts: Sequence[Tokens]
    answers: Sequence[Tokens]
    """Without their end of turn."""
    sampling: Sampling
    pad_token_id: int
    eos_token_ids: Sequence[int]
    """Every one of them ends an answer."""
    rows: int = 256
    """Beginnings of answers that are read together, at most, where a single prompt has no more."""


def weigh(model: PreTrainedModel, asked: Weighing) -> list[Masses]:
    """Of each prompt the mass of every answer and of every beginning of one, float64.

    An answer of `max_new_tokens` tokens is cut there and needs no end of turn; of longer ones the beginnings count. All
    of it sums to one where the answers are all there are. Raises UsageError for a law that looks at former tokens.
    """
    sampling, ends = asked.sampling, frozenset(asked.eos_token_ids)
    if sampling.repetition_penalty != 1.0:
        raise UsageError(
            f"rollout.repetition_penalty={sampling.repetition_penalty}: what is said next depends on the prompt's own "
            "words then, which is not weighed here; take rollout.repetition_penalty=1.0"
        )
    levels = _levels(asked.answers, ends, sampling.max_new_tokens)
    widest = max(map(len, levels))
    count = max(1, asked.rows // widest)
    read = _read_cached if has_plain_cache(model) else _read_plainly
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return [
                one
                for first in range(0, len(asked.prompts), count)
                for one in _weigh(model, asked.prompts[first : first + count], levels, asked, read)
            ]
    finally:
        model.train(was_training)


def _levels(answers: Sequence[Tokens], ends: frozenset[int], longest: int) -> list[list[Tokens]]:
    """Distinct beginnings of the answers by their number of tokens: none of them holds an end of turn."""
    levels: list[dict[Tokens, None]] = [{(): None}]
    for answer in answers:
        length = next((place for place, token in enumerate(answer) if token in ends), len(answer))
        for tokens in range(1, min(length, longest) + 1):
            if tokens == len(levels):
                levels.append({})
            levels[tokens][answer[:tokens]] = None
    return [list(level) for level in levels]


def _weigh(
    model: PreTrainedModel, prompts: Sequence[Tokens], levels: Sequence[Sequence[Tokens]], asked: Weighing, read: _Read
) -> list[Masses]:
    """Of some prompts; a beginning of `max_new_tokens` tokens is an answer by itself, so nothing is read after it."""
    longest, ends = asked.sampling.max_new_tokens, sorted(set(asked.eos_token_ids))
    said: dict[_Node, float] = {(number, ()): 1.0 for number in range(len(prompts))}
    masses: list[dict[Tokens, float]] = [{} for _ in prompts]
    readings = read(model, prompts, [level for level in levels if len(level[0]) < longest], asked.pad_token_id)
    for depth, (nodes, logits) in enumerate(readings):
        law = _law(logits, asked.sampling)
        ended = law[:, ends].sum(-1).tolist()
        following = levels[depth + 1] if depth + 1 < len(levels) else ()
        rows = {node: row for row, node in enumerate(nodes)}
        for (number, answer), share in zip(nodes, ended, strict=True):
            masses[number][answer] = said[number, answer] * share
        after = [(number, answer) for number in range(len(prompts)) for answer in following]
        if after:
            places = [rows[number, answer[:-1]] for number, answer in after]
            chances = law[places, [answer[-1] for _, answer in after]].tolist()
            for (number, answer), chance in zip(after, chances, strict=True):
                said[number, answer] = said[number, answer[:-1]] * chance
    for (number, answer), mass in said.items():
        if len(answer) == longest:
            masses[number][answer] = mass
    return list(masses)


def _law(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities of the next token as it is drawn, shape as `logits`, float64 where the device has it."""
    if sampling.temperature == 0.0:
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double().cpu()
    scores = warpers_of(sampling)(None, logits / sampling.temperature)  # type: ignore[arg-type]
    return torch.softmax(scores.double() if scores.device.type != "mps" else scores, dim=-1).cpu()


def _read_cached(
    model: PreTrainedModel, prompts: Sequence[Tokens], levels: Sequence[Sequence[Tokens]], pad: int
) -> _Readings:
    """Every prompt is read once, and then a token for each beginning."""
    name = cache_name(model)

    def forward(cache: object, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{name: cache},
        )
        return torch.as_tensor(output.logits[:, -1].float())

    before = KeptBeginnings(model)
    for level in levels:
        nodes = [(number, answer) for number in range(len(prompts)) for answer in level]
        texts = [(*prompts[number], *answer) for number, answer in nodes]
        known = [len(text) - 1 for text in texts] if level[0] else [0] * len(texts)
        cache, mask, logits = read_levels(plan(texts, known, a_pass=pass_of(model)), before, forward, pad)
        assert logits is not None, "a prompt is not empty"
        yield nodes, logits
        before = KeptBeginnings(model)
        before.keep(texts, cache, mask)


def _read_plainly(
    model: PreTrainedModel, prompts: Sequence[Tokens], levels: Sequence[Sequence[Tokens]], pad: int
) -> _Readings:
    """For caches that cannot be shared: whole texts, those of equal length together, so that none is padded."""
    for level in levels:
        nodes = [(number, answer) for number in range(len(prompts)) for answer in level]
        found: dict[_Node, torch.Tensor] = {}
        for length in sorted({len(prompts[number]) for number, _ in nodes}):
            alike = [node for node in nodes if len(prompts[node[0]]) == length]
            ids = torch.tensor([(*prompts[number], *answer) for number, answer in alike], device=model.device)
            found |= zip(alike, model(input_ids=ids, use_cache=False).logits[:, -1].float(), strict=True)
        yield nodes, torch.stack([found[node] for node in nodes])
