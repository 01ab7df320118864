"""Playing: many games at once with one policy, finished episodes making room for waiting ones.

Knows games, steps and the `Policy` protocol. Knows nothing about tokens, models or training.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, Protocol, runtime_checkable

from msgrpo_cli.common.seeding import Key, generator, uniforms
from msgrpo_cli.episode import SELF, Completion, Episode, Seat, Start, Step
from msgrpo_cli.games.core import Observation, TextMediatedStochasticGame, is_illegal, legal_moves
from msgrpo_cli.games.guard import AT_START, AT_STEP, blaming, check_length, checked_metrics, checked_outcome
from msgrpo_cli.games.seats import MultiPlayerGame

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
    """Names the randomness of this decision: the episode's key and the step; of several players the episode's key, the
    seat and how many decisions that seat has taken."""
    history: tuple[Past, ...] = ()
    """The states before this one that the policy may see, oldest first; none by the paper's rule."""
    player: str = SELF
    """Who sits there, of several players; `game` is then what that seat sees."""


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

    def decisions(self, rules: PlayRules) -> list[Decision]:
        """What is asked now: one decision."""
        seen = self.steps[-rules.history :] if rules.history else ()
        history = tuple((step.observation, step.action) for step in seen)
        key = (*self.start.key, len(self.steps))
        return [Decision(self.game, self.game.describe(rules.observation), key, history)]

    def take(
        self, decisions: Sequence[Decision], completions: Sequence[Completion], rules: PlayRules, judge: Judge | None
    ) -> Episode | None:
        """Play one answer; returns the episode where it has ended. No game is ever asked to play an illegal move."""
        [decision], [completion], game = decisions, completions, self.game
        check_length(len(self.steps), game.max_steps)
        completion, action, illegal = _answer(decision, completion, rules)
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
        self.steps.append(Step(decision.observation, completion, action, reward, state_key, optimal, regret, illegal))
        if ended_by is None:
            return None
        return Episode(
            env=game.label or rules.env,
            start=self.start,
            steps=tuple(self.steps),
            terminated=terminated,
            truncated=truncated,
            ended_by=ended_by,
            success=game.success,
            game_metrics=checked_metrics(game.game_metrics()),
        )

    def blaming(self, name: str) -> blaming:
        """Around whatever the game does now."""
        return blaming(name, AT_STEP, len(self.steps) + 1, self.start.seed)


@dataclass(slots=True)
class _Table:
    """An episode of several players being played, turn by turn. An invalid answer costs the seat that gave it."""

    index: int
    start: Start
    game: MultiPlayerGame
    steps: list[Step] = field(default_factory=list)
    of_seat: dict[int, list[int]] = field(default_factory=dict)
    """Which steps are those of each seat that has decided."""
    owed: dict[int, float] = field(default_factory=dict)
    """What a seat got before its first decision."""

    def decisions(self, rules: PlayRules) -> list[Decision]:
        """What is asked now: every seat that is to move."""
        return [self._decision(seat, rules) for seat in self.game.movers()]

    def _decision(self, seat: int, rules: PlayRules) -> Decision:
        view, own = self.game.seen_by(seat), self.of_seat.get(seat, [])
        seen = [self.steps[number] for number in own[-rules.history :]] if rules.history else []
        history = tuple((step.observation, step.action) for step in seen)
        key = (*self.start.key, seat, len(own))
        return Decision(view, view.describe(rules.observation), key, history, self.start.player(seat))

    def take(
        self, decisions: Sequence[Decision], completions: Sequence[Completion], rules: PlayRules, judge: Judge | None
    ) -> Episode | None:
        """Play one turn; returns the episode where it has ended. Where one answer stands for no move at all (`noop`,
        `end`) nobody's is played: the turn passes, or the episode ends."""
        game = self.game
        check_length(game.elapsed, game.max_steps)
        state_key = game.state_key()
        seats = game.movers()
        answers = [_answer(asked, said, rules) for asked, said in zip(decisions, completions, strict=True)]
        actions = {seat: action for seat, (_, action, _) in zip(seats, answers, strict=True) if action is not None}
        rewards: Sequence[float] = [0.0] * game.players
        ended_by: str | None
        if len(actions) == len(seats):
            rewards, terminated, truncated, ended_by = game.take_turn(actions)
        elif rules.invalid_action == "end":
            terminated, truncated, ended_by = True, False, "invalid"
        else:
            terminated, truncated = False, game.skip()
            ended_by = "step limit" if truncated else None
        played = actions if len(actions) == len(seats) else {}
        for seat, asked, (completion, _, illegal) in zip(seats, decisions, answers, strict=True):
            reward = self.owed.pop(seat, 0.0) - (rules.format_penalty if completion.action is None else 0.0)
            self.of_seat.setdefault(seat, []).append(len(self.steps))
            action = played.get(seat)
            self.steps.append(
                Step(asked.observation, completion, action, reward, state_key, illegal=illegal, seat=seat)
            )
        for seat, reward in enumerate(rewards):
            self._give(seat, reward)
        if ended_by is None:
            return None
        return Episode(
            env=rules.env,
            start=self.start,
            steps=tuple(self.steps),
            terminated=terminated,
            truncated=truncated,
            ended_by=ended_by,
            success=None,
            game_metrics=checked_metrics(game.game_metrics()),
            seats=tuple(self._seat(seat) for seat in range(game.players)),
            began=self.steps[0].state_key,
        )

    def _give(self, seat: int, reward: float) -> None:
        """A reward belongs to the last decision of whoever gets it, or where there is none yet to the first."""
        if not (own := self.of_seat.get(seat)):
            self.owed[seat] = self.owed.get(seat, 0.0) + reward
        elif reward:
            last = self.steps[own[-1]]
            self.steps[own[-1]] = replace(last, reward=last.reward + reward)

    def _seat(self, seat: int) -> Seat:
        total = sum(self.steps[number].reward for number in self.of_seat.get(seat, [])) + self.owed.get(seat, 0.0)
        return Seat(self.start.player(seat), total, self.game.success_of(seat))

    def blaming(self, name: str) -> blaming:
        """Around whatever the game does now."""
        return blaming(name, "at turn {} of the episode with seed {}", self.game.elapsed + 1, self.start.seed)


