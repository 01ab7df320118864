"""Log-probabilities of training rows where every distinct prompt and every distinct answer to it is computed once.

Knows padded token tensors and the cache of a transformers model. Knows nothing about rewards, losses or games.
Shape suffixes: N rows, P distinct prompts, A distinct answers (pairs of prompt and completion), T tokens.

Rows of one update repeat: episodes of a group pass through the same states and give the same answers there. So the
backbone reads every distinct prompt but for its last token; that cache is handed to the distinct answers, each of which
goes on with the prompt's last token and its own tokens but the last; the results are dealt out to the rows. Gradients
add up on the way back: loss and gradient are those of separate rows, up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import DynamicCache, PreTrainedModel

_NOTHING = -1  # stands where a row is padded
_IGNORED = -100  # the label that a language-model head passes over


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

    @property
    def positions(self) -> int:
        """How many tokens the model reads, padding included."""
        return self.prompt_PT[:, :-1].numel() + self.answer_AT.numel()

    @property
    def padding(self) -> int:
        """How many of them are padding."""
        return int((self.prompt_PT[:, :-1] == _NOTHING).sum() + (self.answer_AT == _NOTHING).sum())


def shared_logprobs(
    model: PreTrainedModel, rows: SharedRows, *, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities (nats) of the completions' tokens, shape (N, T), 0 where padded, and their entropies.

    `model` carries TRL's fused head (`add_fused_lm_head`), and its cache keeps all keys and values.
    """
    beginning_PT, last_P = rows.prompt_PT[:, :-1], rows.prompt_PT[:, -1]
    there_PT = beginning_PT != _NOTHING
    length_P = there_PT.sum(-1)
    cache = DynamicCache(config=model.config)
    model.base_model(
        input_ids=beginning_PT.clamp(min=0),
        attention_mask=there_PT.long(),
        position_ids=(there_PT.cumsum(-1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
    )
    cache.batch_select_indices(rows.prompt_A)
    input_AT = torch.cat([last_P[rows.prompt_A, None], rows.answer_AT[:, :-1]], dim=1)
    ahead_T = torch.arange(input_AT.shape[1], device=input_AT.device)
    output = model(
        input_ids=input_AT.clamp(min=0),
        attention_mask=torch.cat([there_PT[rows.prompt_A], input_AT != _NOTHING], dim=1).long(),
        position_ids=length_P[rows.prompt_A, None] + ahead_T,
        past_key_values=cache,
        shift_labels=rows.answer_AT.masked_fill(rows.answer_AT == _NOTHING, _IGNORED),
        fused_lm_head=True,
    )
    return output.log_probs[rows.answer_N], output.entropy[rows.answer_N] if entropy else None
