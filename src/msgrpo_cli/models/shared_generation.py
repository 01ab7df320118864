"""Sampling completions where every distinct beginning is computed once.

Knows token ids, logits, keys, and which caches of transformers can be shared between rows. Knows nothing about games,
prompts or training.

State-only prompts repeat: a group starts in one state, and states are visited again. Answers to one prompt repeat too,
at least in their first tokens. So a batch is a tree: its roots are the distinct prompts, its nodes the distinct
beginnings of answers. The model runs once for each node; every answer draws from its own node with its own key. What
the model said at a node of an earlier batch is kept while its weights stay the same: the tree of a batch grows from
where answers leave what is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache, PreTrainedModel

from msgrpo_cli.config.schema import RunConfig

from .beginnings import KEPT_SAVES, Tokens, common_tokens, plan
from .caches import cache_name, has_plain_cache
from .common_beginning import behind, length_of, read_common, sees_common
from .generation import Generated, Generator, Request, draw, generate, keyed_numbers, warpers_of
from .kept_beginnings import KeptBeginnings
from .level_reading import pass_of, read_levels


@dataclass
class _Answer:
    """One answer while it grows."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


def generate_shared(model: PreTrainedModel, request: Request) -> list[Generated]:
    """What `generate` answers, up to rounding; by `generate` itself where beginnings cannot be shared.

    That is where a layer does not keep all keys and values (sliding windows, recurrent layers), and where
    `repetition_penalty` makes the distribution depend on the padding of the batch.
    """
    if request.sampling.repetition_penalty != 1.0 or not has_plain_cache(model):
        return generate(model, request)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return _Tree(model, request).grow()
    finally:
        model.train(was_training)


