"""The Text-Mediated Stochastic Game: a gymnasium environment that speaks and is spoken to in words.

Knows games, words and rewards. Knows nothing about tokens, models or training.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium import spaces

from msgrpo_cli.errors import UsageError

from .facts import Fact, Moves
from .guard import BrokenPromise, checked_legal

Observation = Literal["compact", "full"]
InitialStates = Literal["many", "few", "connected"]

_ACTION_TAG = re.compile(r"<action>((?:(?!<action>).)*?)</action>", re.IGNORECASE | re.DOTALL | re.ASCII)
_PRINTABLE = "".join(map(chr, range(32, 127))) + "\n"
_LONGEST_COMMAND = 1000  # characters of free text, in the action space


class TextMediatedStochasticGame(gymnasium.Env[str, Any]):
    """A stochastic game seen through text (arXiv 2508.10839): states are rendered, answers are parsed.

    A game fills in `actions`, `new_game`, `play`, `describe`, `rules` and `state_key`; this class counts steps,
    ends the episode at `max_steps`, and parses. Rewards here are the game's own: penalties for answers that are
    no action belong to whoever plays.
    """

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012 - gymnasium declares it as an instance variable
    render_mode = "ansi"

    actions: tuple[str, ...] | None
    """Names of the actions, lower case; None: free text, whatever `parse` accepts is a move."""
    players: int = 1
    """How many seats there are; a game of more than one is a `seats.MultiPlayerGame`."""
    initial_states: InitialStates = "many"
    """`few`: too few starts to hold any out; `connected`: play leads from one start to others, or to states that read
    alike. Of neither is any start held out."""
    evaluation_keys: ClassVar[Mapping[str, Any]] = {}
    """Constructor keys that differ in evaluation (the game's declared evaluation rewards)."""
    facts: ClassVar[Sequence[Fact]] = ()
    """What the texts state; `msgrpo env check` holds each against the game."""
    moves: ClassVar[Moves | None] = None
    """How the actions change the position that the text states, where it states one."""
    label: str | None = None
    """In a mixture, the name of the game that is being played."""
    not_held_out: tuple[str, ...] = ()
    """In a mixture that holds out starts, the games of which it holds out none."""
    hides: str | None = None
    """What `describe` leaves out of the state on purpose, in words; None where it shows all that decides."""
    reward_range: tuple[float, float] = (-float("inf"), float("inf"))
    """The least and the largest reward of one step."""
    ends_within: int | None = None
    """The most steps to which the rules themselves let a game go; None where they set no end, or it is not known."""

    def __init__(self, max_steps: int) -> None:
        if max_steps < 1:
            raise ValueError(f"max_steps={max_steps}: must be at least 1")
        self.max_steps = max_steps
        self.elapsed = 0
        self.action_space: spaces.Space[Any] = (
            spaces.Text(min_length=1, max_length=_LONGEST_COMMAND, charset=_PRINTABLE)
            if self.actions is None
            else spaces.Discrete(len(self.actions))
        )
        self.observation_space = spaces.Text(min_length=1, max_length=100_000, charset=_PRINTABLE)

    # What a game fills in. `actions`, `max_steps` and `initial_states` are there once the game is made; all else is
    # asked after a first `reset`.

    @abstractmethod
    def new_game(self, rng: np.random.Generator) -> None:
        """Draw the whole initial state, hidden parts included, from `rng` alone."""

    @abstractmethod
    def play(self, action: str) -> tuple[float, str | None]:
        """Play one action; later chance comes from `self.np_random`.

        Returns the reward and, where the game ends by its rules, a word for how ("goal", "hole").
        """

    @abstractmethod
    def describe(self, observation: Observation = "full") -> str:
        """Render the current state: `full` says everything, `compact` says it in few tokens."""

    @abstractmethod
    def rules(self) -> str:
        """The rules that really hold for this game with its present keys, in plain sentences."""

    @abstractmethod
    def state_key(self) -> bytes:
        """The whole state but for the step count: equal keys play alike. Never derived from the text."""

    def legal(self) -> tuple[str, ...]:
        """The moves of this state: a part of `actions`, in their order, and at least one; told by what is shown alone.

        The first is the fallback for an invalid answer, and any other action counts as one. With free text: moves that
        are known here, for whoever needs a list; any other that `parse` accepts is a move, too.
        """
        return self.actions or ()

    def legal_in(self, state: Any) -> tuple[str, ...]:
        """The moves of any state, for exact play; `state` is a value as `state()` gives it."""
        return self.actions or ()

    @property
    def limits_moves(self) -> bool:
        """Whether some action may be no move of some state; then it is recorded which answers named such a one."""
        return self.actions is not None and type(self).legal is not TextMediatedStochasticGame.legal

    def split_key(self) -> bytes:
        """What decides whether a start is held out: the whole state, or where play leads from one start to another that
        part of it which play never changes."""
        return self.state_key()

    @property
    def success(self) -> bool | None:
        """Whether the episode so far counts as won; None where the game declares no success."""
        return None

    def declares_success(self) -> bool:
        """Whether success is known in every episode; of a mixture in those of all its games. Begins an episode."""
        self.reset(seed=0)
        return self.success is not None

    def lists_moves(self) -> bool:
        """Whether there are moves to choose among: not with free text, unless `legal` lists some. Begins an episode."""
        self.reset(seed=0)
        return bool(self.actions or self.legal())

    @property
    def present(self) -> TextMediatedStochasticGame:
        """The game that is being played: this one, or of a mixture one of its games."""
        return self

    def game_metrics(self) -> dict[str, float]:
        """Further numbers worth reporting about the episode so far."""
        return {}

    def greedy_action(self) -> str | None:
        """What the game's simple heuristic player does here; None where there is none."""
        return None

    def search_action(self) -> str | None:
        """What a search within a stated budget does here; None where there is none."""
        return None

    # What every game has

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start anew. All members of a group are reset with one seed, then get their own `np_random`."""
        super().reset(seed=seed)
        self.elapsed = 0
        self.new_game(self.np_random)
        return self.describe(), {}

    def step(self, action: int | str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play action number `action`, or with free text the text; `info["ended_by"]` holds the word for the end, if it
        is one."""
        outcome = self.play(str(action) if self.actions is None else self.actions[int(action)])
        if not (isinstance(outcome, tuple) and len(outcome) == 2):
            raise BrokenPromise(f"play returned {outcome!r}; it must return the reward and a word for the end, or None")
        reward, ending = outcome
        truncated = self._count_step(ending is not None)
        info = {"ended_by": ending or ("step limit" if truncated else None)}
        return self.describe(), reward, ending is not None, truncated, info

    def take(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """The same by the action's name."""
        return self.step(action if self.actions is None else self.actions.index(action))

    def skip(self) -> bool:
        """Let one step pass without playing; returns whether the step limit is reached."""
        return self._count_step(terminated=False)

    def _count_step(self, terminated: bool) -> bool:
        self.elapsed += 1
        return self.elapsed >= self.max_steps and not terminated

    def render(self) -> str:
        """The full text, as gymnasium's `ansi` mode."""
        return self.describe()

    def parse(self, text: str) -> str | None:
        """The action in the last `<action>` tag that is closed, case and blanks aside; None for anything else.

        A tag that is merely mentioned before ("I answer in <action> tags") does not spoil the answer. An action that is
        not legal is found, too: whoever plays holds it against `legal`. With free text any words in the tag are one.
        """
        tags = _ACTION_TAG.findall(text)
        if not tags:
            return None
        word = tags[-1].strip().lower()
        if self.actions is None:
            return " ".join(word.split()) or None
        return word if word in self.actions else None


def legal_moves(game: TextMediatedStochasticGame, needed_for: str) -> tuple[str, ...]:
    """What `legal` lists, held against what it promises.

    Raises BrokenPromise where that is broken, UsageError where a game of free text lists nothing.
    """
    moves = checked_legal(game.legal(), game.actions)
    if not moves:
        raise UsageError(
            f"{game.label or type(game).__name__} takes free text and legal() lists no move here, but {needed_for} "
            "must choose among some: let legal() return those that are known"
        )
    return moves


def is_illegal(game: TextMediatedStochasticGame, action: str | None) -> bool | None:
    """Whether an answer's action is no move of this state; None where all actions are moves of all states.

    Raises BrokenPromise where `legal` does not keep its promise.
    """
    if not game.limits_moves:
        return None
    moves = checked_legal(game.legal(), game.actions)
    return action is not None and game.actions is not None and action not in moves


Transition = tuple[float, Hashable, float, bool]
"""(probability, next state, reward, terminated)."""


@runtime_checkable
class KnownDynamics(Protocol):
    """A game whose transitions can be enumerated, so that exact dynamic programming applies.

    One that limits its moves says by `legal_in(state)` which are legal; `transitions` is asked for those alone.
    """

    max_steps: int
    elapsed: int

    def legal_in(self, state: Any) -> tuple[str, ...]:
        """The moves of `state`; what every game has: all actions."""

    def state(self) -> Hashable:
        """The whole state, as a value that `transitions` takes; holds everything the transitions depend on."""

    def transitions(self, state: Hashable, action: str) -> Sequence[Transition]:
        """All outcomes of `action` in `state`."""


@runtime_checkable
class PlaceableDynamics(KnownDynamics, Protocol):
    """Known dynamics that can be put into any of their states, so that a policy can be asked about each."""

    def place(self, state: Any) -> None:
        """Be in `state`; the step count stays."""
