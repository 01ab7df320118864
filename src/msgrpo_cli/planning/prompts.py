"""How long a run's first prompts are, counted by the model's own tokenizer where it is on this machine, and the play
that shows them.

Knows games, prompts and a tokenizer that is loaded when it is asked for. Loads no weights. Knows nothing about memory,
time or training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from msgrpo_cli.common.importing import importing
from msgrpo_cli.config.prompt import prompt_of, with_example_turns
from msgrpo_cli.config.schema import RunConfig, stage_names, stages
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.registry import make_game

from .workload import Encode, Sample, play_sample


def longest_first_prompt(config: RunConfig, encode: Encode) -> int:
    """Tokens of the longest of some first prompts, behind as much history of its like as there will be."""
    return _longest(config, encode)[0]


def _longest(config: RunConfig, encode: Encode) -> tuple[int, str]:
    """The same, and what its game or stage is called."""
    template, prompt = prompt_of(config), config.prompt
    named = zip(stages(config.env, config.curriculum), stage_names(config.env, config.curriculum), strict=True)
    return max(
        (len(encode(one)), game.label or name)
        for env, name in named
        for game in [make_game(env)]
        for one in template.first(game, prompt.observation, prompt.history)
    )


def measured_prompt(config: RunConfig) -> int | None:
    """The same by the model's own tokenizer; None where that is not on this machine.

    Raises UsageError where the run would refuse it.
    """
    return _measured(play_key(config))


@lru_cache(maxsize=256)
def _measured(key: str) -> int | None:
    config = RunConfig.model_validate_json(key)
    encode = encoder(config)
    if encode is None:
        return None
    from msgrpo_cli.models.loading import declared_context
    from msgrpo_cli.models.policy import too_long

    (longest, name), rollout, prompt = _longest(config, encode), config.rollout, config.prompt
    problem = too_long(
        longest,
        rollout.max_prompt_tokens,
        rollout.max_new_tokens,
        declared_context(config.model),
        name,
        history=prompt.history,
        examples=bool(prompt.examples),
        compact=prompt.observation == "compact",
    )
    if problem is not None:
        raise UsageError(problem)
    return longest


def play_key(config: RunConfig) -> str:
    """What the play of an update depends on: jobs of a sweep often differ in other things alone."""
    config = with_example_turns(config)  # which the seed decides
    algo = config.algo.model_copy(update={"sample_fraction": 1.0})
    return config.model_copy(update={"seed": 0, "max_updates": 1, "algo": algo, "trainer": {}}).model_dump_json()


def sample_of(config: RunConfig) -> Sample:
    """The play that stands for a run's first updates; where it is counted by letters, the same for all models."""
    encode = encoder(config)
    return _sample_by_letters(_Played.by(config)) if encode is None else play_sample(config, encode)


@dataclass(frozen=True)
class _Played:
    """A config, equal to those whose updates are played alike by whoever answers without a model."""

    key: str
    config: RunConfig = field(compare=False)

    @classmethod
    def by(cls, config: RunConfig) -> _Played:
        parts = config.env, config.prompt, config.algo
        numbers = config.seed, config.max_updates, config.rollout.max_live_episodes, config.model.init
        return cls("\n".join([*(part.model_dump_json() for part in parts), repr(numbers)]), config)


@lru_cache(maxsize=16)
def _sample_by_letters(played: _Played) -> Sample:
    return play_sample(played.config, None)


def encoder(config: RunConfig) -> Encode | None:
    """The model's own tokenizer where it is on this machine; None where prompts cannot be counted."""
    from msgrpo_cli.runs.pretrained import is_local

    model = config.model
    if not is_local(model.path) and model.init == "pretrained" and not _cached_tokenizer(config):
        return None
    with importing():
        from msgrpo_cli.models.factory import load_conversation
        from msgrpo_cli.models.loading import quiet_libraries

    quiet_libraries()
    try:
        return load_conversation(config).prompt_ids
    except (OSError, ValueError):
        return None


def _cached_tokenizer(config: RunConfig) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(
        try_to_load_from_cache(config.model.path, "tokenizer_config.json", revision=config.model.revision), str
    )