def play_episodes(
    starts: Sequence[Start],
    make_game: GameFactory,
    policy: Policy,
    rules: PlayRules,
    judge: Judge | None = None,
    on_progress: Callable[[int, int], None] = lambda finished, total: None,
) -> list[Episode]:
    """Play every start to its end; returns the episodes in the order of `starts`.

    Of a game of several players an episode holds the steps of all seats; a policy is asked for each that is to move.
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
    live: list[_Live | _Table] = []
    finished: dict[int, Episode] = {}
    on_progress(0, len(starts))  # the first round may take long, or never end
    spare = [make_game() for _ in starts[:1]]
    most = rules.max_live_episodes // spare[0].players if spare else 0  # all of its seats may be asked at once
    spare += [make_game() for _ in range(1, min(most, len(starts)))]
    while waiting or live:
        while waiting and spare:
            index, start = waiting.popleft()
            game = spare.pop()
            with blaming(rules.env, AT_START, start.seed):
                game.reset(seed=start.seed)
            game.np_random = generator((*start.key, "noise"))
            table = _Table if isinstance(game, MultiPlayerGame) else _Live
            live.append(table(index, start, game))  # type: ignore[arg-type]
        asked = []
        for episode in live:
            with episode.blaming(rules.env):
                asked.append(episode.decisions(rules))
        answers = iter(_answers(policy, [decision for decisions in asked for decision in decisions]))
        for episode, decisions in zip(live, asked, strict=True):
            with episode.blaming(rules.env):
                ended = episode.take(decisions, list(islice(answers, len(decisions))), rules, judge)
                if ended is not None:
                    finished[episode.index] = ended
                    spare.append(episode.game)
        live = [episode for episode in live if episode.index not in finished]
        on_progress(len(finished), len(starts))
    return [finished[index] for index in range(len(starts))]


def _answers(policy: Policy, decisions: Sequence[Decision]) -> list[Completion]:
    completions = policy.act(decisions)
    if len(completions) != len(decisions):
        raise ValueError(f"{type(policy).__name__} gave {len(completions)} answers to {len(decisions)} decisions")
    return completions


def _answer(decision: Decision, completion: Completion, rules: PlayRules) -> tuple[Completion, str | None, bool | None]:
    """The completion, without an action where that is no move; what is played; whether it named an illegal action."""
    illegal = is_illegal(decision.game, completion.action)
    if illegal:
        completion = replace(completion, action=None)
    action = completion.action
    if action is None:
        action = _fallback(decision.game, rules.invalid_action, decision.key)
    return completion, action, illegal


def _fallback(game: TextMediatedStochasticGame, invalid_action: InvalidAction, key: Key) -> str | None:
    if invalid_action not in LISTED:
        return None
    moves = legal_moves(game, f"algo.invalid_action={invalid_action}")
    return moves[0] if invalid_action == "first" else moves[int(uniforms((*key, "fallback"), 1)[0] * len(moves))]
