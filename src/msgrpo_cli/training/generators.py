"""From the chosen engine to the object that answers prompts.

Knows the engines' names and their generators. Knows nothing about games, losses or files. An engine's module is
imported only where it is chosen: the others do not depend on what it needs of transformers and TRL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.models.generation import Generator
from msgrpo_cli.models.shared_generation import single

from .trainer import MSGRPOTrainer

Trainer = Callable[[], MSGRPOTrainer]
"""Gives the trainer, once it exists; vLLM needs its accelerator and its count of steps."""


def _single(config: RunConfig, trainer: Trainer) -> Generator:
    return single(config)


def _continuous(config: RunConfig, trainer: Trainer) -> Generator:
    from msgrpo_cli.models.continuous_batching import ContinuousBatchingGenerator

    return ContinuousBatchingGenerator(config.trainer.get("transformers_continuous_batching_config"))


def _vllm(config: RunConfig, trainer: Trainer) -> Generator:
    from .vllm import VLLMGenerator

    rollout, together = config.rollout, int(config.trainer.get("vllm_tensor_parallel_size", 1))
    tokens = rollout.max_prompt_tokens + rollout.max_new_tokens
    return VLLMGenerator(trainer, rollout.max_live_episodes, tokens, together)


GENERATORS: Mapping[str, Callable[[RunConfig, Trainer], Generator]] = {
    "single": _single,
    "continuous_batching": _continuous,
    "vllm_colocate": _vllm,
    "vllm_server": _vllm,
}


def make_generator(config: RunConfig, trainer: Trainer) -> Generator:
    """The generator of the config's engine."""
    return GENERATORS[config.engine.name](config, trainer)
