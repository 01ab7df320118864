"""What reading common beginnings once saves, on one played update: seconds and tokens, way by way in one process.

Knows recorded decisions and rows, the plan of passes and both readers. Usage: python beginnings.py [KEY=VALUE]...;
prints one JSON object. Rollout: *apart* reads every distinct prompt of a decision whole, *levels* what prompts begin
with once in each decision, *kept* once while the weights stay, *known* asks no text twice for its next token besides,
*common* is the same where all rows look at one copy of what all begin with. Update: *apart* reads every distinct prompt
whole, then the answers to it, *levels* what texts begin with once, *common* the same where all rows look at one copy of
what all begin with, *packed* behind a mask. Every round runs all ways one after the other; figures are medians of
`ROUNDS` rounds, `_least` and `_most` their range.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from msgrpo_cli.algo.batching import Row, micro_batches, step_rows
from msgrpo_cli.config.compose import compose
from msgrpo_cli.models import beginnings, shared_generation
from msgrpo_cli.models.beginnings import Level, Tokens, distinct_beginnings
from msgrpo_cli.models.factory import load_policy
from msgrpo_cli.models.generation import Generated, Request
from msgrpo_cli.models.kept_beginnings import KeptBeginnings
from msgrpo_cli.models.loading import quiet_libraries
from msgrpo_cli.training.bench.meter import machine, watching
from msgrpo_cli.training.bench.rollout import play
from msgrpo_cli.training.loss import shared_logprobs
from msgrpo_cli.training.loss.shared_logprobs import Sharing

ROUNDS = 5
MEMORY = 512 * 2**20
A_PASS, NEVER = beginnings.PASS, 2**60
SHORTEST = beginnings._SHORTEST
ROLLOUT, UPDATE = ("apart", "levels", "kept", "known", "common"), ("apart", "levels", "common", "packed")
Tensors = tuple[torch.Tensor, torch.Tensor, int]


def main(overrides: list[str]) -> dict[str, Any]:
    quiet_libraries()
    config = compose("train", overrides)
    asked: list[Request] = []
    answered: list[list[Generated]] = []

    def recording(model: PreTrainedModel, request: Request) -> list[Generated]:
        asked.append(request)
        answered.append(shared_generation.generate_shared(model, request))
        return answered[-1]

    policy = load_policy(config, config.model, generator=recording, merge=True)
    played = play(config, policy)
    model = policy.model
    trie = sum(
        distinct_beginnings((*prompt, *answer.token_ids[:-1]) for prompt, answer in zip(one.prompts, said, strict=True))
        for one, said in zip(asked, answered, strict=True)
    )
    found = {"decisions": sum(map(len, answered)), "rollout_trie_tokens": trie}
    found |= _measured("rollout", model, trie, {way: lambda way=way: _answer(model, asked, way) for way in ROLLOUT})
    rows = step_rows(played.trained)
    if not rows:
        return {**found, "rounds": ROUNDS, "machine": machine(model.device)}
    add_fused_lm_head(model)
    model.train()
    cut = micro_batches(np.arange(len(rows)), rows, config.trainer["per_device_train_batch_size"], shared=True)
    batches = [_tensors([rows[number] for number in numbers]) for numbers in cut]
    trie = sum(distinct_beginnings((*rows[n].prompt_ids, *rows[n].completion_ids[:-1]) for n in part) for part in cut)
    found |= {"rows": len(rows), "micro_batches": len(cut), "update_trie_tokens": trie}
    return {
        **found,
        **_measured("update", model, trie, {way: lambda way=way: _learn(model, batches, way) for way in UPDATE}),
        "rounds": ROUNDS,
        "machine": machine(model.device),
    }


def _measured(
    phase: str, model: PreTrainedModel, trie: int, ways: Mapping[str, Callable[[], None]]
) -> dict[str, float | int]:
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    figures: dict[str, float | int] = {}
    for number in range(ROUNDS + 1):
        for way, work in ways.items():
            beginnings.PASS = NEVER if way == "apart" else A_PASS
            beginnings._SHORTEST = SHORTEST if way == "common" else NEVER
            with watching(model) as watch:
                began = time.perf_counter()
                work()
                taken = time.perf_counter() - began
            if number:  # the first warms up
                seconds[way].append(taken)
            figures[f"{phase}_{way}_tokens_read"] = watch.tokens_read
            figures[f"{phase}_{way}_read_over_trie"] = watch.tokens_read / trie
    for way, taken in seconds.items():
        ratios = [one / apart for one, apart in zip(taken, seconds["apart"], strict=True)]
        figures[f"{phase}_{way}_seconds"] = median(taken)
        if way != "apart":
            figures |= {
                f"{phase}_{way}_over_apart": median(ratios),
                f"{phase}_{way}_over_apart_least": min(ratios),
                f"{phase}_{way}_over_apart_most": max(ratios),
            }
    return figures


def _answer(model: PreTrainedModel, asked: Sequence[Request], way: str) -> None:
    kept = KeptBeginnings(model, 0 if way == "kept" else MEMORY) if way in ("kept", "known", "common") else None
    for request in asked:
        shared_generation.generate_shared(model, replace(request, kept=kept))


def _learn(model: PreTrainedModel, batches: Sequence[Tensors], way: str) -> None:
    sharing = Sharing.of(model, checkpointing=way == "packed")
    assert sharing is not None
    if way != "packed":
        sharing = replace(sharing, packed=None, apart=way == "common")
    shared_logprobs.plan = _prompts_apart if way == "apart" else beginnings.plan
    for ids, mask, width in batches:
        logprobs, _ = sharing.logprobs(model, ids, mask, width, entropy=False)
        logprobs.sum().backward()
    model.zero_grad(set_to_none=True)


def _prompts_apart(texts: Sequence[Tokens], *, repeating: Sequence[int], a_pass: int) -> list[Level]:
    return beginnings._levels(texts, [0] * len(texts), [repeating])


def _tensors(rows: Sequence[Row]) -> Tensors:
    """Prompts padded on the left, answers on the right, as TRL has them."""
    before, behind = max(len(row.prompt_ids) for row in rows), max(len(row.completion_ids) for row in rows)
    ids, mask = (torch.zeros((len(rows), before + behind), dtype=torch.long) for _ in range(2))
    for number, row in enumerate(rows):
        there = slice(before - len(row.prompt_ids), before + len(row.completion_ids))
        ids[number, there] = torch.tensor([*row.prompt_ids, *row.completion_ids])
        mask[number, there] = 1
    return ids, mask, behind


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
