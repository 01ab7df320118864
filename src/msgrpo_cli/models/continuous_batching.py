"""Sampling completions with transformers' continuous batching, from the same keyed uniform numbers.

Knows transformers' manager of requests and its logits processors. Knows nothing about games, prompts or training.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel
from transformers.generation import ContinuousBatchingConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.continuous_api import ContinuousBatchProcessor

from msgrpo_cli.common.seeding import Key
from msgrpo_cli.common.text import one_line
from msgrpo_cli.errors import RunError, UsageError

from .generation import Generated, Request, Sampling, cut, draw, keyed_numbers, warpers_of
from .kept_beginnings import KeptBeginnings


class KeyedRequestSampler(ContinuousBatchingLogitsProcessor):
    """`generation.KeyedSampler` for requests that come and go: each takes the next number of its own key.

    transformers asks for the arguments of a forward pass, then calls with its logits. It does so in turn only without
    CUDA graphs and without asynchronous batching; both are off.
    """

    def __init__(self, device: torch.device) -> None:
        self.supported_kwargs = {}
        self.ignored_kwargs = ()
        self._device = device
        self._asked: list[int] = []
        self.logprobs: list[list[float]] = []

    def begin(self, keys: Sequence[Key], sampling: Sampling) -> None:
        """New requests, one for each key; a request's id is the place of its key."""
        self._uniform = keyed_numbers(keys, sampling, self._device)
        self._temperature = sampling.temperature
        self._warpers = warpers_of(sampling)
        self.logprobs = [[] for _ in keys]

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """No argument travels through transformers' own tensor: it holds 32 bits, a number has 64."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        """Remembers whose logits come next."""
        self._asked = [int(request.state.request_id) for request in requests_with_new_token]
        return torch.zeros(len(self._asked), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """`scores`: logits of shape (rows, vocabulary); rows after those asked for belong to unfinished prompts."""
        rows = len(self._asked)
        if not self._temperature or not rows:  # greedy decoding takes the largest
            return scores
        numbers = [self._uniform[row, len(self.logprobs[row])] for row in self._asked]
        points = torch.as_tensor(np.array(numbers), device=self._device)
        chosen, logprobs = draw(scores[:rows], points, self._temperature, self._warpers)
        for row, logprob in zip(self._asked, logprobs.tolist(), strict=True):
            self.logprobs[row].append(logprob)
        kept = torch.full_like(scores, -torch.inf)
        kept[:rows].scatter_(-1, chosen, 0.0)
        return kept


@dataclass
class _Engine:
    """transformers' manager and processor with their cache, made for one model and kept between calls."""

    model: PreTrainedModel
    pages: int
    kept: KeptBeginnings | None
    """What it was made for: its own cache of beginnings is as old as this."""
    sampler: KeyedRequestSampler
    manager: ContinuousBatchingManager
    processor: ContinuousBatchProcessor


class ContinuousBatchingGenerator:
    """A `generation.Generator` on transformers' continuous batching; it reads the weights of the model it is given.

    The loop runs in the calling thread, so that the precision, the interruption and the thread count of the caller
    hold. Where the weights stay the same (`Request.kept`) transformers keeps and shares blocks of prompts that begin
    alike, in the pages that there are; an engine is made anew for other weights, so that no block outlives those that
    made it.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        """`settings`: fields of transformers' ContinuousBatchingConfig that win over ours."""
        self._settings = {"page_size": 16, "max_batch_tokens": 1024, **(settings or {})}
        try:
            ContinuousBatchingConfig(**self._settings)
        except TypeError as error:
            raise UsageError(f"trainer.transformers_continuous_batching_config: {one_line(error)}") from error
        self._engine: _Engine | None = None
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)  # it reports every cache that it makes

    def __call__(self, model: PreTrainedModel, request: Request) -> list[Generated]:
        """Answer every prompt; see `generation.Generator`."""
        prompts, sampling, ends = request.prompts, request.sampling, set(request.eos_token_ids)
        was_training = model.training
        try:
            engine = self._engine_for(model, self._pages(prompts, sampling.max_new_tokens), request)
            self._engine = None  # lost where anything below fails, with whatever was left in its queues
            engine.sampler.begin(request.keys, sampling)
            model.eval()
            answers = _run(engine, prompts, sampling.max_new_tokens, sorted(ends))
        finally:
            model.train(was_training)
        self._engine = engine
        return [cut(ids, logs or None, ends) for ids, logs in zip(answers, engine.sampler.logprobs, strict=True)]

    def _pages(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> int:
        """Pages of cache that hold all requests at once, so that none is ever put off."""
        return sum(math.ceil((len(prompt) + new_tokens) / self._settings["page_size"]) + 1 for prompt in prompts)

    def _engine_for(self, model: Any, pages: int, request: Request) -> _Engine:
        """The kept engine where it fits, else a new one."""
        old = self._engine
        if old is not None and old.model is model and old.pages >= pages and old.kept is request.kept:
            return old
        self._engine = None  # its memory is free for the next
        _check(model)
        sampler = KeyedRequestSampler(model.device)
        manager: ContinuousBatchingManager = model.init_continuous_batching(
            GenerationConfig(do_sample=False, pad_token_id=request.pad_token_id, eos_token_id=-1),
            ContinuousBatchingConfig(
                num_blocks=pages,
                allow_block_sharing=request.kept is not None,
                use_cuda_graph=False,
                use_async_batching=False,
                auto_switch_to_flash=False,  # sampling with other kernels than training would widen the gap
                **self._settings,
            ),
        )
        manager.logit_processor = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([sampler]))
        manager.logit_processor.tensors_required = 1
        try:
            with torch.random.fork_rng():  # transformers seeds torch's generator, which is not ours to move
                processor = manager._create_batch_processor()
        except (MemoryError, ValueError) as error:
            raise RunError(
                f"continuous batching has no room for {pages} pages of cache ({error}); lower "
                "rollout.max_live_episodes or rollout.max_new_tokens"
            ) from error
        return _Engine(model, pages, request.kept, sampler, manager, processor)


def _check(model: PreTrainedModel) -> None:
    """Raises RunError for a model whose sampling would not be that of training."""
    if model.config._attn_implementation == "eager":  # transformers would switch it, for training too
        raise RunError("engine=continuous_batching needs model.attn_implementation=sdpa or a flash attention")
    kind = model.device.type
    if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) != model.dtype:
        raise RunError(
            f"engine=continuous_batching keeps its cache in the weights' {model.dtype}, which mixed precision does not "
            "fill: give trainer.bf16=false or model.dtype=bfloat16"
        )


def _run(engine: _Engine, prompts: Sequence[Sequence[int]], new_tokens: int, ends: list[int]) -> list[list[int]]:
    """Token ids of every answer, in order."""
    for number, prompt in enumerate(prompts):
        engine.manager.add_request(list(prompt), str(number), max_new_tokens=new_tokens, eos_token_id=ends)
    answers: dict[int, list[int]] = {}
    results = engine.manager.output_router.output_queue
    while len(answers) < len(prompts):
        if engine.processor.prepare_next_batch():
            engine.processor._generation_step(engine.model)
            engine.processor.update_batch()
        elif results.empty():
            raise RunError(f"continuous batching stopped after {len(answers)} of {len(prompts)} answers")
        while not results.empty():
            result = results.get_nowait()
            if result.error is not None:
                raise RunError(f"continuous batching failed: {result.error}")
            answers[int(result.request_id)] = list(result.generated_tokens)
    return [answers[number] for number in range(len(prompts))]
