"""What a run would be: the resolved config and the numbers that follow from it. Writes nothing, loads no weights.

Knows arithmetic on a config. Knows nothing about Hydra, models or training.
"""

from __future__ import annotations

import math
from typing import Any

from .config import as_yaml, dumped
from .episode_sampling import EPISODE_SAMPLINGS
from .parameters import adapter_count, parameter_count
from .schema import RunConfig


def derived(config: RunConfig) -> dict[str, Any]:
    """The numbers that nobody wrote but everybody asks for; `at_most` where episodes may end early."""
    algo = config.algo
    played = algo.groups_at_most * algo.group_size  # with groups that are played in place of others
    drawn = _drawn(config)
    passes = algo.optimizer_steps * int(config.trainer.get("num_iterations", 1))
    return {
        "learning_rate": config.trainer.get("learning_rate"),
        "episodes_played_per_update": algo.groups_per_update * algo.group_size,
        "episodes_played_per_update_at_most": played,
        "episodes_drawn_per_update_at_most": drawn,
        "rows_per_update_at_most": drawn * config.env.max_steps,
        "decisions_per_update_at_most": played * config.env.max_steps,
        "decisions_at_most": played * config.env.max_steps * config.max_updates,
        "optimizer_steps_at_most": passes * config.max_updates,
        "parameters": (parameters := parameter_count(config.model)),
        "trainable_parameters": adapter_count(config.model, config.lora) if config.lora.enabled else parameters,
    }


def _drawn(config: RunConfig) -> int:
    algo = config.algo
    if not EPISODE_SAMPLINGS[algo.episode_sampling].takes_a_share:
        return algo.groups_per_update * algo.group_size
    if EPISODE_SAMPLINGS[algo.episode_sampling].whole_groups:
        return max(1, math.floor(algo.sample_fraction * algo.groups_per_update + 0.5)) * algo.group_size
    pools = algo.groups_per_update if algo.sampling_scope == "group" else 1
    pool = algo.groups_per_update * algo.group_size // pools
    return pools * max(1, math.floor(algo.sample_fraction * pool + 0.5))


def as_data(config: RunConfig) -> dict[str, Any]:
    """For `--dry-run --json`."""
    return {"config": dumped(config), "derived": derived(config)}


def as_text(config: RunConfig) -> str:
    """For `--dry-run`: YAML, with the derived values as comments."""
    lines = [f"# {name}: {_shown(name, value)}" for name, value in derived(config).items()]
    lines[:0] = [f"# {note}" for note in (config.note, config.engine.note) if note]
    return as_yaml(config) + "\n".join(lines)


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "missing" if name == "learning_rate" else "unknown until loaded"
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)
