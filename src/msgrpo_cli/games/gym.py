"""Any gymnasium environment with discrete actions, given words by a config: `env=gym env.id=CliffWalking-v1`.

Knows gymnasium's interface and templates. Knows nothing about single environments, tokens, models or training.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from jinja2 import Template, TemplateError

from msgrpo_cli.common.numbers import counted
from msgrpo_cli.common.templates import BoundedRange, template_of

from .core import InitialStates, KnownDynamics, Observation, TextMediatedStochasticGame, Transition

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_OURS = {"id", "render_mode", "max_episode_steps", "disable_env_checker"}


class GymGame(TextMediatedStochasticGame):
    """An environment of gymnasium's, with named actions and a rendered observation.

    `template` is a Jinja template over `observation`, `max_steps` and the environment's attributes named in
    `attributes`; without one the text is the environment's own `ansi` rendering. `compact` is another, for the compact
    text; without one both texts are the same. `state` names the attributes that are the whole state but for the step
    count, hidden parts included; without it they are the observation and `attributes`.
    """

    actions: tuple[str, ...] = ()
    inner_id: ClassVar[str]
    """What gymnasium calls the environment."""
    draws: ClassVar[bool]
    """Whether it has an `ansi` rendering."""
    limit: ClassVar[int | None] = None
    """The `max_episode_steps` that it is registered with."""

    def __init__(
        self,
        actions: Sequence[str],
        max_steps: int,
        template: str | None = None,
        compact: str | None = None,
        attributes: Sequence[str] = (),
        state: Sequence[str] | None = None,
        rules: str = "",
        arguments: dict[str, Any] | None = None,
        initial_states: InitialStates = "few",
        hides: str | None = None,
        success_from: float | None = None,
        action_mask: bool = False,
    ) -> None:
        """`arguments` go to the environment's constructor; a total reward of `success_from` or more counts as won.

        With `action_mask` an action that the environment's `info["action_mask"]` marks with 0 is no legal move.
        """
        if self.limit is not None and max_steps > self.limit:
            raise ValueError(
                f"max_steps={max_steps}: {self.inner_id} is registered with max_episode_steps={self.limit}, where "
                "gymnasium cuts an episode; use no more"
            )
        if template is not None and not template.strip():
            raise ValueError(f"template={template!r}: empty; null stands for the environment's own rendering")
        if compact is not None and not compact.strip():
            raise ValueError(f"compact={compact!r}: empty; null stands for the full text")
        if template is None and not self.draws:
            raise ValueError(f"template=null: {self.inner_id} draws no text of its own; give env.template")
        if success_from is not None and not math.isfinite(success_from):
            raise ValueError(f"success_from={success_from}: must be a finite number")
        if taken := _OURS & set(arguments or {}):
            raise ValueError(f"arguments={arguments}: {sorted(taken)[0]} is not the environment's own to choose")
        self._settings = {"render_mode": None if template else "ansi", **(arguments or {})}
        try:
            self._inner = self.plain()
        except Exception as problem:
            reason = f"{type(problem).__name__}: {problem}"
            raise ValueError(f"arguments={arguments}: {self.inner_id} cannot be made: {reason}") from problem
        space = self._inner.action_space
        if not isinstance(space, gymnasium.spaces.Discrete):
            raise ValueError(f"id={self.inner_id}: its actions are {space}; only discrete ones can be named")
        if len(actions) != space.n:
            raise ValueError(
                f"actions={list(actions)}: {self.inner_id} has {space.n} actions; name each, in its own order"
            )
        self.actions = tuple(actions)
        super().__init__(max_steps)
        self._first_action = int(space.start)
        self._arguments = repr(arguments)
        self._attributes = tuple(attributes)
        self._state_names = tuple(state) if state is not None else None
        self._rules, self._success_from = rules, success_from
        self.initial_states, self.hides = initial_states, hides
        self._templates = {"full": _parsed("template", template), "compact": _parsed("compact", compact)}
        self._total = 0.0
        self._observation: Any = None
        self._masked = action_mask
        self._info: dict[str, Any] = {}
        self._inner.reset(seed=0)
        for key, names in (("attributes", attributes), ("state", state or ())):
            for name in names:
                if name.startswith("_") or not self._inner.has_wrapper_attr(name) or callable(self._value(name)):
                    raise ValueError(f"{key}={list(names)}: {self.inner_id} has no value of the name {name}")
        self.reset(seed=0)
        self.legal()
        if isinstance(self, KnownDynamics):
            self.legal_in(self.state())

    def plain(self) -> Any:
        """Another environment as it is registered, wrappers included, but for the checker and its limit of steps:
        `max_steps`, which is no larger, cuts the episode, and says that it did."""
        return gymnasium.make(self.inner_id, disable_env_checker=True, max_episode_steps=-1, **self._settings)

    def registered(self) -> Any:
        """The same with its limit of steps."""
        return gymnasium.make(self.inner_id, disable_env_checker=True, **self._settings)

    @property
    def seen(self) -> Any:
        """The environment's present observation, in plain numbers and lists."""
        return as_plain(self._observation)

    def _value(self, name: str) -> Any:
        return as_plain(self._inner.get_wrapper_attr(name))

    def new_game(self, rng: np.random.Generator) -> None:
        self._observation, self._info = self._inner.reset(seed=int(rng.integers(2**31)))
        self._total = 0.0

    def play(self, action: str) -> tuple[float, str | None]:
        self._inner.unwrapped.np_random = self.np_random
        number = self._first_action + self.actions.index(action)
        self._observation, reward, terminated, truncated, self._info = self._inner.step(number)
        self._total += float(reward)
        return float(reward), "end" if terminated or truncated else None

    @property
    def limits_moves(self) -> bool:
        return self._masked

    def legal(self) -> tuple[str, ...]:
        if not self._masked:
            return self.actions
        return self._unmasked(self._info.get("action_mask"), "info['action_mask']")

    def _unmasked(self, mask: Any, what: str) -> tuple[str, ...]:
        """Raises ValueError for what is no mask over the actions."""
        if not isinstance(mask, (np.ndarray, list, tuple)) or np.shape(mask) != (len(self.actions),):
            raise ValueError(f"action_mask=true: {self.inner_id} gives no {what} of {len(self.actions)} numbers")
        return tuple(name for name, open_ in zip(self.actions, mask, strict=True) if open_)

    def describe(self, observation: Observation = "full") -> str:
        """The template that is asked for, rendered; raises ValueError that names its key where it cannot be."""
        named = (self._templates["compact"] if observation == "compact" else None) or self._templates["full"]
        if named is None:
            return _COLOUR.sub("", str(self._inner.render())).strip()
        try:
            return named.template.render(
                observation=self.seen,
                max_steps=self.max_steps,
                steps_left=self.max_steps - self.elapsed,
                range=BoundedRange().range,
                **{name: self._value(name) for name in self._attributes},
            ).strip()
        except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError) as problem:
            raise ValueError(f"{named.key}={named.text}: cannot be rendered: {problem}") from problem

    def rules(self) -> str:
        return f"{self._rules} You have at most {counted(self.max_steps, 'move')}.".strip()

    def state_key(self) -> bytes:
        names = self._attributes if self._state_names is None else self._state_names
        seen = self.seen if self._state_names is None else None
        return repr((seen, [self._value(name) for name in names])).encode()

    @property
    def success(self) -> bool | None:
        return None if self._success_from is None else self._total >= self._success_from


