"""Which of the keys that somebody typed change nothing, in training, in an evaluation or for a server's model.

Knows which keys each of them reads. What the files of `conf/`, an experiment or a checkpoint bring is never refused,
but for what a server's model cannot heed. Knows nothing about Hydra, games or models in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgrpo_cli.errors import shown

from .schema import SHORTEST_WINDOW, RunConfig
from .trainer_fields import fields

_TRAINS = ", which trains nothing"
_READ_BY_EVAL: Mapping[str, tuple[str, ...]] = {
    "algo": ("invalid_action",),
    "trainer": ("use_cpu", "bf16", "fp16"),
}
"""Sections of which an evaluation reads these alone. Their choices, such as `trainer=large`, may hold one of these."""
_UNREAD_BY_EVAL: Mapping[str, str] = {
    "max_updates": _TRAINS,
    "max_hours": _TRAINS,
    "lora": ", where a checkpoint brings its adapter",
    "save": _TRAINS,
    "guard": _TRAINS,
    "stop": _TRAINS,
    "curriculum": ", which plays the game as env says",
    "selfplay": ", whose seats are those of eval.seats",
    "eval.every": ", which scores once",
    "model.learning_rate": _TRAINS,
    "hydra": ", which makes no run",
    "engine.max_logprob_gap": ", which compares no log-probabilities",
    "engine.mean_logprob_gap": ", which compares no log-probabilities",
}
"""Keys and sections of which an evaluation reads nothing, and why."""
_READ_BY_PLAYERS: Mapping[str, tuple[str, ...]] = {
    "model": (),
    "prompt": ("observation",),
    "rollout": ("max_live_episodes",),
}
"""The same of a player that is no model. Choices may hold one of these: `model=tiny` brings an observation."""


@dataclass(frozen=True)
class _Switch:
    """What must be on so that other keys are read. Whoever types it as off knows, as in a sweep over both."""

    key: str
    said: str
    on: Callable[[RunConfig], bool]
    keys: tuple[str, ...]


def _of_trainer(*names: str) -> tuple[str, ...]:
    return tuple(f"trainer.{name}" for name in names)


def _trackers(config: RunConfig) -> list[str]:
    given = config.trainer.get("report_to") or []
    return [name for name in ([given] if isinstance(given, str) else given) if name not in (None, "none")]


_SWITCHES = (
    _Switch(
        "curriculum.key",
        "a curriculum, such as curriculum.key=env.size curriculum.values=[3,4]",
        lambda config: config.curriculum.key is not None,
        ("curriculum.success", "curriculum.window"),
    ),
    _Switch(
        "selfplay.seats",
        "a pool, such as selfplay.seats=[self,pool]",
        lambda config: config.selfplay.pooled,
        ("selfplay.every", "selfplay.pool", "selfplay.choose"),
    ),
    _Switch(
        "selfplay.seats",
        "seats, such as selfplay.seats=[self,random]",
        lambda config: config.selfplay.seats is not None,
        ("selfplay.rotate",),
    ),
    _Switch(
        "trainer.use_adaptive_entropy",
        "trainer.use_adaptive_entropy=true",
        lambda config: bool(config.trainer.get("use_adaptive_entropy")),
        _of_trainer("entropy_target", "entropy_coef_delta", "entropy_coef_max", "entropy_coef_min"),
    ),
    _Switch(
        "trainer.beta",
        "the KL term of trainer.beta",
        lambda config: bool(config.trainer.get("beta")),
        _of_trainer("use_bias_correction_kl"),
    ),
    _Switch(
        "trainer.gradient_checkpointing",
        "trainer.gradient_checkpointing=true",
        lambda config: bool(config.trainer.get("gradient_checkpointing", True)),
        _of_trainer("gradient_checkpointing_kwargs"),
    ),
    _Switch(
        "trainer.use_liger_kernel",
        "trainer.use_liger_kernel=true",
        lambda config: bool(config.trainer.get("use_liger_kernel")),
        _of_trainer("liger_kernel_config"),
    ),
    _Switch(
        "trainer.report_to",
        "a tracker, such as trainer.report_to=tensorboard",
        lambda config: bool(_trackers(config)),
        _of_trainer("run_name", "project"),
    ),
    _Switch(
        "trainer.report_to",
        "trainer.report_to=trackio",
        lambda config: bool({"trackio", "all"} & set(_trackers(config))),
        _of_trainer("trackio_bucket_id", "trackio_space_id", "trackio_static_space_id"),
    ),
)


def _optimizer(config: RunConfig) -> str:
    return str(config.trainer.get("optim", fields()["optim"]["default"]))


def _reads_no(parts: tuple[str, ...], but: tuple[str, ...] = ()) -> Callable[[RunConfig], str | None]:
    """Whether the optimizer's name holds none of these, or one of `but`; as transformers' trainer_optimizer has it."""

    def why(config: RunConfig) -> str | None:
        name = _optimizer(config)
        read = any(part in name for part in parts) and not any(part in name for part in but)
        return None if read else f"trainer.optim={name}"

    return why


def _of_one_pool(config: RunConfig) -> str | None:
    algo = config.algo
    whole = algo.episode_sampling == "all" and algo.sampling_scope != "update"
    return "algo.episode_sampling=all, which takes every episode" if whole else None


def _of_equal_odds(config: RunConfig) -> str | None:
    """Where every episode is drawn with p = m / n, the factor m / (n p) is 1."""
    algo = config.algo
    equal = algo.episode_sampling in ("all", "uniform") and algo.sampling_correction != "none"
    return f"algo.episode_sampling={algo.episode_sampling}, whose episodes are all as likely" if equal else None


def _of_evaluations(config: RunConfig) -> str | None:
    return None if config.eval.every else "eval.every=0, which evaluates at the end alone"


def _of_examples(config: RunConfig) -> str | None:
    return None if config.prompt.examples else "prompt.examples=0"


def _of_kept_turns(config: RunConfig) -> str | None:
    return "prompt.example_turns, which are shown as they are" if config.prompt.example_turns else None


_IN_VAIN: Mapping[str, Callable[[RunConfig], str | None]] = {
    "algo.sampling_scope": _of_one_pool,
    "algo.sampling_correction": _of_equal_odds,
    "stop.score": _of_evaluations,
    "stop.success": _of_evaluations,
    "save.keep_best": lambda config: _of_evaluations(config) if config.save.keep_best else None,
    "rollout.prefix_memory": lambda config: None if config.rollout.share_prompts else "rollout.share_prompts=false",
    "prompt.system_role": lambda config: None if config.prompt.system else "prompt.system=null",
    "prompt.examples_by": lambda config: _of_examples(config) or _of_kept_turns(config),
    "prompt.example_turns": lambda config: _of_examples(config),
    "trainer.adam_beta1": _reads_no(("adam", "ademamix", "lion"), but=("grokadamw",)),
    "trainer.adam_beta2": _reads_no(("adam", "ademamix", "lion"), but=("grokadamw",)),
    "trainer.adam_epsilon": _reads_no(("adam", "ademamix"), but=("grokadamw",)),
    "trainer.optim_target_modules": _reads_no(("galore", "apollo")),
    "trainer.optim_args": _reads_no(
        (
            *("rmsprop", "ademamix", "anyprecision", "sgd", "adagrad", "galore", "apollo", "grokadamw"),
            *("torch_4bit", "torch_8bit", "schedule_free", "stable_adamw"),
        )
    ),
}
"""Keys that some choices do not read, and which choice it is."""


def _unread(config: RunConfig, text: str, key: str, typed: Collection[str]) -> list[str]:
    """What other choices leave unread."""
    if _value(config, key) is None:  # which is no wish
        return []
    lines = [
        f"{shown(text)}: changes nothing without {switch.said}; add that, or leave it out"
        for switch in _SWITCHES
        if key in switch.keys and switch.key not in typed and not switch.on(config)
    ]
    if key in _IN_VAIN and (why := _IN_VAIN[key](config)) is not None:
        lines.append(f"{shown(text)}: changes nothing with {why}; leave it out")
    return lines


def _value(config: RunConfig, key: str) -> Any:
    """What a dotted key holds; None where there is none."""
    section, _, name = key.partition(".")
    found = getattr(config, section, None)
    return found.get(name) if isinstance(found, Mapping) else getattr(found, name, None) if name else found


def ignored(primary: str, config: RunConfig, typed: Sequence[str]) -> list[str]:
    """One line for every key that is given and changes nothing; `typed` are the overrides of the command line."""
    found = _by_eval(config, typed) if primary == "eval" else [*in_vain(config, typed), *short_window(config)]
    return list(dict.fromkeys([*config.algo.ignored(), *found, *_by_servers(config)]))


def short_window(config: RunConfig) -> list[str]:
    """Why a collapse cannot be told over so few updates."""
    if config.stop.window >= SHORTEST_WINDOW:
        return []
    return [
        f"stop.window={config.stop.window}: must be at least {SHORTEST_WINDOW}: over fewer updates chance moves the "
        "mean as far as a collapse does, so that runs which learn nothing are told to have collapsed, and real "
        "collapses are missed"
    ]


def in_vain(config: RunConfig, typed: Sequence[str]) -> list[str]:
    """The same of what training does not read, whatever the config brings."""
    lines, keys = [], _keys(typed)
    for text, key in keys.items():
        if key == "stop.window":
            lines += short_window(config)
        lines += _unread(config, text, ".".join(key.split(".")[:2]), keys.values())
        # Whoever says lora.enabled=false knows, as in a sweep over both.
        if key.partition(".")[0] == "lora" and not config.lora.enabled and "lora.enabled" not in keys.values():
            lines.append(f"{shown(text)}: changes nothing without lora.enabled=true; add that, or leave it out")
        if key == "eval.scenarios" and config.eval.scenarios:
            lines.append(
                f"{shown(text)}: changes nothing in training, which evaluates on its own game; leave it out, and score "
                "the run afterwards with msgrpo eval RUN eval.scenarios=..."
            )
    return lines


def read_by_eval(config: RunConfig) -> dict[str, Any]:
    """Of the config as plain data what an evaluation reads, in the order of the schema."""
    read: dict[str, Any] = {}
    for section, value in config.model_dump(mode="json").items():
        if section == "env" or not isinstance(value, dict):
            kept: Any = value
        else:
            kept = {name: one for name, one in value.items() if _why_unread(config, f"{section}.{name}") is None}
        if _why_unread(config, section) is None and kept != {} and not (section == "api" and not _asks_server(config)):
            read[section] = kept
    return read


def _why_unread(config: RunConfig, key: str) -> str | None:
    """Where a key or section changes nothing in an evaluation, and why; None where it is read."""
    section, _, name = key.replace("/", ".").partition(".")
    if (why := _UNREAD_BY_EVAL.get(key, _UNREAD_BY_EVAL.get(section))) is not None:
        return f"in msgrpo eval{why}"
    if name and (read := _READ_BY_EVAL.get(section)) is not None and name not in read:
        return f"in msgrpo eval{_alone(section, read)}"
    if key == "seed" and config.model.init != "random":
        return "in msgrpo eval, but for random weights; eval.seed draws the starts"
    if config.policy == "model" or _asks_server(config):
        return None
    if key == "eval.temperature":
        return f"with policy={config.policy}, which samples no answer"
    read = _READ_BY_PLAYERS.get(section)
    if read is None or not name or name in read:
        return None
    return f"with policy={config.policy}{_alone(section, read) if read else ', which asks no model'}"


def _asks_server(config: RunConfig) -> bool:
    return config.policy == "api" or config.eval.asks_server


def _alone(section: str, read: Sequence[str]) -> str:
    return f", which reads {', '.join(f'{section}.{one}' for one in read)} alone"


def _by_eval(config: RunConfig, typed: Sequence[str]) -> list[str]:
    lines = []
    for text, key in _keys(typed).items():
        if (why := _why_unread(config, key)) is not None:
            lines.append(f"{shown(text)}: changes nothing {why}; leave it out")
        elif key.partition(".")[0] == "api" and not _asks_server(config):
            lines.append(f"{shown(text)}: changes nothing without policy=api; add that, or leave it out")
    return lines


def _by_servers(config: RunConfig) -> list[str]:
    """What is given and changes nothing, since the model of a server plays."""
    if config.policy != "api":
        return []
    model, prompt = config.model, config.prompt
    given = {
        "model.chat_template_file": model.chat_template_file,
        "model.end_of_turn": model.end_of_turn,
        "prompt.answer_prefix": prompt.answer_prefix,
        "prompt.date": prompt.date,
        "prompt.system_role": None if prompt.system_role == "auto" else prompt.system_role,
    }
    return [
        f"{key}={value}: changes nothing with policy=api; leave it out"
        for key, value in given.items()
        if value is not None
    ]


def _keys(typed: Sequence[str]) -> dict[str, str]:
    return {text: text.lstrip("+~").partition("=")[0] for text in typed}
