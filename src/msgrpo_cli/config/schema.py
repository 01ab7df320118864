"""The typed, frozen form of a composed config: every key, its type, its range.

Knows which values are sensible. Knows nothing about Hydra, files, models or games (a game's own keys under `env`
are checked against its constructor by `compose`). Defaults live in `conf/`, never here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .schema_algo import AlgoConfig
from .schema_api import ApiConfig
from .schema_eval import EvalConfig
from .schema_prompt import PromptConfig
from .schema_selfplay import SelfPlayConfig
from .section import Count, NonNegative, Positive, Section, Seed, Share

NotYet = "does not exist yet; it comes with a later version"


def _fit_for_paths(name: str) -> str:
    if not name.isprintable() or "/" in name or "\\" in name or name.strip(" .") == "" or len(name) > 100:
        raise ValueError("names a directory, so it must be a word without / and \\, of at most 100 characters")
    return name


Name = Annotated[str, AfterValidator(_fit_for_paths)]


MIX = "msgrpo/Mix-v0"


class EnvConfig(Section):
    """The game; further keys go to its constructor."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: Name
    id: str
    max_steps: Positive

    @property
    def keys(self) -> dict[str, Any]:
        """What the game's constructor takes."""
        return {"max_steps": self.max_steps, **(self.model_extra or {})}

    @property
    def mixed(self) -> bool:
        """Whether it is a mixture of games."""
        return self.id == MIX

    @property
    def games(self) -> list[EnvConfig]:
        """Those of a mixture, or the one there is."""
        return [EnvConfig.model_validate(block) for block in self.keys["games"]] if self.mixed else [self]


class ModelConfig(Section):
    """What is trained."""

    name: Name
    path: str
    init: Literal["pretrained", "random"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    attn_implementation: str | None
    revision: str | None
    chat_template_file: str | None = None  # not in runs of before it existed
    """A Jinja file that replaces the tokenizer's own template."""
    chat_template_kwargs: dict[str, Any]
    end_of_turn: str | list[str] | None = None  # not in runs of before it existed
    """Further tokens that end an answer, beside those that tokenizer, model and template declare."""
    learning_rate: NonNegative | None = None  # not in runs of before it existed
    """What suits the whole model; `trainer.learning_rate` is null where it is meant."""
    adapter_base: str | None = None  # not in runs of before it existed
    """Where the base of an adapter at `path` lies on this machine, as its run found it; a run fills it in."""


class LoraConfig(Section):
    """Adapters: small matrices beside the frozen ones, and they alone are trained."""

    enabled: bool
    r: Positive
    alpha: Positive
    target_modules: str | list[str]
    """`all-linear`, a list of modules' last names, or a regular expression for whole names; as peft takes it."""
    learning_rate_factor: NonNegative = 10.0  # not in runs of before it existed
    """How much larger the learning rate of adapters is than that of the whole model."""
    quantization: Literal["4bit", "8bit"] | None

    @field_validator("target_modules")
    @classmethod
    def _layers(cls, modules: str | list[str]) -> str | list[str]:
        if not modules:
            raise ValueError("names no layer; use all-linear")
        if "lm_head" in modules if isinstance(modules, list) else modules == "lm_head":
            raise ValueError("the loss reads the output layer's own weights, so an adapter on lm_head would not train")
        if isinstance(modules, str):
            try:
                re.compile(modules)
            except re.error as problem:
                raise ValueError(f"not a regular expression: {problem}") from problem
        return modules

    def unfit(self, layers: Iterable[str]) -> str | None:
        """Which target fits none of these linear layers, and which would; peft passes over a name that it does not
        find beside others that it does."""
        names, targets = list(layers), self.target_modules
        known = sorted({name.rpartition(".")[2] for name in names} - {"lm_head"})
        for target in [targets] if isinstance(targets, str) else targets:
            found = target == "all-linear" or any(
                re.fullmatch(targets, name) if isinstance(targets, str) else f".{name}".endswith(f".{target}")
                for name in names
            )
            if not found:
                return (
                    f"lora.target_modules={target}: fits no linear layer of this model; use all-linear, or a list of "
                    f"{', '.join(known)}, or a regular expression for whole names"
                )
        return None

    @field_validator("quantization")
    @classmethod
    def _frozen_only(cls, quantization: str | None, info: ValidationInfo) -> str | None:
        if quantization and not info.data.get("enabled"):
            raise ValueError("only frozen weights can be quantized; add lora.enabled=true")
        return quantization


class RolloutConfig(Section):
    """Generation."""

    max_live_episodes: Positive
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    max_prompt_tokens: Positive
    temperature: Annotated[float, Field(ge=0.01, le=100.0)]
    top_p: Share
    top_k: Count
    min_p: Annotated[float, Field(ge=0.0, le=1.0)] | None
    repetition_penalty: Annotated[float, Field(gt=0.0)]
    allow_truncated_sampling: bool
    share_prompts: bool
    prefix_memory: Count = 512  # not in runs of before it existed
    """In MiB."""

    @property
    def truncated(self) -> bool:
        """Whether tokens come from anything but the softmax at `temperature`."""
        return self.top_p < 1.0 or self.top_k > 0 or bool(self.min_p) or self.repetition_penalty != 1.0

    @model_validator(mode="after")
    def _exact_softmax(self) -> RolloutConfig:
        if self.truncated and not self.allow_truncated_sampling:
            raise ValueError(
                "top_p, top_k, min_p or repetition_penalty cut the distribution, so the trained log-probabilities "
                "would not be those sampled from; leave them out, or set rollout.allow_truncated_sampling=true"
            )
        return self


class GuardConfig(Section):
    """Optimizer steps that are withheld."""

    grad_norm: Annotated[float, Field(gt=0.0)] | None
    """One whose gradient norm, before clipping, is larger."""
    log_ratio: Annotated[float, Field(gt=0.0)] | None
    """One with a token whose log-probability is farther from the one it was sampled with."""


SHORTEST_WINDOW = 10
"""Of `stop.window`: with 10 at most 1 % of runs that learn nothing are told to have collapsed, whatever the noise that
a test simulates; with 5 it is 3 %, with 2 15 %, and 2, 3, 5 and 7 miss one or both of the recorded collapses."""


class StopConfig(Section):
    """When a run ends before `max_updates`."""

    score: Annotated[float, Field(allow_inf_nan=False)] | None
    """Mean total reward on validation that is enough."""
    success: Share | None = None  # not in runs of before it existed
    """Success rate on validation that is enough."""
    on_collapse: bool
    """A collapse is always told; whether it ends the run too."""
    window: Annotated[int, Field(ge=2, json_schema_extra={"minimum": SHORTEST_WINDOW})]
    """Updates over which means are taken to tell a collapse; runs of before it was refused may hold a shorter one."""


class CurriculumConfig(Section):
    """A key of the game that grows harder; evaluations play the game as `env` says."""

    key: str | None = None
    """Such as env.size."""
    values: list[Any] | None = None
    """Of the key, one after the other."""
    success: Share = 0.8
    """Mean success rate in training from which the next value follows."""
    window: Positive = 5
    """Updates over which the mean is taken."""

    @model_validator(mode="after")
    def _whole(self) -> CurriculumConfig:
        if (self.key is None) != (self.values is None) or self.values == []:
            raise ValueError("key and values belong together, such as curriculum.key=env.size curriculum.values=[3,4]")
        if self.key is not None and not self.key.startswith("env."):
            raise ValueError(f"key={self.key}: must be a key of the game, such as env.size")
        return self


class SaveConfig(Section):
    """Checkpoints."""

    every: Positive
    keep_last: Positive
    keep_best: bool


class EngineConfig(Section):
    """Where generation and training happen. The defaults here are for configs saved before these keys existed."""

    name: Literal["single", "continuous_batching", "vllm_colocate", "vllm_server", "ddp", "fsdp"]
    note: str | None = None
    """What a user must know of it; said at the start of a run and by `--dry-run`."""
    max_logprob_gap: NonNegative | None = None
    mean_logprob_gap: NonNegative | None = None

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str) -> str:
        if name in ("ddp", "fsdp"):
            raise ValueError(f"says how training is shared out, not who generates; give parallel={name}")
        return name


