"""The limit: a bare loop over the model alone, for exactly the tokens that must be processed, nothing padded.

Knows token ids and a transformers model. Knows nothing about games, sampling, losses or TRL.

Two limits: every row with a prompt of its own, as any program without sharing must; and every distinct prompt of a
batch once (`distinct`), with every answer decoded, or trained on, for itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

from msgrpo_cli.models.shared_generation import cache_name

Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of a prompt and of its answer."""


def rollout_limit(model: PreTrainedModel, batches: Sequence[Sequence[Pair]], *, distinct: bool) -> None:
    """Prefill and decode the very tokens that were sampled, batch by batch, rows of equal prompt length together."""
    with torch.no_grad():
        for batch in batches:
            for pairs in _alike(batch, lambda pair: len(pair[0])):
                _decode(model, pairs, distinct)


def _decode(model: PreTrainedModel, pairs: list[Pair], distinct: bool) -> None:
    pairs = sorted(pairs, key=lambda pair: -len(pair[1]))  # the shortest answers leave from the end
    prompts, prompt_of = _prompts(pairs, distinct)
    cache = DynamicCache(config=model.config)
    handed = {cache_name(model): cache}
    model(input_ids=_ids(model, prompts), use_cache=True, logits_to_keep=1, **handed)
    if distinct:
        cache.batch_select_indices(prompt_of.to(model.device))
    longest = len(pairs[0][1])
    rows = len(pairs)
    for number in range(longest - 1):  # the last token of an answer is never read
        left = sum(len(answer) > number + 1 for _, answer in pairs[:rows])
        if left < rows:
            rows = left
            cache.batch_select_indices(torch.arange(rows, device=model.device))
        ids = _ids(model, [[answer[number]] for _, answer in pairs[:rows]])
        model(input_ids=ids, use_cache=True, logits_to_keep=1, **handed)


def update_limit(model: PreTrainedModel, batches: Sequence[Sequence[Pair]], *, distinct: bool) -> None:
    """Forward and backward over the micro-batches, logits on the answers' tokens alone; gradients are thrown away."""
    model.train()
    for batch in batches:
        for pairs in _alike(batch, lambda pair: (len(pair[0]), len(pair[1]))):
            _logprobs(model, pairs, distinct).sum().backward()
    model.zero_grad(set_to_none=True)


def _logprobs(model: PreTrainedModel, pairs: list[Pair], distinct: bool) -> torch.Tensor:
    answers = _ids(model, [answer for _, answer in pairs])
    prompts, prompt_of = _prompts(pairs, distinct)
    ids = _ids(model, prompts)
    if distinct:
        cache = DynamicCache(config=model.config)
        handed = {cache_name(model): cache}
        model.base_model(input_ids=ids[:, :-1], use_cache=True, **handed)
        rows = prompt_of.to(model.device)
        cache.batch_select_indices(rows)
        read = torch.cat([ids[rows, -1:], answers[:, :-1]], dim=1)
        hidden = model.base_model(input_ids=read, use_cache=True, **handed).last_hidden_state
    else:
        read = torch.cat([ids, answers[:, :-1]], dim=1)
        hidden = model.base_model(input_ids=read, use_cache=False).last_hidden_state[:, ids.shape[1] - 1 :]
    logits = model.get_output_embeddings()(hidden)
    return torch.log_softmax(logits.float(), dim=-1).gather(-1, answers[..., None])


def _alike(batch: Sequence[Pair], kind: object) -> Iterator[list[Pair]]:
    groups = defaultdict(list)
    for pair in batch:
        groups[kind(pair)].append(pair)  # type: ignore[operator]
    yield from groups.values()


def _prompts(pairs: Sequence[Pair], distinct: bool) -> tuple[list[tuple[int, ...]], torch.Tensor]:
    """The prompts that are read, and which of them is each row's."""
    if not distinct:
        return [prompt for prompt, _ in pairs], torch.arange(len(pairs))
    number: dict[tuple[int, ...], int] = {}
    rows = [number.setdefault(prompt, len(number)) for prompt, _ in pairs]
    return list(number), torch.tensor(rows)


def _ids(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    return torch.tensor(rows, device=model.device)