class _Tree:
    """The distinct beginnings of one batch; `row_of` says at which of them every answer that still grows is."""

    def __init__(self, model: PreTrainedModel, request: Request) -> None:
        self._model, self._sampling, self._pad = model, request.sampling, request.pad_token_id
        self._ends = set(request.eos_token_ids)
        self._warpers = warpers_of(self._sampling)
        self._answers = [_Answer() for _ in request.keys]
        drawn = self._sampling.temperature > 0
        numbers = keyed_numbers(request.keys, self._sampling, model.device) if drawn else None
        self._points = None if numbers is None else torch.as_tensor(numbers)
        prompts: dict[Tokens, int] = {}
        self._prompt_of = [prompts.setdefault(tuple(prompt), len(prompts)) for prompt in request.prompts]
        self._kept, self._cache_name = request.kept, cache_name(model)
        self._reading = KeptBeginnings(model) if request.kept is None else request.kept
        self._prompts = self._behind_what_all_begin_with(list(prompts))

    def _behind_what_all_begin_with(self, prompts: list[Tokens]) -> list[Tokens]:
        """The prompts from where they differ, the beginning before that being read; whole where it is not worth it."""
        known = self._reading.common
        before = () if known is None else known.token_ids
        alike = common_tokens(prompts, before, self._sampling.max_new_tokens) if sees_common(self._model) else ()
        if alike != before:
            self._reading.stand_behind(read_common(self._model, alike, known) if alike else None)
        return [prompt[len(alike) :] for prompt in prompts]

    def grow(self) -> list[Generated]:
        """Token by token, until every answer has ended."""
        growing = self._grown_as_known(range(len(self._answers)))
        if growing:
            texts, row_of = self._standing(growing)
            logits = self._read(texts)
            while growing := self._draw(logits, row_of):
                nodes: dict[tuple[int, int], int] = {}
                row_of = {i: nodes.setdefault((row_of[i], self._answers[i].token_ids[-1]), len(nodes)) for i in growing}
                texts = [(*texts[row], token) for row, token in nodes] if self._kept else []
                logits = self._said(texts, self._step(list(nodes)))
        return [
            Generated(tuple(answer.token_ids), tuple(answer.logprobs), answer.token_ids[-1] not in self._ends)
            for answer in self._answers
        ]

    def _grown_as_known(self, growing: Sequence[int]) -> list[int]:
        """Draw from what is kept, as far as it goes; returns the answers that grow on from there."""
        left: list[int] = []
        while self._kept and growing:
            texts, row_of = self._standing(growing)
            known = [row for row, text in enumerate(texts) if text in self._kept.logits]
            place = {row: number for number, row in enumerate(known)}
            left += [i for i in growing if row_of[i] not in place]
            drawn = {i: place[row_of[i]] for i in growing if row_of[i] in place}
            growing = self._draw(self._kept.logits.after([texts[row] for row in known]), drawn) if drawn else []
        return sorted([*left, *growing])

    def _standing(self, growing: Sequence[int]) -> tuple[list[Tokens], dict[int, int]]:
        """The distinct texts at which these answers stand, and which of them is each one's."""
        said = {i: (self._prompt_of[i], *self._answers[i].token_ids) for i in growing}
        number = {node: row for row, node in enumerate(dict.fromkeys(said.values()))}
        texts = [(*self._prompts[prompt], *answer) for prompt, *answer in number]
        return texts, {i: number[node] for i, node in said.items()}

    def _said(self, texts: Sequence[Tokens], logits: torch.Tensor) -> torch.Tensor:
        """These logits, kept."""
        if self._kept is not None:
            self._kept.logits.keep(texts, logits)
        return logits

    def _read(self, texts: Sequence[Tokens]) -> torch.Tensor:
        """Logits of the first token after every text, shape (texts, vocabulary)."""
        kept = self._reading
        cost = pass_of(self._model) // (1 if self._kept is None else KEPT_SAVES)
        levels = plan(texts, kept.longest(texts), a_pass=cost)
        self._cache, self._mask, logits = read_levels(levels, kept, self._forward, self._pad)
        self._length = self._mask.sum(-1)
        assert logits is not None
        return self._said(texts, logits)

    def _step(self, nodes: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Logits of the next token after every (row, token), whose rows become the new ones."""
        rows = torch.tensor([row for row, _ in nodes], device=self._model.device)
        if len(rows) != len(self._mask) or not torch.equal(rows, torch.arange(len(rows), device=rows.device)):
            self._cache.batch_select_indices(rows)
            self._mask, self._length = self._mask[rows], self._length[rows]
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        self._length = self._length + 1
        ids = torch.tensor([[token] for _, token in nodes], device=rows.device)
        return self._forward(self._cache, ids, self._mask, self._length[:, None] - 1)

    def _forward(
        self, cache: DynamicCache, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        common = self._reading.common
        with behind(self._model, common):
            output = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions + length_of(common),
                use_cache=True,
                logits_to_keep=1,
                **{self._cache_name: cache},
            )
        return torch.as_tensor(output.logits[:, -1].float())

    def _draw(self, logits: torch.Tensor, row_of: Mapping[int, int]) -> list[int]:
        """The next token of every one of these answers, from the distribution of its row; returns those that go on."""
        growing, device = list(row_of), logits.device
        rows = torch.tensor([row_of[i] for i in growing], device=device)
        if self._points is None:
            tokens, logprobs = logits.argmax(-1)[rows].tolist(), [0.0] * len(growing)
        else:
            points = self._points[growing, [len(self._answers[i].token_ids) for i in growing]].to(device)
            chosen, found = draw(logits, points, self._sampling.temperature, self._warpers, rows=rows)
            tokens, logprobs = chosen.squeeze(-1).tolist(), found.tolist()
        for i, token, logprob in zip(growing, tokens, logprobs, strict=True):
            self._answers[i].token_ids.append(token)
            self._answers[i].logprobs.append(logprob)
        return [i for i in growing if not self._ended(self._answers[i].token_ids)]

    def _ended(self, token_ids: Sequence[int]) -> bool:
        return token_ids[-1] in self._ends or len(token_ids) == self._sampling.max_new_tokens


def single(config: RunConfig) -> Generator:
    """transformers' `generate`, or the same answers with what repeats computed once."""
    return generate_shared if config.rollout.share_prompts else generate
