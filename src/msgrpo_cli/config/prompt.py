"""From a config to the conversation that its prompts are: its texts, and its worked turns, kept or drawn anew.

Knows config sections and games. Knows nothing about tokens or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import Observation
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.rollout.examples import Turn, worked_turns
from msgrpo_cli.rollout.players import players_of
from msgrpo_cli.rollout.prompt import PromptTemplate

from .schema import EnvConfig, RunConfig
from .schema_prompt import ExampleTurn


def prompt_of(config: RunConfig) -> PromptTemplate:
    """What turns states into prompts. Raises UsageError where the config's worked turns cannot be drawn."""
    prompt = with_example_turns(config).prompt
    turns = {
        game.name if config.env.mixed else "": [
            (turn.state, turn.action) for turn in prompt.example_turns or [] if turn.game == game.name
        ]
        for game in config.env.games
    }
    return PromptTemplate(prompt.system, prompt.user, turns)


def with_example_turns(config: RunConfig) -> RunConfig:
    """The config with the worked turns of all its games: what it has stays, the rest is drawn from the train part.

    Raises UsageError where that cannot be.
    """
    prompt, kept = config.prompt, config.prompt.example_turns or []
    missing = [game for game in config.env.games if not any(turn.game == game.name for turn in kept)]
    if not prompt.examples or not missing:
        return config
    drawn = [
        ExampleTurn(game=game.name, state=state, action=action)
        for game in missing
        for state, action in _drawn(
            game.model_dump_json(), prompt.examples, prompt.examples_by, config.seed, prompt.observation
        )
    ]
    return config.model_copy(update={"prompt": prompt.model_copy(update={"example_turns": [*kept, *drawn]})})


@lru_cache(maxsize=64)
def _drawn(block: str, count: int, by: str, seed: int, observation: Observation) -> Sequence[Turn]:
    env = EnvConfig.model_validate_json(block)
    able = players_of(make_game(env))
    if by not in able:
        others = (
            f"no such player; it has {', '.join(able)}" if able else "no player; give the turns (prompt.example_turns)"
        )
        raise UsageError(f"prompt.examples_by={by}: {env.name} has {others}, or prompt.examples=0")
    try:
        return worked_turns(lambda: make_game(env), count, able[by], seed, observation)
    except ValueError as problem:
        raise UsageError(f"prompt.examples={count}: of {env.name} {problem}; ask for fewer") from problem
