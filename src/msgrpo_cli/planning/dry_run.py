"""What a run or an evaluation would be: the resolved config and the numbers that follow from it.

Knows arithmetic on a config. Writes nothing, loads no weights. Knows nothing about Hydra, models or training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from msgrpo_cli.algo.episode_sampling import EPISODE_SAMPLINGS
from msgrpo_cli.config.saved import as_yaml, dumped
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.config.seats import seats_counted

from .architecture import adapter_count, parameter_count
from .prompts import longest_first_prompt
from .shares import dealt
from .workload import by_letters

_UNKNOWN = {
    "processes": "as many as there are GPUs",
    "learning_rate": "missing",
    "first_prompt_tokens": "unknown until the tokenizer is on this machine",
    "cost_usd_about": "give api.input_price and api.output_price",
}


def derived(config: RunConfig) -> dict[str, Any]:
    """The numbers that nobody wrote but everybody asks for; `at_most` where episodes may end early."""
    algo = config.algo
    played = algo.groups_at_most * algo.group_size  # with groups that are played in place of others
    drawn = _drawn(config)
    passes = algo.optimizer_steps * int(config.trainer.get("num_iterations", 1))
    count = config.parallel.all_processes
    _, own, at_once = seats_counted(config)
    return {
        "learning_rate": config.trainer.get("learning_rate"),
        **({} if count == 1 else {"processes": count}),
        "episodes_played_per_update": algo.groups_per_update * algo.group_size,
        "episodes_played_per_update_at_most": played,
        "episodes_drawn_per_update_at_most": drawn,
        "rows_per_update_at_most": drawn * own * config.env.max_steps,
        "decisions_per_update_at_most": played * at_once * config.env.max_steps,
        "decisions_at_most": played * at_once * config.env.max_steps * config.max_updates,
        "optimizer_steps_at_most": passes * config.max_updates,
        "parameters": (parameters := parameter_count(config.model)),
        "trainable_parameters": adapter_count(config.model, config.lora) if config.lora.enabled else parameters,
    }


def _drawn(config: RunConfig) -> int:
    algo = config.algo
    if not EPISODE_SAMPLINGS[algo.episode_sampling].takes_a_share:
        return algo.groups_per_update * algo.group_size
    if EPISODE_SAMPLINGS[algo.episode_sampling].whole_groups:
        return max(1, math.floor(algo.fraction * algo.groups_per_update + 0.5)) * algo.group_size
    pools = algo.groups_per_update if algo.sampling_scope == "group" else 1
    pool = algo.groups_per_update * algo.group_size // pools
    return pools * max(1, math.floor(algo.fraction * pool + 0.5))


def of_evaluation(config: RunConfig) -> dict[str, Any]:
    """The numbers of `msgrpo eval`. Tokens of a server's prompts are a guess by their letters, and so is the cost."""
    decisions = config.eval.episodes * config.env.max_steps
    if config.policy != "api":
        model = config.policy == "model"
        return {
            "decisions_at_most": decisions * (2 if model else 1),  # sampled, and decoded greedily
            "parameters": parameter_count(config.model) if model else None,
        }
    assert config.api is not None
    tokens = {
        "prompt_tokens_about": decisions * longest_first_prompt(config, by_letters),
        "answer_tokens_at_most": decisions * config.rollout.max_new_tokens,
    }
    prices = config.api.input_price, config.api.output_price
    spent = [count * price / 1e6 for count, price in zip(tokens.values(), prices, strict=True) if price is not None]
    return {
        "requests_at_most": decisions,
        **tokens,
        "cost_usd_about": round(sum(spent), 4) if len(spent) == len(prices) else None,
    }


def in_all(numbers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sums of several evaluations, as comments."""
    return [
        f"# in all, {name}: {_shown(name, sum(one[name] for one in numbers))}"
        for name in numbers[0]
        if name != "parameters" and all(one.get(name) is not None for one in numbers)
    ]


def as_data(config: RunConfig, numbers: Mapping[str, Any], *, read: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """For `--dry-run --json`; `read` is the part of the config that is told, where it is not all."""
    return {"config": dumped(config) if read is None else dict(read), "derived": dict(numbers)}


def as_text(config: RunConfig, numbers: Mapping[str, Any], *, read: Mapping[str, Any] | None = None) -> str:
    """For `--dry-run`: YAML, with the derived values as comments; `read` as above."""
    lines = [f"# {name}: {_shown(name, value)}" for name, value in numbers.items()]
    lines[:0] = [f"# {note}" for note in (config.note, config.engine.note, *_about_processes(config)) if note]
    text = as_yaml(config) if read is None else yaml.safe_dump(dict(read), sort_keys=False, allow_unicode=True)
    return text + "\n".join(lines)


def _about_processes(config: RunConfig) -> list[str]:
    parallel, groups = config.parallel, config.algo.groups_per_update
    if parallel.name == "none":
        return []
    nodes = f" on each of {parallel.nodes} nodes" if parallel.nodes > 1 else ""
    if parallel.all_processes is None:
        return [f"parallel={parallel.name}: a process for each GPU that there is{nodes}; not run on a GPU"]
    together = int(config.trainer.get("vllm_tensor_parallel_size", 1))
    shares = dealt(groups, parallel.all_processes // together)
    who = f"{parallel.processes} processes{nodes}"
    who += f", {together} at a time as one where they play" if together > 1 else ""
    return [f"parallel={parallel.name}: {who}, {shares}; not run on a GPU"]


def _shown(name: str, value: Any) -> str:
    if value is None:
        return _UNKNOWN.get(name, "unknown until loaded")
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)
