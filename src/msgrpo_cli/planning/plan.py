"""`msgrpo plan`: what a run would need and take, before anything is loaded, and what to change where it does not fit.

Knows how a config decides shapes, play, precision and hardware, and asks `memory` and `duration`. Loads no
weights. Imports nothing heavy, but a tokenizer where one is at hand and torch where an accelerator may be.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgrpo_cli.common.memory import free_memory
from msgrpo_cli.config import trainer_fields
from msgrpo_cli.config.compose import validated
from msgrpo_cli.config.engines import trainer_settings
from msgrpo_cli.config.saved import dumped
from msgrpo_cli.config.schema import LoraConfig, RunConfig
from msgrpo_cli.models.beginnings import a_pass

from .architecture import Architecture, Shapes, adapter_size, architecture_of, matrices_of
from .disk import BYTES, optimizer_numbers
from .duration import EFFICIENCIES, TimePlan, TimeQuestion, time_plan
from .hardware import Hardware, found, this_cpu
from .memory import MemoryPlan, MemoryQuestion, memory_plan
from .precision import autocasts, gathered_bytes, summed_bytes
from .prompts import play_key, sample_of
from .shares import Gathered, Sent, dealt, episode_bytes, most, sent, sent_of_parts
from .workload import ExpectedPlay, Sample, expected_play, play_sample

LIBRARIES = 700 * 2**20
"""Bytes of the imported libraries on a CPU; on a GPU its context takes about as much. No part of the plan's total."""
_QUICK_EPISODES = 16
_BEFORE_AND_AFTER = 3
"""Evaluations that every run makes: of the base on validation and test, of the best checkpoint on test."""


@dataclass(frozen=True)
class Plan:
    """A run, foreseen."""

    config: RunConfig
    hardware: Hardware
    """Of one process."""
    counted: int | None
    """Processes; None where the GPUs that there are decide, and they are not known."""
    shape: Architecture
    trainable: int
    sample: Sample
    play: ExpectedPlay
    memory: MemoryPlan
    """Of one process."""
    time: TimePlan
    free: int
    """Bytes of the device; on a CPU for all processes of a node together."""

    @property
    def processes(self) -> int:
        """That are planned for."""
        return self.counted or 1

    @property
    def available(self) -> int:
        """Bytes that one process may take, libraries taken off: on a CPU those of the process that starts the others,
        too."""
        if self.hardware.kind != "cpu" or self.processes == 1:
            return self.free - LIBRARIES
        return (self.free - LIBRARIES) // (self.processes // self.config.parallel.nodes) - LIBRARIES

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.available

    @property
    def sent(self) -> Sent:
        """By each process, in an update."""
        steps = self.config.algo.optimizer_steps * int(self.config.trainer["num_iterations"])
        play = self.play
        episodes = episode_bytes(play.decisions, play.prompt_tokens * play.distinct_share, play.expected_answer)
        if self.config.parallel.name == "fsdp":
            return sent_of_parts(self._gathered(steps), episodes, self.processes)
        return sent(self.memory.parts["buckets"], steps, episodes, self.processes)

    def _gathered(self, steps: int) -> Gathered:
        config, shape, backward = self.config, self.shape, self.play.micro_batches
        adapter, size = _trained(config, shape) or 0, gathered_bytes(config, self.hardware)
        # before the first step: log-probabilities of the weights that played, of the base, and entropies
        asked = [steps > 1, config.trainer.get("beta") and adapter, config.trainer.get("top_entropy_quantile", 1) < 1]
        return Gathered(
            (shape.parameters + adapter) * size,
            (shape.in_layers + adapter) * size,
            self.trainable * summed_bytes(config, self.hardware),
            forward=backward + backward // int(config.trainer["num_iterations"]) * sum(map(bool, asked)),
            backward=backward,
            played=1 + len(_due(config)) / config.max_updates,
            on_cpu=self.hardware.kind == "cpu",
        )

    @property
    def tokens(self) -> int:
        """Of all decisions of an update, prompts and answers, each answer as long as it may be."""
        return round(self.play.decisions * (self.play.prompt_tokens + self.play.answer_tokens))

    @property
    def assumptions(self) -> list[str]:
        """What the figures rest on, one sentence each."""
        play, real = self.play, EFFICIENCIES[self.hardware.kind]
        by = "random answers" if self.config.model.init == "random" else "uniform play"
        longer = "" if self.config.model.init == "random" else ", taken halfway to the longest"
        counted = (
            f"prompts measured with the model's tokenizer: {play.prompt_tokens:.0f} tokens on average, "
            f"{play.longest_prompt} at most"
            if play.measured
            else f"no tokenizer at hand: prompts guessed by their letters ({play.prompt_tokens:.0f} tokens); memory "
            f"for the bound rollout.max_prompt_tokens={play.longest_prompt}"
        )
        speed = self.hardware.speed(half=autocasts(self.config, self.hardware)) / 1e12
        too_long = play.measured and play.longest_prompt > self.config.rollout.max_prompt_tokens
        limit = f"a prompt is longer than rollout.max_prompt_tokens={self.config.rollout.max_prompt_tokens}"
        return [
            *([f"{limit}: msgrpo train refuses it"] if too_long else []),
            f"episodes: {play.episode_length:.1f} steps in {by} of this game{longer} ({self.config.env.max_steps})",
            counted,
            f"of the prompts' tokens {play.read_share:.1%} are read in play and "
            f"{min(play.read_a_row / play.prompt_tokens, 1):.1%} in training: what begins alike once",
            f"answers: memory for the bound rollout.max_new_tokens={play.answer_tokens}, time for "
            f"{play.expected_answer:g} tokens",
            f"{speed:.3g} TFLOP/s, of which {real.training:.0%} in training and {real.reading:.0%} in reading prompts; "
            f"{self.hardware.bandwidth * real.bandwidth / 1e9:.0f} GB/s in decoding",
            f"{LIBRARIES / 1e9:.1f} GB for the libraries are taken off what is available",
            *self._about_processes(),
            *([] if self.hardware.kind == "cpu" else ["not checked on a GPU: none was at hand"]),
        ]

    def _about_processes(self) -> list[str]:
        count, on_cpu = self.processes, self.hardware.kind == "cpu"
        if self.counted is None and on_cpu:
            return ["one process: there is no GPU here to count, and msgrpo train refuses parallel.processes=null"]
        if self.counted is None:
            return ["one process: parallel.processes=null means as many as there are GPUs; give the number"]
        if count == 1:
            return []
        threads = self.hardware.name.removeprefix("cpu, ")
        each = f"each has {threads}, its part of the memory and of its bandwidth" if on_cpu else "each has a GPU"
        groups = dealt(self.config.algo.groups_per_update, count)
        place = "its own memory" if on_cpu else "the host's memory, which the plan leaves out"
        saving = f"the first process holds {self.memory.parts['best_checkpoint'] / 1e9:.1f} GB of weights in {place}"
        nodes = self.config.parallel.nodes
        where = f" on {nodes} nodes like this one" if nodes > 1 else ""
        return [
            f"{count} processes{where}: {each}; memory is that of one",
            f"{groups}; rows that are trained on and starts of an evaluation are shared out likewise; seconds are "
            "those of the process that has most, and what processes send each other takes none of them",
            *([f"while it saves, {saving}"] if self.config.parallel.name == "fsdp" else []),
        ]


