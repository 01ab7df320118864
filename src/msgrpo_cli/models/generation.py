"""Sampling completions from a transformers model with keyed uniform numbers.

Knows token ids, logits and keys. Knows nothing about games, prompts or training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from msgrpo_cli.common.seeding import Key, uniforms

from .kept_beginnings import KeptBeginnings


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; all of it explicit, because `generate` fills gaps from the model's own config."""

    temperature: float = 1.0
    """0 means greedy decoding."""
    max_new_tokens: int = 256
    top_p: float = 1.0
    top_k: int = 0
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """As stored beside scores and checkpoints."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Generated:
    """One sampled completion."""

    token_ids: tuple[int, ...]
    """Up to the first end-of-turn token, it included."""
    logprobs: tuple[float, ...]
    """Log-probability (nats) of each token under the sampling distribution; 0 under greedy decoding."""
    truncated: bool
    """No end-of-turn token within the limit."""


@dataclass(frozen=True)
class Request:
    """Prompts that are answered together, and how."""

    prompts: Sequence[Sequence[int]]
    """Token ids."""
    keys: Sequence[Key]
    """One for each prompt: the randomness of its answer."""
    sampling: Sampling
    pad_token_id: int
    eos_token_ids: Sequence[int]
    """Every one of them ends an answer."""
    kept: KeptBeginnings | None = None
    """What was read since the weights last changed, and may be kept; None where nothing is."""


class Generator(Protocol):
    """Answers prompts with a model's present weights: `generate` here, or another engine (`training/generators`)."""

    def __call__(self, model: PreTrainedModel, request: Request) -> list[Generated]:
        """One answer for each prompt, in order; its randomness belongs to its key alone."""


@runtime_checkable
class OwnWeights(Protocol):
    """A generator that has weights of its own, which it is given; not the model's."""

    together: int
    """How many ranks of a run, one after the other, answer together: they ask the same, and get the same answers."""

    def renew(self, model: PreTrainedModel) -> None:
        """Give it the weights of `model`, where they have changed. All ranks of a run call this before any of them
        asks, also those that will ask nothing."""


class KeyedSampler(LogitsProcessor):
    """Turns one uniform number per row and token into a token by the inverse distribution function.

    `generate` then finds a single token with finite score. So an answer depends on its key and its prompt, never on
    the batch around it. Keeps the log-probabilities of what it chose, shape (rows,) per token.
    """

    def __init__(self, uniform: np.ndarray, temperature: float, warpers: LogitsProcessorList, device: torch.device):
        self._uniform = torch.as_tensor(uniform, device=device)
        self._temperature = temperature
        self._warpers = warpers
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """`scores`: logits, tensor of shape (rows, vocabulary); returns the same shape, one entry finite per row."""
        points = self._uniform[:, len(self.logprobs)]
        chosen, logprobs = draw(scores, points, self._temperature, self._warpers, input_ids)
        self.logprobs.append(logprobs)
        return torch.full_like(scores, -torch.inf).scatter_(-1, chosen, 0.0)


def draw(
    scores: Any,
    points: torch.Tensor,
    temperature: float,
    warpers: LogitsProcessorList,
    input_ids: Any = None,
    rows: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token for every point by the inverse distribution function; `points`: numbers in [0, 1), shape (answers,).

    `scores`: logits, shape (rows, vocabulary); `rows` says whose row each answer draws from, by default its own.
    Returns the tokens, shape (answers, 1), and their log-probabilities under the sampling distribution, (answers,).
    """
    logprobs = torch.log_softmax(warpers(input_ids, scores / temperature), dim=-1)
    distribution = logprobs.exp().to(points.dtype).cumsum(-1)
    if rows is None:
        rows = torch.arange(len(points), device=points.device)
    column = _occurrence(rows)
    grid = points.new_zeros((len(scores), int(column.max()) + 1))
    grid[rows, column] = points
    chosen = torch.searchsorted(distribution, grid * distribution[:, -1:], right=True)[rows, column]
    chosen.clamp_(max=scores.shape[-1] - 1)  # NaN would point beyond; the policy refuses its log-probabilities
    return chosen[:, None], logprobs[rows, chosen]


def _occurrence(rows: torch.Tensor) -> torch.Tensor:
    """For every entry, how many equal ones come before it."""
    order = torch.argsort(rows, stable=True)
    counts = torch.bincount(rows)
    first = counts.cumsum(0) - counts
    occurrence = torch.empty_like(rows)
    occurrence[order] = torch.arange(len(rows), device=rows.device) - first[rows[order]]
    return occurrence


def generate(model: PreTrainedModel, request: Request) -> list[Generated]:
    """Answer every prompt in one batch, by transformers' `generate`."""
    prompts, sampling, ends = request.prompts, request.sampling, request.eos_token_ids
    width = max(map(len, prompts))
    device = model.device
    ids = torch.full((len(prompts), width), request.pad_token_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    processors, sampler = _processors(request.keys, sampling, device)
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=False,  # the sampler leaves one token; without it, greedy decoding
        num_beams=1,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        repetition_penalty=1.0,
        pad_token_id=request.pad_token_id,
        eos_token_id=list(ends),
        use_cache=True,
        disable_compile=True,
    )
    was_training, own_config = model.training, model.generation_config
    model.eval()
    model.generation_config = config  # `generate` fills from the model's own whatever is left open
    try:
        with torch.no_grad():
            output = model.generate(  # type: ignore[operator]
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=config,
                logits_processor=processors,
                synced_gpus=False,  # of several processes each asks its own texts, and waits for none
            )
    finally:
        model.generation_config = own_config
        model.train(was_training)
    sampled = output[:, width:].tolist()
    logprobs = torch.stack(sampler.logprobs, dim=1).tolist() if sampler else None
    return [cut(row, logprobs[i] if logprobs else None, set(ends)) for i, row in enumerate(sampled)]


def _processors(
    keys: Sequence[Key], sampling: Sampling, device: torch.device
) -> tuple[LogitsProcessorList, KeyedSampler | None]:
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature == 0.0:
        return processors, None
    uniform = keyed_numbers(keys, sampling, device)
    sampler = KeyedSampler(uniform, sampling.temperature, warpers_of(sampling), device)
    processors.append(sampler)
    return processors, sampler


def warpers_of(sampling: Sampling) -> LogitsProcessorList:
    """What cuts the distribution; empty for the exact softmax."""
    warpers = LogitsProcessorList()
    if sampling.top_k > 0:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers


def keyed_numbers(keys: Sequence[Key], sampling: Sampling, device: torch.device) -> np.ndarray:
    """The numbers that draw the tokens, shape (rows, tokens), in the precision that the device has."""
    uniform = np.stack([uniforms(key, sampling.max_new_tokens) for key in keys])
    if device.type == "mps":  # no float64 there
        return np.minimum(uniform.astype(np.float32), np.float32(1 - 1e-6))
    return uniform


def cut(token_ids: list[int], logprobs: list[float] | None, ends: set[int]) -> Generated:
    """An answer up to its first end-of-turn token, it included."""
    length = next((index + 1 for index, token in enumerate(token_ids) if token in ends), len(token_ids))
    kept = tuple(token_ids[:length])
    return Generated(
        token_ids=kept,
        logprobs=tuple(logprobs[:length]) if logprobs else (0.0,) * length,
        truncated=kept[-1] not in ends,
    )
