"""Log-probabilities of training rows where every beginning of a prompt and every answer to it is computed once.

Knows padded token tensors and the cache of a transformers model. Knows nothing about rewards, losses or games.
Shape suffixes: N rows, P distinct prompts, A distinct answers (pairs of prompt and completion), T tokens.

Rows of one update repeat: episodes of a group pass through the same states and give the same answers there; and prompts
begin alike. So the backbone reads the distinct prompts but for their last tokens, level by level; their cache is handed
to the distinct answers, each of which goes on with the prompt's last token and its own tokens but the last; the results
are dealt out to the rows. Gradients add up on the way back: loss and gradient are those of separate rows, up to
rounding.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from msgrpo_cli.models.beginnings import Level, Tokens, plan
from msgrpo_cli.models.dropout import active_dropout
from msgrpo_cli.models.kept_beginnings import KeptBeginnings
from msgrpo_cli.models.level_reading import positions_of, read_levels
from msgrpo_cli.models.packing import NOT_PREDICTED, Packed, most_tokens, pack
from msgrpo_cli.models.shared_generation import cache_name, has_plain_cache

_NOTHING = -1  # stands where a row is padded


@dataclass(frozen=True)
class Sharing:
    """How one trainer computes equal prompts and answers once."""

    packed: int | None
    """In sequences of so many tokens behind a mask: where activations are checkpointed no cache is kept."""

    @classmethod
    def of(cls, model: PreTrainedModel, *, packed: bool) -> Sharing | None:
        """None where rows stay separate: caches that forget, attention that takes no mask of its own (ALiBi makes its
        biases of a plain one), and dropout, which separate rows would draw each for itself."""
        config = model.config
        takes_masks = config._attn_implementation in ("eager", "sdpa") and not getattr(config, "alibi", False)
        possible = has_plain_cache(model) and (takes_masks or not packed) and not active_dropout(model)
        return cls(most_tokens(model.config.get_text_config().hidden_size) if packed else None) if possible else None

    def work(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_width: int) -> tuple[int, int]:
        """How many tokens one pass over padded rows reads, padding included, and how many of them are padding."""
        return SharedRows.of(input_ids, attention_mask, completion_width).work(packed=self.packed)

    def logprobs(
        self,
        model: PreTrainedModel,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        completion_width: int,
        *,
        entropy: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Log-probabilities (nats) of the completions' tokens, shape (N, T), 0 where padded, and their entropies."""
        rows = SharedRows.of(input_ids, attention_mask, completion_width)
        if self.packed is None:
            return shared_logprobs(model, rows, entropy=entropy)
        return packed_logprobs(model, rows, self.packed, entropy=entropy)


def told_positions(model: torch.nn.Module, inner: PreTrainedModel) -> Callable[..., Any]:
    """The model, told the position of every token behind padding, where it takes them: not every one counts by itself.

    `inner` is the same model without what is wrapped around it.
    """
    if "position_ids" not in inspect.signature(type(inner).forward).parameters:
        return model

    def forward(*, attention_mask: torch.Tensor, **others: Any) -> Any:
        return model(attention_mask=attention_mask, position_ids=positions_of(attention_mask), **others)

    return forward


@dataclass(frozen=True)
class SharedRows:
    """Rows cut into what is distinct in them."""

    prompt_PT: torch.Tensor
    answer_AT: torch.Tensor
    prompt_A: torch.Tensor
    """Number of each answer's prompt."""
    answer_N: torch.Tensor
    """Number of each row's answer."""

    @classmethod
    def of(cls, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_width: int) -> SharedRows:
        """From prompts padded on the left and completions padded on the right, side by side, shape (N, T)."""
        token_NT = input_ids.masked_fill(attention_mask == 0, _NOTHING)
        prompt_NT, completion_NT = token_NT[:, :-completion_width], token_NT[:, -completion_width:]
        prompt_PT, prompt_N = torch.unique(prompt_NT, dim=0, return_inverse=True)
        pair_AT, answer_N = torch.unique(
            torch.cat([prompt_N[:, None], completion_NT], dim=1), dim=0, return_inverse=True
        )
        return cls(prompt_PT, pair_AT[:, 1:], pair_AT[:, 0], answer_N)

    @cached_property
    def levels(self) -> list[Level]:
        """How the prompts, each but for its last token, are read."""
        return plan([tuple(prompt[prompt != _NOTHING][:-1].tolist()) for prompt in self.prompt_PT])

    def packed(self, most: int) -> list[Packed]:
        """The same in sequences of about `most` tokens: prompts that begin alike, with their answers."""
        prompts = [tuple(prompt[prompt != _NOTHING].tolist()) for prompt in self.prompt_PT]
        answers_of: list[dict[int, Tokens]] = [{} for _ in prompts]
        for number, (of, answer) in enumerate(zip(self.prompt_A.tolist(), self.answer_AT, strict=True)):
            answers_of[of][number] = tuple(answer[answer != _NOTHING].tolist())
        return pack(prompts, answers_of, most)

    def work(self, *, packed: int | None) -> tuple[int, int]:
        """How many tokens the model reads, padding included, and how many of them are padding."""
        if packed is not None:
            lengths = [len(one.token_ids) for one in self.packed(packed)]
            return len(lengths) * max(lengths), len(lengths) * max(lengths) - sum(lengths)
        read = sum(level.read for level in self.levels) + self.answer_AT.numel()
        real = sum(len(one) for level in self.levels for one in level.segments)
        return read, read - real - int((self.answer_AT != _NOTHING).sum())