def plan(config: RunConfig, hardware: Hardware, *, here: bool) -> Plan:
    """Of a composed config. `here`: the hardware is this machine's, whose free memory counts, and its GPUs.

    Raises UsageError where the model's architecture is not known.
    """
    shape = architecture_of(config.model)
    assert shape is not None
    counted = _processes(config, hardware)
    return _plan(config, hardware, counted, shape, sample_of(config), _free(hardware, here=here))


def replanned(before: Plan, keys: Mapping[str, Any]) -> Plan:
    """The same run with other values of some keys, such as `{"lora.enabled": True}`.

    Raises UsageError for values that do not go with the rest of the config.
    """
    data = dumped(before.config)
    for key, value in keys.items():
        section, name = key.split(".")
        data[section][name] = value
    config = validated(data)
    counted = _processes(config, before.hardware)
    return _plan(config, before.hardware, counted, before.shape, before.sample, before.free)


def hours(config: RunConfig) -> float | None:
    """Estimated hours of a run on what is found here; None where model or device is not known.

    Quick: prompts are counted by their letters, and a few episodes stand for an update's.
    """
    shape, hardware = architecture_of(config.model, quick=True), _found(bool(config.trainer.get("use_cpu")))
    if shape is None or hardware is None:
        return None
    count = _processes(config, hardware) or 1
    cost = a_pass(shape.hidden, on_cpu=hardware.kind == "cpu")
    play = expected_play(config, _quick_sample(play_key(config)), cost, count)
    one = _share(hardware, count // config.parallel.nodes)
    return time_plan(_time_question(config, one, shape, play, count)).hours


@functools.lru_cache(maxsize=256)
def _quick_sample(key: str) -> Sample:
    return play_sample(RunConfig.model_validate_json(key), None, _QUICK_EPISODES)


@functools.cache
def _found(use_cpu: bool) -> Hardware | None:
    return found(use_cpu=use_cpu)


def _plan(
    config: RunConfig, device: Hardware, counted: int | None, shape: Architecture, sample: Sample, free: int
) -> Plan:
    count = counted or 1
    hardware = _share(device, count // config.parallel.nodes)
    play = expected_play(config, sample, a_pass(shape.hidden, on_cpu=hardware.kind == "cpu"), count)
    return Plan(
        config,
        hardware,
        counted,
        shape,
        _trained(config, shape) or shape.parameters,
        sample,
        play,
        memory_plan(memory_question(config, hardware, shape, play, count)),
        time_plan(_time_question(config, hardware, shape, play, count)),
        free,
    )


def _processes(config: RunConfig, hardware: Hardware) -> int | None:
    """As `launch.ranks.processes` counts them, of all nodes; None where they depend on GPUs of an unknown number."""
    counted = config.parallel.all_processes
    return hardware.gpus * config.parallel.nodes if counted is None and hardware.gpus else counted


def _share(hardware: Hardware, processes: int) -> Hardware:
    """What one of several processes has: a GPU, or its part of the CPU."""
    return this_cpu(processes) if hardware.kind == "cpu" and processes > 1 else hardware


def _free(hardware: Hardware, *, here: bool) -> int:
    if not here:
        return hardware.memory
    if hardware.kind != "cuda":
        return free_memory()
    import torch

    return int(torch.cuda.mem_get_info(0)[0])


def _trained(config: RunConfig, shape: Architecture) -> int | None:
    return adapter_size(matrices_of(shape), config.lora) if config.lora.enabled else None


def memory_question(
    config: RunConfig, hardware: Hardware, shape: Architecture, play: ExpectedPlay, processes: int = 1
) -> MemoryQuestion:
    """What the config decides of the memory of one process."""
    algo, rollout, trainer = config.algo, config.rollout, config.trainer
    live = min(
        rollout.max_live_episodes,
        max(most(algo.groups_per_update, processes) * algo.group_size, most(config.eval.episodes, processes)),
    )
    return MemoryQuestion(
        shape=shape,
        weight_bytes=BYTES[config.model.dtype],
        autocast=autocasts(config, hardware),
        adapter=_trained(config, shape),
        adapter_targets=_targets(shape, config.lora),
        quantization=config.lora.quantization,
        optimizer_numbers=optimizer_numbers(config),
        steps=config.max_updates * algo.optimizer_steps * int(trainer["num_iterations"]),
        checkpointing=bool(trainer.get("gradient_checkpointing")),
        shared=algo.share_prompts,
        reference=bool(trainer.get("beta")) and not config.lora.enabled,
        on_cpu=hardware.kind == "cpu",
        micro=play.micro,
        single=play.single,
        live=live,
        prompts=max(1, round(live * play.distinct_share)),
        longest_prompt=play.longest_prompt,
        answer_tokens=play.answer_tokens,
        in_process=not trainer_settings(config.engine.name).get("use_vllm"),
        engine=_engine_share(config, hardware),
        several=config.parallel.name == "ddp" and processes > 1,
        parts=processes if config.parallel.name == "fsdp" else 1,
        gathered_bytes=gathered_bytes(config, hardware),
        seated=config.selfplay.models,
    )


def _engine_share(config: RunConfig, hardware: Hardware) -> int:
    """What vLLM takes of the device that it shares with training."""
    if trainer_settings(config.engine.name).get("vllm_mode") != "colocate":
        return 0
    name = "vllm_gpu_memory_utilization"
    return round(hardware.memory * float(config.trainer.get(name, trainer_fields.fields()[name]["default"])))


def _targets(shape: Architecture, lora: LoraConfig) -> int:
    if not lora.enabled:
        return 0
    ones: Shapes = dict.fromkeys(matrices_of(shape), (1, 0))
    return round(adapter_size(ones, lora) / shape.layers)


def _time_question(
    config: RunConfig, hardware: Hardware, shape: Architecture, play: ExpectedPlay, processes: int
) -> TimeQuestion:
    algo, trainer, evaluation = config.algo, config.trainer, config.eval
    during = sum(config.evaluation_due(update) for update in _due(config))
    return TimeQuestion(
        shape=shape,
        hardware=hardware,
        half=autocasts(config, hardware) or BYTES[config.model.dtype] == 2,
        weight_bytes=BYTES[config.model.dtype],
        adapter=config.lora.enabled,
        checkpointing=bool(trainer.get("gradient_checkpointing")),
        shared=algo.share_prompts,
        reference=bool(trainer.get("beta")),
        play=play,
        live=min(config.rollout.max_live_episodes, most(algo.groups_per_update, processes) * algo.group_size),
        passes=int(trainer["num_iterations"]),
        rounds=config.env.max_steps,
        evaluation_episodes=evaluation.episodes,
        evaluations=during + _BEFORE_AND_AFTER,
        updates=config.max_updates,
        groups=algo.groups_per_update,
        processes=processes,
    )


def _due(config: RunConfig) -> Sequence[int]:
    every = config.eval.every
    return [*range(every, config.max_updates, every), config.max_updates] if every else []
