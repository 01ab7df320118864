"""Playing: many games at once with one policy, finished episodes making room for waiting ones.

Knows games, steps and the `Policy` protocol. Knows nothing about tokens, models or training.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from msgrpo_cli.common.seeding import Key, generator, uniforms
from msgrpo_cli.episode import Completion, Episode, Start, Step
from msgrpo_cli.games.core import Observation, TextMediatedStochasticGame, is_illegal, legal_moves
from msgrpo_cli.games.guard import AT_START, AT_STEP, blaming, check_length, checked_metrics, checked_outcome

from .prompt import Past

InvalidAction = Literal["first", "random", "noop", "end"]
LISTED: tuple[InvalidAction, ...] = ("first", "random")
"""Those that choose among the legal moves."""
GameFactory = Callable[[], TextMediatedStochasticGame]


@dataclass(frozen=True, slots=True)
class Decision:
    """One question to a policy: what to do in this state."""

    game: TextMediatedStochasticGame
    observation: str
    key: Key
    """Names the randomness of this decision: the episode's key and the step."""
    history: tuple[Past, ...] = ()
    """The states before this one that the policy may see, oldest first; none by the paper's rule."""


class Policy(Protocol):
    """Whoever decides: a language model, a reference player, a person."""

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        """One completion for each decision, in order."""


@runtime_checkable
class Remembering(Protocol):
    """A policy that keeps something of its decisions as long as it stays the same."""

    def unchanged(self) -> AbstractContextManager[Any]:
        """A context in which it stays the same; what it keeps is gone afterwards."""


class Judge(Protocol):
    """Knows how good an action is; see `players.ExactPlayer`."""

    def judge(self, game: TextMediatedStochasticGame, action: str | None) -> tuple[str | None, float | None]:
        """The best action here, and the expected total reward that `action` loses against it."""


class PlayEpisodes(Protocol):
    """Plays every start to its end, as `play_episodes` does, wherever."""

    def __call__(
        self,
        starts: Sequence[Start],
        make_game: GameFactory,
        policy: Policy,
        rules: PlayRules,
        judge: Judge | None = ...,
        on_progress: Callable[[int, int], None] = ...,
        /,
    ) -> list[Episode]: ...


@dataclass(frozen=True, slots=True)
class PlayRules:
    """How answers become moves."""

    env: str = "game"
    observation: Observation = "full"
    invalid_action: InvalidAction = "first"
    """What is played for an invalid answer; `noop`: nothing, the step counts; `end`: the episode ends."""
    format_penalty: float = 0.0
    """Subtracted from the reward of a step with an invalid answer."""
    max_live_episodes: int = 256
    history: int = 0
    """How many of the states before the current one a policy sees."""


@dataclass(slots=True)
class _Live:
    """An episode being played."""

    index: int
    start: Start
    game: TextMediatedStochasticGame
    steps: list[Step] = field(default_factory=list)

    def decision(self, rules: PlayRules) -> Decision:
        seen = self.steps[-rules.history :] if rules.history else ()
        history = tuple((step.observation, step.action) for step in seen)
        return Decision(self.game, self.game.describe(rules.observation), (*self.start.key, len(self.steps)), history)

    def blaming(self, name: str) -> blaming:
        """Around whatever the game does now."""
        return blaming(name, AT_STEP, len(self.steps) + 1, self.start.seed)


def play_episodes(
    starts: Sequence[Start],
    make_game: GameFactory,
    policy: Policy,
    rules: PlayRules,
    judge: Judge | None = None,
    on_progress: Callable[[int, int], None] = lambda finished, total: None,
) -> list[Episode]:
    """Play every start to its end; returns the episodes in the order of `starts`.

    The whole initial state comes from `start.seed`, all later chance of the game from `start.key`. So an episode
    depends neither on its neighbours nor on `rules.max_live_episodes`. A policy stays the same meanwhile.
    """
    with policy.unchanged() if isinstance(policy, Remembering) else nullcontext():
        return _play(starts, make_game, policy, rules, judge, on_progress)


def _play(
    starts: Sequence[Start],
    make_game: GameFactory,
    policy: Policy,
    rules: PlayRules,
    judge: Judge | None,
    on_progress: Callable[[int, int], None],
) -> list[Episode]:
    waiting = deque(enumerate(starts))
    live: list[_Live] = []
    finished: dict[int, Episode] = {}
    on_progress(0, len(starts))  # the first round may take long, or never end
    spare = [make_game() for _ in range(min(rules.max_live_episodes, len(starts)))]
    while waiting or live:
        while waiting and spare:
            index, start = waiting.popleft()
            game = spare.pop()
            with blaming(rules.env, AT_START, start.seed):
                game.reset(seed=start.seed)
            game.np_random = generator((*start.key, "noise"))
            live.append(_Live(index, start, game))
        decisions = []
        for episode in live:
            with episode.blaming(rules.env):
                decisions.append(episode.decision(rules))
        for episode, decision, completion in zip(live, decisions, policy.act(decisions), strict=True):
            with episode.blaming(rules.env):
                ended = _take_step(episode, decision, completion, rules, judge)
                if ended is not None:
                    finished[episode.index] = ended
                    spare.append(episode.game)
        live = [episode for episode in live if episode.index not in finished]
        on_progress(len(finished), len(starts))
    return [finished[index] for index in range(len(starts))]


def _take_step(
    episode: _Live, decision: Decision, completion: Completion, rules: PlayRules, judge: Judge | None
) -> Episode | None:
    """Play one answer; returns the episode where it has ended. No game is ever asked to play an illegal move."""
    game = episode.game
    check_length(len(episode.steps), game.max_steps)
    illegal = is_illegal(game, completion.action)
    if illegal:
        completion = replace(completion, action=None)
    action = completion.action
    if action is None:
        action = _fallback(game, rules.invalid_action, decision.key)
    state_key = game.state_key()
    optimal, regret = judge.judge(game, action) if judge else (None, None)
    ended_by: str | None
    if action is not None:
        reward, terminated, truncated, ended_by = checked_outcome(game.take(action))
    elif rules.invalid_action == "end":
        reward, terminated, truncated, ended_by = 0.0, True, False, "invalid"
    else:
        reward, terminated, truncated = 0.0, False, game.skip()
        ended_by = "step limit" if truncated else None
    if completion.action is None:
        reward -= rules.format_penalty
    episode.steps.append(Step(decision.observation, completion, action, reward, state_key, optimal, regret, illegal))
    if ended_by is None:
        return None
    return Episode(
        env=game.label or rules.env,
        start=episode.start,
        steps=tuple(episode.steps),
        terminated=terminated,
        truncated=truncated,
        ended_by=ended_by,
        success=game.success,
        game_metrics=checked_metrics(game.game_metrics()),
    )


def _fallback(game: TextMediatedStochasticGame, invalid_action: InvalidAction, key: Key) -> str | None:
    if invalid_action not in LISTED:
        return None
    moves = legal_moves(game, f"algo.invalid_action={invalid_action}")
    return moves[0] if invalid_action == "first" else moves[int(uniforms((*key, "fallback"), 1)[0] * len(moves))]
