"""Sampling completions with vLLM: when it is started and given weights, and what it is asked.

Knows vLLM's requests, seeds from keys and which weights vLLM has. Knows nothing about games, prompts or losses, nor how
weights get there: `vllm_engine` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from transformers import PreTrainedModel
from trl.generation.vllm_generation import extract_logprobs

from msgrpo_cli.common.seeding import Key, seed_from
from msgrpo_cli.common.text import one_line
from msgrpo_cli.errors import RunError
from msgrpo_cli.models.generation import Generated, Request, Sampling, cut

from .parallel.ranks import of_a_peer
from .trainer import MSGRPOTrainer
from .vllm_engine import AT_ONCE, Engine, whole_model

Answer = tuple[list[int], list[float | None]]
"""Token ids of one answer and their log-probabilities."""


class VLLMGenerator:
    """A `generation.Generator` on vLLM, inside this process or on a server.

    vLLM holds weights of its own. They are pushed before the first answer that a changed model gives: another model,
    or another optimizer step of the trainer since the last push. So every rollout and every evaluation has fresh ones.
    Several ranks push them together, before any of them asks: see `generation.OwnWeights`.

    Each decision is a request with a seed of its own, made from the decision's key: TRL's own `generate` takes one
    seed for all prompts, and equal prompts of a group would then get equal answers.
    """

    def __init__(
        self, trainer: Callable[[], MSGRPOTrainer], max_requests: int, max_tokens: int, together: int = 1
    ) -> None:
        """`trainer` is called at the first answer; vLLM starts then. `max_tokens`: prompt and answer together."""
        self._trainer = trainer
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self.together = together
        self._engine: Engine | None = None
        self._pushed: tuple[PreTrainedModel, int] | None = None

    def __call__(self, model: PreTrainedModel, request: Request) -> list[Generated]:
        """Answer every prompt, each with the seed of its key; see `generation.Generator`."""
        sampling, ends = request.sampling, request.eos_token_ids
        engine = self._with_weights_of(model)
        settings = [request_settings(key, sampling, ends) for key in request.keys]
        answers = _ASK[engine.mode](engine, request.prompts, settings)
        greedy = sampling.temperature == 0.0
        return [cut(ids, None if greedy else _known(logprobs), set(ends)) for ids, logprobs in answers]

    def renew(self, model: PreTrainedModel) -> None:
        """Start vLLM, and push the weights of `model`, where that is still to be done on any rank. All ranks call.

        A rank that fails is not heard by the others, for they wait in what TRL and vLLM do together; its process ends.
        """
        trainer = self._trainer()
        if not any(trainer.ranks.gather(lambda: not self._is_fresh(model))):
            return
        whole = whole_model(trainer.model, model)
        with trainer.ranks.in_step():
            self._engine = self._engine or self._start(trainer, whole)
            self._engine.push(whole)
        trainer.ranks.gather(lambda: None)  # on a server they have arrived once the first rank is here
        self._pushed = (model, int(trainer.state.global_step))

    def _is_fresh(self, model: PreTrainedModel) -> bool:
        step = int(self._trainer().state.global_step)
        return self._pushed is not None and self._pushed[0] is model and self._pushed[1] == step

    def _with_weights_of(self, model: PreTrainedModel) -> Engine:
        if self._trainer().ranks.alone:
            self.renew(model)
        elif not self._is_fresh(model):
            raise RuntimeError("vLLM was asked before it was given the weights: all ranks give them together, before")
        assert self._engine is not None
        return self._engine

    def _start(self, trainer: MSGRPOTrainer, model: Any) -> Engine:
        args = trainer.args
        try:
            return Engine(
                model=model,
                accelerator=trainer.accelerator,
                processing_class=trainer.processing_class,  # type: ignore[arg-type]
                mode=args.vllm_mode,
                server_base_url=args.vllm_server_base_url,
                server_host=args.vllm_server_host,
                server_port=args.vllm_server_port,
                server_timeout=args.vllm_server_timeout,
                group_port=args.vllm_group_port,
                tensor_parallel_size=args.vllm_tensor_parallel_size,
                gpu_memory_utilization=args.vllm_gpu_memory_utilization,
                max_model_length=args.vllm_max_model_length or self._max_tokens,
                max_num_seqs=self._max_requests,  # TRL would take the rows of a micro-batch
                model_impl=args.vllm_model_impl,
            )
        except (OSError, ImportError, RuntimeError, ValueError) as error:  # NotImplementedError is a RuntimeError
            if not trainer.ranks.alone and of_a_peer(error):
                raise
            raise RunError(f"vLLM did not start ({args.vllm_mode}): {one_line(error)}") from error


def request_settings(key: Key, sampling: Sampling, eos_token_ids: Sequence[int]) -> dict[str, Any]:
    """vLLM's settings of one request; all of it explicit, because vLLM fills gaps from the model's own config."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p or 0.0,
        "repetition_penalty": sampling.repetition_penalty,
        "max_tokens": sampling.max_new_tokens,
        "stop_token_ids": list(eos_token_ids),
        "seed": seed_from((*key, "vllm")),
        "logprobs": 0,  # that of the sampled token, and no other
    }


def _ask_here(engine: Engine, prompts: Sequence[Sequence[int]], settings: Sequence[Mapping[str, Any]]) -> list[Answer]:
    from vllm import SamplingParams

    outputs = engine.llm.generate(
        [{"prompt_token_ids": list(prompt)} for prompt in prompts],
        sampling_params=[SamplingParams(**setting) for setting in settings],
        use_tqdm=False,
    )
    ids = [list(answer.token_ids) for output in outputs for answer in output.outputs]
    return list(zip(ids, _first(extract_logprobs(outputs)[0]), strict=True))


def _ask_server(
    engine: Engine, prompts: Sequence[Sequence[int]], settings: Sequence[Mapping[str, Any]]
) -> list[Answer]:
    """One request per prompt, many at a time: the server puts them into batches."""

    def ask(prompt: Sequence[int], setting: Mapping[str, Any]) -> Answer:
        answer = engine.vllm_client.generate([list(prompt)], n=1, generation_kwargs=dict(setting))
        logprobs: Any = answer["logprobs"]
        return answer["completion_ids"][0], _first(logprobs)[0]

    with ThreadPoolExecutor(min(AT_ONCE, len(prompts))) as pool:
        return list(pool.map(ask, prompts, settings))


_ASK = {"colocate": _ask_here, "server": _ask_server}


def _first(logprobs: list[list[list[float | None]]] | None) -> list[list[float | None]]:
    """TRL lists several log-probabilities for each token; the only one asked for is that of the sampled token."""
    if logprobs is None:
        raise RunError("vLLM gave no log-probabilities, without which there is no training")
    return [[token[0] for token in answer] for answer in logprobs]


def _known(logprobs: Sequence[float | None]) -> list[float]:
    """TRL writes None where vLLM said NaN."""
    known = [value for value in logprobs if value is not None]
    if len(known) < len(logprobs):
        raise RunError("vLLM gave no number for the log-probability of a token: its logits were not finite")
    return known