class ParallelConfig(Section):
    """How playing and training are shared out among processes."""

    name: Literal["none", "ddp", "fsdp"] = "none"
    processes: Annotated[int, Field(ge=1, le=256)] | None = None
    """Of each node. Null: as many as there are GPUs."""
    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Machines."""
    patience: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1800.0
    """Seconds after which a run ends none of whose processes makes any progress."""

    @model_validator(mode="after")
    def _whole(self) -> ParallelConfig:
        if self.name == "none" and self.processes not in (None, 1):
            raise ValueError(f"processes={self.processes}: name=none is one process; give parallel=ddp")
        if self.name == "none" and self.nodes != 1:
            raise ValueError(f"nodes={self.nodes}: name=none is one process; give parallel=ddp")
        return self

    @property
    def all_processes(self) -> int | None:
        """Of all nodes; None where the GPUs that there are decide."""
        if self.name == "none":
            return 1
        return None if self.processes is None else self.nodes * self.processes


class RunConfig(Section):
    """Everything a run needs."""

    note: str | None
    """What the author of an experiment says about it; changes nothing."""
    seed: Seed
    max_updates: Annotated[int, Field(ge=1, le=10**8)]
    max_hours: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None
    """After so many hours of one process the run is saved and ends as interrupted."""
    policy: Literal["model", "random", "greedy", "search", "optimal", "api"]
    env: EnvConfig
    model: ModelConfig
    lora: LoraConfig
    prompt: PromptConfig
    algo: AlgoConfig
    rollout: RolloutConfig
    trainer: dict[str, Any]
    eval: EvalConfig
    save: SaveConfig
    guard: GuardConfig
    stop: StopConfig
    engine: EngineConfig
    parallel: ParallelConfig = ParallelConfig()  # not in runs of before it existed
    curriculum: CurriculumConfig = CurriculumConfig()  # not in runs of before it existed
    selfplay: SelfPlayConfig = SelfPlayConfig()  # not in runs of before it existed
    api: ApiConfig | None = None
    """Of `msgrpo eval` alone."""

    @property
    def default_learning_rate(self) -> float | None:
        """The model's own, times the adapters' factor where only adapters are trained; None where it brings none."""
        whole = self.model.learning_rate
        if whole is None or not self.lora.enabled:
            return whole
        return float(f"{whole * self.lora.learning_rate_factor:.12g}")  # 1e-6 times ten is 9.999999999999999e-06

    def evaluation_due(self, update: int) -> bool:
        """Whether the weights after this update are scored on validation."""
        return bool(self.eval.every) and (update % self.eval.every == 0 or update == self.max_updates)


def stages(env: EnvConfig, curriculum: CurriculumConfig) -> list[EnvConfig]:
    """The `env` block of every stage; the block itself where there is no curriculum."""
    if curriculum.key is None:
        return [env]
    key = curriculum.key.removeprefix("env.")
    return [EnvConfig.model_validate({**env.model_dump(), key: value}) for value in curriculum.values or ()]


def stage_names(env: EnvConfig, curriculum: CurriculumConfig) -> list[str]:
    """What each of these is called to people, such as `frozenlake with env.size=8`."""
    if curriculum.key is None:
        return [env.name]
    return [f"{env.name} with {curriculum.key}={value}" for value in curriculum.values or ()]
