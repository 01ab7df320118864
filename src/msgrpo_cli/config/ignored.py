"""Which of the keys that somebody typed change nothing, in training, in an evaluation or for a server's model.

Knows which keys each of them reads. What the files of `conf/`, an experiment or a checkpoint bring is never refused,
but for what a server's model cannot heed. Knows nothing about Hydra, games or models in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgrpo_cli.errors import shown

from .schema import SHORTEST_WINDOW, RunConfig

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
    "eval.every": ", which scores once",
    "model.learning_rate": _TRAINS,
    "hydra": ", which makes no run",
}
"""Keys and sections of which an evaluation reads nothing, and why."""


def ignored(primary: str, config: RunConfig, typed: Sequence[str]) -> list[str]:
    """One line for every key that is given and changes nothing; `typed` are the overrides of the command line."""
    found = _by_eval(config, typed) if primary == "eval" else [*in_vain(config, typed), *short_window(config)]
    return list(dict.fromkeys([*config.algo.ignored(), *found, *_by_servers(config)]))


def short_window(config: RunConfig) -> list[str]:
    """Why a collapse cannot be told over so few updates."""
    if config.stop.window >= SHORTEST_WINDOW:
        return []
    return [
        f"stop.window={config.stop.window}: must be at least {SHORTEST_WINDOW}: over fewer updates chance moves the mean "
        "as far as a collapse does, so that runs which learn nothing are told to have collapsed, and real ones are missed"
    ]


def in_vain(config: RunConfig, typed: Sequence[str]) -> list[str]:
    """The same of what training does not read, whatever the config brings."""
    lines, keys = [], _keys(typed)
    for text, key in keys.items():
        if key == "stop.window":
            lines += short_window(config)
        # Whoever says lora.enabled=false knows, as in a sweep over both.
        if key.partition(".")[0] == "lora" and not config.lora.enabled and "lora.enabled" not in keys.values():
            lines.append(f"{shown(text)}: changes nothing without lora.enabled=true; add that, or leave it out")
        if key == "eval.scenarios" and config.eval.scenarios:
            lines.append(
                f"{shown(text)}: changes nothing in training, which evaluates on its own game; leave it out, and score "
                "the run afterwards with msgrpo eval RUN eval.scenarios=..."
            )
    return lines


def _by_eval(config: RunConfig, typed: Sequence[str]) -> list[str]:
    lines, keys = [], _keys(typed)
    for text, key in keys.items():
        section, _, name = key.replace("/", ".").partition(".")
        if (why := _UNREAD_BY_EVAL.get(key, _UNREAD_BY_EVAL.get(section))) is None:
            read = _READ_BY_EVAL.get(section)
            if read is None or not name or name in read:
                if section == "api" and config.policy != "api":
                    lines.append(f"{shown(text)}: changes nothing without policy=api; add that, or leave it out")
                continue
            why = f", which reads {', '.join(f'{section}.{one}' for one in read)} alone"
        lines.append(f"{shown(text)}: changes nothing in msgrpo eval{why}; leave it out")
    return lines


def _by_servers(config: RunConfig) -> list[str]:
    """What is given and changes nothing, since the model of a server plays."""
    if config.policy != "api":
        return []
    model, prompt = config.model, config.prompt
    given = {
        "model.chat_template_file": model.chat_template_file,
        "model.end_of_turn": model.end_of_turn,
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
