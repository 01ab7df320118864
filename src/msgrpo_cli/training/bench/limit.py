"""The limit: a bare loop over the model alone, for exactly the tokens that must be processed, nothing padded.

Knows token ids and a transformers model. Knows nothing about games, sampling, losses or TRL.

Three limits: every row with a prompt of its own, as any program without sharing must; every distinct prompt of a batch
once, with every answer decoded, or trained on, for itself; and every distinct beginning of a batch's prompts and
answers once. For the last no tree is read: as many tokens as it has are, in rows as long as its longest, and what they
say does not matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from transformers import DynamicCache, PreTrainedModel

from msgrpo_cli.models.beginnings import distinct_beginnings
from msgrpo_cli.models.caches import cache_name

Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of a prompt and of its answer."""
Once = Literal["nothing", "prompts", "beginnings"]
"""What of a batch is computed once."""
LIMITS: tuple[Once, ...] = get_args(Once)


def rollout_limit(model: PreTrainedModel, batches: Sequence[Sequence[Pair]], once: Once) -> None:
    """Prefill and decode the very tokens that were sampled, batch by batch, rows of equal prompt length together."""
    with torch.no_grad():
        for batch in batches:
            if once == "beginnings":
                _decode_trie(model, batch)
                continue
            for pairs in _alike(batch, lambda pair: len(pair[0])):
                _decode(model, pairs, once == "prompts")


def trie_tokens(batch: Sequence[Pair]) -> int:
    """Distinct beginnings of prompts and answers; the last token of an answer is never read."""
    return distinct_beginnings((*prompt, *answer[:-1]) for prompt, answer in batch)


def _decode_trie(model: PreTrainedModel, batch: Sequence[Pair]) -> None:
    prompts = {prompt for prompt, _ in batch}
    width = max(map(len, prompts))
    for count, length in _rows_of(distinct_beginnings(prompts), width):
        cache = DynamicCache(config=model.config)
        handed = {cache_name(model): cache}
        model(input_ids=_zeros(model, count, length), use_cache=True, logits_to_keep=1, **handed)
        if length == width:  # what a prompt leaves
            cache.batch_select_indices(torch.zeros(1, dtype=torch.long, device=model.device))
            filled = cache
    handed, rows = {cache_name(model): filled}, 1
    for number in range(max(len(answer) for _, answer in batch) - 1):
        nodes = len({(prompt, answer[: number + 1]) for prompt, answer in batch if len(answer) > number + 1})
        if nodes != rows:
            filled.batch_select_indices(torch.arange(nodes, device=model.device) % rows)
            rows = nodes
        model(input_ids=_zeros(model, nodes, 1), use_cache=True, logits_to_keep=1, **handed)


def _rows_of(tokens: int, width: int) -> Iterator[tuple[int, int]]:
    """So many tokens as rows of this width, and one of what is left: (rows, tokens of each)."""
    if tokens % width:
        yield 1, tokens % width
    yield tokens // width, width


def _zeros(model: PreTrainedModel, rows: int, tokens: int) -> torch.Tensor:
    return torch.zeros((rows, tokens), dtype=torch.long, device=model.device)


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


def update_limit(model: PreTrainedModel, batches: Sequence[Sequence[Pair]], once: Once) -> None:
    """Forward and backward over the micro-batches, logits on the answers' tokens alone; gradients are thrown away."""
    model.train()
    for batch in batches:
        if once == "beginnings":
            _trie_logprobs(model, batch).sum().backward()
            continue
        for pairs in _alike(batch, lambda pair: (len(pair[0]), len(pair[1]))):
            _logprobs(model, pairs, once == "prompts").sum().backward()
    model.zero_grad(set_to_none=True)


def _trie_logprobs(model: PreTrainedModel, batch: Sequence[Pair]) -> torch.Tensor:
    width = max(len(prompt) + len(answer) - 1 for prompt, answer in batch)
    hidden = [
        model.base_model(input_ids=_zeros(model, count, length), use_cache=False).last_hidden_state.flatten(0, 1)
        for count, length in _rows_of(trie_tokens(batch), width)
    ]
    predicted = len({(prompt, answer[: number + 1]) for prompt, answer in batch for number in range(len(answer))})
    places = torch.arange(predicted, device=model.device) % trie_tokens(batch)  # several tokens may follow at one place
    logits = model.get_output_embeddings()(torch.cat(hidden).index_select(0, places))
    return torch.log_softmax(logits.float(), dim=-1)[:, 0]


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
