"""A level of BabyAI in words: `env=babyai env.game=BabyAI-GoToRedBallGrey-v0`.

Knows minigrid's interface: levels, what stands in their cells, what the agent sees, what decides a mission. Knows
nothing about single levels, tokens, models or training; `babyai_bot` knows BabyAI's own player.
A place is (steps forward, steps to the right) of the agent.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np

from msgrpo_cli.common.numbers import counted
from msgrpo_cli.common.text import did_you_mean

from .core import InitialStates, Observation, TextMediatedStochasticGame
from .facts import Fact

_INSTALL = "needs minigrid: pip install 'msgrpo[minigrid]'"
_NUMBERS = {"turn left": 0, "turn right": 1, "go forward": 2, "pick up": 3, "drop": 4, "toggle": 5}
"""What minigrid calls the actions; its seventh, done, does nothing in these levels."""

Place = tuple[int, int]


def _seen_in_the_world(game: BabyAI) -> list[str]:
    """The visible things, found by their coordinates in the world; the text is made from the agent's own view."""
    level = game.level
    _, visible = level.gen_obs_grid()
    found = []
    for x in range(level.width):
        for y in range(level.height):
            cell, view = level.grid.get(x, y), level.relative_coords(x, y)
            if cell is None or cell.type == "wall" or view is None or not visible[tuple(view)]:
                continue
            away = np.array((x, y)) - level.agent_pos
            place = int(away @ level.dir_vec), int(away @ level.right_vec)
            if place != (0, 0):  # one who stands in a doorway does not see its door
                found.append((place, f"{_named(cell)} {_where(place)}"))
    return ["; ".join(words for _, words in sorted(found, key=lambda thing: _nearness(thing[0]))) or "nothing"]


_FACTS = (
    Fact("task", "full", r"\ATask: (.*)\.", lambda game: [game.level.surface]),
    Fact("carried", "full", r"You carry (.*)\.", lambda game: [_carried(game.level)]),
    Fact("things", "full", r"You see (.*)\.", _seen_in_the_world),
    Fact("step limit", "rules", r"at most (\d+) moves?", lambda game: [game.max_steps]),
)


class BabyAI(TextMediatedStochasticGame):
    """One level: its missions, its rewards, its limit of moves, and what the agent sees now in words.

    The reward is the level's own: 1 - 0.9 t / T at the move t that ends the mission, T the level's limit, else 0. An
    answer that is not played lets time pass. The limit is the smaller of `max_steps` and T.
    """

    actions = tuple(_NUMBERS)
    facts: ClassVar[Any] = _FACTS
    reward_range = (0.0, 1.0)
    hides = "what is out of sight, what was seen before, and which parts of the task are done"

    def __init__(self, game: str, max_steps: int, initial_states: InitialStates = "connected") -> None:
        """`game` is the level's id in gymnasium's registry. Raises ValueError for one that minigrid does not have."""
        self.level = _made(game)
        super().__init__(max_steps)
        self.initial_states = initial_states
        self._name, self._asked_steps = game, max_steps
        self._seed, self._played = 0, list[int]()
        self._bot: Any = None
        self._view: Any = None  # what the agent sees, and which of its cells: minigrid takes milliseconds for it
        self._won = False

    def new_game(self, rng: np.random.Generator) -> None:
        self._seed, self._played, self._bot, self._won = int(rng.integers(2**31)), [], None, False
        started(self.level, self._seed)
        self._view = self.level.gen_obs_grid()
        self.max_steps = min(self._asked_steps, self.level.max_steps)

    def play(self, action: str) -> tuple[float, str | None]:
        self.level.step_count = self.elapsed
        self._played.append(_NUMBERS[action])
        _, reward, terminated, *_ = self.level.step(_NUMBERS[action])
        self._view, self._won = self.level.gen_obs_grid(), bool(reward > 0)
        return float(reward), ("done" if self._won else "failed") if terminated else None

    @property
    def success(self) -> bool:
        return self._won

    def describe(self, observation: Observation = "full") -> str:
        grid, visible = self._view
        things = sorted(_things(grid, visible), key=lambda thing: _nearness(thing[0]))
        walls = list(_walls(grid, visible))
        task, carried = self.level.mission, _carried(self.level)
        if observation == "compact":
            short = [f"{_named(cell).partition(' ')[2]} {_briefly(place)}" for place, cell in things]
            short += [f"wall {_briefly(place)}" for place in walls]
            return f"{task}. carry {carried}. see {'; '.join(short) or 'nothing'}."
        seen = "; ".join(f"{_named(cell)} {_where(place)}" for place, cell in things) or "nothing"
        limits = "; ".join(map(_where, walls)) or "out of sight"
        return f"Task: {task}.\nYou carry {carried}.\nYou see {seen}.\nWalls: {limits}."

    def rules(self) -> str:
        ahead = self.level.agent_view_size - 1
        return (
            f"You are in a world of rooms and do a task. You see {ahead} steps forward and {ahead // 2} to each side, "
            "not through walls and closed doors; walls are named straight forward, left and right. "
            "You go to a thing when you stand before it and face it. turn left and turn right turn you on the spot. "
            "go forward takes you one step where nothing stands, or through an open door. "
            "pick up takes the key, ball or box one step forward, where you carry nothing; drop lays it down there. "
            "toggle opens or closes a door one step forward (a locked one if you carry the key of its colour), and "
            "opens a box. The task done at move t is worth "
            f"1 - 0.9 t / {self.level.max_steps}. You have at most {counted(self.max_steps, 'move')}."
        )

    def state_key(self) -> bytes:
        """All cells and what they hold, the agent, how far the mission is; and the time, which rewards tell."""
        level = self.level
        instructions = list(_instructions(level.instrs))
        asked = [one for instruction in instructions for one in _descriptions(instruction)]

        def plain(thing: Any) -> Any:
            if thing is None:
                return None
            meant = [number for number, one in enumerate(asked) if any(thing is other for other in one.obj_set)]
            return (*map(int, thing.encode()), meant, plain(thing.contains))

        cells = [plain(cell) for cell in level.grid.grid]
        agent = (*map(int, level.agent_pos), int(level.agent_dir), plain(level.carrying))
        places = [[(int(x), int(y)) for x, y in one.obj_poss] for one in asked]
        done = [(getattr(one, "a_done", None), getattr(one, "b_done", None)) for one in instructions]
        before = [plain(getattr(one, "preCarrying", None)) for one in instructions]
        return repr((cells, agent, level.mission, places, done, before, self.elapsed)).encode()

    def greedy_action(self) -> str:
        """What BabyAI's bot does, which has seen what the agent saw since the start; it may err after odd moves."""
        from .babyai_bot import Bot

        if self._bot is None:
            self._bot = Bot(started(_made(self._name), self._seed))
        return str(self.actions[self._bot.next_after(self._played)])


