"""A game before anything is trained: in one line with what players score, or as the chosen model reads it.

Knows prompts, tokenizers, games and reference players. Loads no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgrpo_cli.common.importing import importing
from msgrpo_cli.common.seeding import generator
from msgrpo_cli.config.prompt import prompt_of
from msgrpo_cli.config.schema import EnvConfig, RunConfig
from msgrpo_cli.episode import Episode, Step
from msgrpo_cli.games.core import KnownDynamics, TextMediatedStochasticGame
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.games.seats import MultiPlayerGame
from msgrpo_cli.rollout.players import ExactPlayer, RandomPlayer, players_of
from msgrpo_cli.rollout.prompt import Messages
from msgrpo_cli.rollout.tables import against_random_play
from msgrpo_cli.rollout.visits import played
from msgrpo_cli.runs.pretrained import check_reachable
from msgrpo_cli.runs.reader import written

if TYPE_CHECKING:
    from msgrpo_cli.models.conversation import Conversation

_STARTS = 200  # of every player, for the list of games


def shown(config: RunConfig) -> dict[str, Any]:
    """Messages, the prompt as the tokenizer's template writes it, its tokens, and an episode step by step.

    There is no episode where a game of free text lists no moves.
    """
    with importing():
        from msgrpo_cli.models.factory import load_conversation
        from msgrpo_cli.models.loading import quiet_libraries

    quiet_libraries()
    check_reachable(config.model)
    conversation = load_conversation(config)
    game = make_game(config.env, evaluation=True)
    if isinstance(game, MultiPlayerGame):
        return _shown_to_first(config, game, conversation)
    episode = played(config.env, RandomPlayer(), 1, config.prompt.observation)[0] if game.lists_moves() else None
    past: Sequence[Step] = ()
    if episode is not None:
        past = episode.steps[: config.prompt.history + 1][
            :-1
        ]  # of the first decision that sees a whole history, if any
        _bring(game, episode, len(past))
    now = game.describe(config.prompt.observation)
    template = prompt_of(config)
    messages = template.messages(game, now, [(step.observation, step.action) for step in past])
    return {
        **_said(config, conversation, messages),
        "episode": [{"action": step.action, "reward": step.reward} for step in episode.steps] if episode else [],
        "total_reward": episode.total_reward if episode else None,
        "ended_by": episode.ended_by if episode else None,
    }


def _shown_to_first(config: RunConfig, game: MultiPlayerGame, conversation: Conversation) -> dict[str, Any]:
    """The prompt of the seat that decides first, and an episode of random play on all seats."""
    [episode] = played(config.env, RandomPlayer(), 1, config.prompt.observation) if game.lists_moves() else [None]
    game.reset(seed=episode.start.seed if episode else 0)
    view = game.seen_by(game.movers()[0])
    messages = prompt_of(config).messages(view, view.describe(config.prompt.observation))
    steps = episode.steps if episode else ()
    return {
        **_said(config, conversation, messages),
        "players": game.players,
        "shown_to": view.player,
        "episode": [{"action": step.action, "reward": step.reward, "seat": step.seat} for step in steps],
        "total_reward": None,
        "total_rewards": [had.total_reward for had in episode.seats] if episode else None,
        "ended_by": episode.ended_by if episode else None,
    }


def _said(config: RunConfig, conversation: Conversation, messages: Messages) -> dict[str, Any]:
    tokenizer = conversation.tokenizer
    ids = conversation.prompt_ids(messages)
    return {
        "env": config.env.name,
        "id": config.env.id,
        "keys": config.env.keys,
        "model": config.model.name,
        "messages": [{"role": role, "content": text} for role, text in messages],
        "answer_prefix": config.prompt.answer_prefix,
        "prompt": str(tokenizer.decode(list(ids))),
        "prompt_tokens": len(ids),
        "unknown_tokens": sum(token == tokenizer.unk_token_id for token in ids) if tokenizer.unk_token else 0,
        "max_prompt_tokens": config.rollout.max_prompt_tokens,
    }


def _bring(game: TextMediatedStochasticGame, episode: Episode, steps: int) -> None:
    """To where an episode stood after so many steps."""
    game.reset(seed=episode.start.seed)
    game.np_random = generator((*episode.start.key, "noise"))
    for step in episode.steps[:steps]:
        game.take(str(step.action))


def as_text(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{found['env']} ({found['id']}):"]
    lines += [f"  env.{key}={_typed(value)}" for key, value in found["keys"].items()]
    if "shown_to" in found:
        lines.append(f"{found['players']} players; the prompt of player {found['shown_to']}, who decides first")
    for message in found["messages"]:
        lines += [f"--- {message['role']}", message["content"]]
    if found["answer_prefix"]:
        lines += ["--- assistant, of whose answer this is the beginning", found["answer_prefix"]]
    tokens = f"{found['prompt_tokens']} tokens for {found['model']}, at most {found['max_prompt_tokens']}"
    if found["unknown_tokens"]:
        tokens += f"; {found['unknown_tokens']} of them stand for words that it does not know"
    lines += [f"--- {tokens}"]
    if not found["episode"]:
        return "\n".join(lines)
    lines += ["", f"one random episode of {found['env']}, with the rewards of evaluation:"]
    for number, step in enumerate(found["episode"], 1):
        who = f"player {step['seat']} " if "seat" in step else ""
        lines.append(f"{number} {who}{step['action']}: {step['reward']:g}")
    totals = found.get("total_rewards") or [found["total_reward"]]
    said = ", ".join(f"{total:g}" for total in totals)
    return "\n".join([*lines, f"total reward {said}, ended by {found['ended_by']}"])


def _typed(value: Any) -> str:
    """As one would type it, games of a mixture by name; of a text its first line."""
    named = [one["name"] if isinstance(one, dict) else one for one in value] if isinstance(value, list) else value
    first, more, _ = written(named).partition("\n")
    return first + (" ..." if more else "")


def described(env: EnvConfig) -> dict[str, Any]:
    """Scores are mean total rewards of evaluation over the same starts; the best is exact where it can be computed.

    With free text `actions` is None, and so is the random score where no moves are listed.
    """
    game = make_game(env, evaluation=True)
    if game.players > 1:
        return _described_seats(env, game)
    exact = isinstance(game, KnownDynamics)
    random = played(env, RandomPlayer(), _STARTS) if game.lists_moves() else []
    best = None
    if exact:
        player = ExactPlayer()
        values = []
        for seed in range(_STARTS):
            game.reset(seed=seed)
            values.append(player.value(game) or 0.0)
        best = sum(values) / len(values)
    else:
        able = [player for name, player in players_of(game).items() if name in ("greedy", "search")]
        best = max((_mean([one.total_reward for one in played(env, player, _STARTS)]) for player in able), default=None)
    return {
        "name": env.name,
        "actions": None if game.actions is None else list(game.actions),
        "max_steps": game.max_steps,
        "initial_states": game.initial_states,
        "random_score": _mean([episode.total_reward for episode in random]) if random else None,
        "optimal_score": best,
        "optimal_is_exact": exact,
    }


def _described_seats(env: EnvConfig, game: TextMediatedStochasticGame) -> dict[str, Any]:
    """Scores are means over all seats, each against random play on the others."""
    scores = {
        name: _mean([pair.total_reward for pair in against_random_play(env, player, _STARTS)])
        for name, player in (players_of(game).items() if game.lists_moves() else ())
    }
    return {
        "name": env.name,
        "actions": None if game.actions is None else list(game.actions),
        "max_steps": game.max_steps,
        "initial_states": game.initial_states,
        "random_score": scores.pop("random", None),
        "optimal_score": max(scores.values(), default=None),
        "optimal_is_exact": False,
        "players": game.players,
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