def shared_logprobs(
    model: PreTrainedModel, rows: SharedRows, *, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities (nats) of the completions' tokens, shape (N, T), 0 where padded, and their entropies.

    `model` carries TRL's fused head (`add_fused_lm_head`), and its cache keeps all keys and values.
    """
    name, last_P = cache_name(model), rows.prompt_PT[:, -1]

    def read(cache: DynamicCache, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> None:
        handed = {name: cache}
        model.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, **handed)

    cache, there_PT, _ = read_levels(rows.levels, KeptBeginnings(model), read, 0)
    length_P = there_PT.sum(-1)
    cache.batch_select_indices(rows.prompt_A)
    input_AT = torch.cat([last_P[rows.prompt_A, None], rows.answer_AT[:, :-1]], dim=1)
    ahead_T = torch.arange(input_AT.shape[1], device=input_AT.device)
    output = model(
        input_ids=input_AT.clamp(min=0),
        attention_mask=torch.cat([there_PT[rows.prompt_A], (input_AT != _NOTHING).long()], dim=1),
        position_ids=length_P[rows.prompt_A, None] + ahead_T,
        shift_labels=rows.answer_AT.masked_fill(rows.answer_AT == _NOTHING, NOT_PREDICTED),
        fused_lm_head=True,
        **{name: cache},
    )
    return output.log_probs[rows.answer_N], output.entropy[rows.answer_N] if entropy else None


def packed_logprobs(
    model: PreTrainedModel, rows: SharedRows, most: int, *, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The same as `shared_logprobs`, without a cache: prompts that begin alike and all their answers in one sequence.

    A token sees the beginning that it continues, at the positions that it has there. For models whose activations are
    checkpointed, which keep no cache; their attention must take a mask of its own.
    """
    packed, device = rows.packed(most), rows.prompt_PT.device
    width = max(len(one.token_ids) for one in packed)

    def padded(lists: list[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([[*values, *[filler] * (width - len(values))] for values in lists], device=device)

    place_T = torch.arange(width, device=device)
    behind_PT = padded([one.behind for one in packed], 0)
    seen = (place_T <= place_T[:, None]) & (place_T[:, None] < behind_PT[:, None, :])
    seen |= torch.eye(width, dtype=torch.bool, device=device)  # padding sees itself: it may not see nothing
    output = model(
        input_ids=padded([one.token_ids for one in packed], 0),
        attention_mask=_as_attention_takes_it(seen[:, None], model),
        position_ids=padded([one.positions for one in packed], 0),
        shift_labels=padded([one.labels for one in packed], NOT_PREDICTED),
        fused_lm_head=True,
    )
    first_A = torch.zeros(len(rows.answer_AT), dtype=torch.long)
    for number, one in enumerate(packed):
        for answer, first in one.first.items():
            first_A[answer] = number * width + first
    real_AT = rows.answer_AT != _NOTHING
    ahead_T = torch.arange(real_AT.shape[1], device=device)
    flat_AT = torch.where(real_AT, first_A.to(device)[:, None] + ahead_T, 0)

    def dealt_out(value_PT: torch.Tensor) -> torch.Tensor:
        return (value_PT.flatten()[flat_AT] * real_AT)[rows.answer_N]

    return dealt_out(output.log_probs), dealt_out(output.entropy) if entropy else None


def _as_attention_takes_it(seen: torch.Tensor, model: PreTrainedModel) -> torch.Tensor:
    """True where a token is seen; plain attention adds a mask of numbers instead."""
    if model.config._attn_implementation == "sdpa":
        return seen
    return torch.zeros_like(seen, dtype=model.dtype).masked_fill(~seen, torch.finfo(model.dtype).min)