def _made(game: str) -> Any:
    """The level itself, without gymnasium's wrappers."""
    try:
        import minigrid  # noqa: F401 - registers its levels
    except ImportError as problem:
        raise ValueError(f"game={game}: {_INSTALL}") from problem
    levels = [name for name in gymnasium.registry if name.startswith("BabyAI-")]
    if game not in levels:
        raise ValueError(f"game={game}: BabyAI has no level of that name{did_you_mean(game, levels)}")
    return gymnasium.make(game, disable_env_checker=True).unwrapped


def started(level: Any, seed: int) -> Any:
    """The level at the start of a seed; it prints what it draws in vain."""
    with contextlib.redirect_stdout(io.StringIO()):
        level.reset(seed=seed)
    return level


def _things(grid: Any, visible: Any) -> Iterator[tuple[Place, Any]]:
    """What is seen but walls, and where; the agent stands in the middle of the lowest row of its view."""
    middle, lowest = grid.width // 2, grid.height - 1
    for x in range(grid.width):
        for y in range(grid.height):
            cell, place = grid.get(x, y), (lowest - y, x - middle)
            if visible[x, y] and cell is not None and cell.type != "wall" and place != (0, 0):
                yield place, cell


def _walls(grid: Any, visible: Any) -> Iterator[Place]:
    """The nearest wall straight forward, left and right, where nothing stands before it."""
    middle, lowest = grid.width // 2, grid.height - 1
    for forward, right in ((1, 0), (0, -1), (0, 1)):
        for steps in range(1, grid.height):
            x, y = middle + right * steps, lowest - forward * steps
            if not (0 <= x < grid.width and visible[x, y]):
                break
            if (cell := grid.get(x, y)) is not None:
                if cell.type == "wall":
                    yield forward * steps, right * steps
                break


def _nearness(place: Place) -> tuple[int, Place]:
    return abs(place[0]) + abs(place[1]), place


def _where(place: Place) -> str:
    """Such as 2 steps forward and 1 step left."""
    forward, right = place
    parts = [f"{counted(forward, 'step')} forward"] if forward else []
    parts += [f"{counted(abs(right), 'step')} {'right' if right > 0 else 'left'}"] if right else []
    return " and ".join(parts)


def _briefly(place: Place) -> str:
    """Such as 2 forward 1 left."""
    return _where(place).replace(" steps", "").replace(" step", "").replace(" and", "")


def _named(thing: Any) -> str:
    """Such as a red ball, an open blue door."""
    if thing.type != "door":
        return f"a {thing.color} {thing.type}"
    state = "an open" if thing.is_open else "a locked" if thing.is_locked else "a closed"
    return f"{state} {thing.color} door"


def _carried(level: Any) -> str:
    return "nothing" if level.carrying is None else _named(level.carrying)


def _instructions(instruction: Any) -> Iterator[Any]:
    """A mission and all of its parts."""
    yield instruction
    for part in ("instr_a", "instr_b"):
        if hasattr(instruction, part):
            yield from _instructions(getattr(instruction, part))


def _descriptions(instruction: Any) -> Iterator[Any]:
    """Which things a part of a mission means."""
    for name in ("desc", "desc_move", "desc_fixed"):
        if hasattr(instruction, name):
            yield getattr(instruction, name)