@dataclass(frozen=True)
class _Words:
    """A template and the key that gives it."""

    key: str
    text: str
    template: Template


def _parsed(key: str, text: str | None) -> _Words | None:
    """Raises ValueError where it is broken."""
    try:
        return _Words(key, text, template_of(text)) if text else None
    except TemplateError as problem:
        raise ValueError(f"{key}={text}: broken: {problem}") from problem


class TabularGymGame(GymGame):
    """One that shows its transition table `P` and its state `s`, as gymnasium's toy texts do: exact play applies.

    Wrappers of its own may change rewards and moves, of which the table knows nothing: then it is a `GymGame`.
    """

    def state(self) -> tuple[str, str, int]:
        """Which table it is, and the state's number in it."""
        return self.inner_id, self._arguments, int(self._inner.unwrapped.s)

    def legal_in(self, state: tuple[str, str, int]) -> tuple[str, ...]:
        """By the environment's own `action_mask(number of the state)`, as gymnasium's taxi has it."""
        if not self._masked:
            return self.actions
        told = getattr(self._inner.unwrapped, "action_mask", None)
        mask = told(state[-1]) if callable(told) else None
        return self._unmasked(mask, "action_mask(state), which exact play asks,")

    def transitions(self, state: tuple[str, str, int], action: str) -> list[Transition]:
        *table, number = state
        outcomes = self._inner.unwrapped.P[number][self.actions.index(action)]
        return [(float(p), (*table, int(after)), float(reward), bool(ended)) for p, after, reward, ended in outcomes]


@lru_cache
def wrapped(inner_id: str) -> type[GymGame]:
    """The game class of an environment that gymnasium knows."""
    made: Any = gymnasium.make(inner_id, disable_env_checker=True)
    core = made.unwrapped
    tabular = isinstance(getattr(core, "P", None), dict) and not _own_wrappers(made)
    limit = made.spec.max_episode_steps
    draws = "ansi" in made.metadata.get("render_modes", ())
    made.close()
    parent = TabularGymGame if tabular else GymGame
    return type(type(core).__name__, (parent,), {"inner_id": inner_id, "draws": draws, "limit": limit})


def _own_wrappers(made: Any) -> list[str]:
    """Names of the wrappers that the environment brings, not gymnasium's `make`."""
    found = []
    while isinstance(made, gymnasium.Wrapper):
        if not isinstance(made, (OrderEnforcing, PassiveEnvChecker, TimeLimit)):
            found.append(type(made).__name__)
        made = made.env
    return found


def as_plain(value: Any) -> Any:
    """Numbers, texts and nested lists instead of numpy's types, so that templates and keys show values."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {as_plain(key): as_plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(as_plain, value)) if type(value) in (list, tuple) else list(map(as_plain, value))
    return value
