"""Games that break their promises, each in one way; written where a user's module would lie."""

from __future__ import annotations

from pathlib import Path

MODULE = '''
import itertools

import gymnasium
from msgrpo_cli.games import TextMediatedStochasticGame

count = itertools.count()


class Good(TextMediatedStochasticGame):
    """Walk right to the end of a corridor of random length; keeps its promises."""

    actions = ("left", "right", "down", "up")
    initial_states = "few"

    def __init__(self, longest: int = 3, max_steps: int = 4):
        super().__init__(max_steps)
        self.longest = longest

    def new_game(self, rng):
        self.length, self.place = int(rng.integers(1, self.longest + 1)), 0

    def play(self, action):
        self.place = max(0, self.place + (1 if action == "right" else -1))
        return (1.0, "exit") if self.place >= self.length else (0.0, None)

    def describe(self, observation="full"):
        return "P . . G"

    def rules(self):
        return "Walk to the end of the corridor."

    def state_key(self):
        return bytes([self.length, self.place])


class StartsDiffer(Good):
    def new_game(self, rng):
        self.length, self.place = next(count) % 200 + 1, 0


class Remembers(Good):
    place = 0

    def new_game(self, rng):
        self.length = 7


class NoStateKey(Good):
    state_key = TextMediatedStochasticGame.state_key


class OnlyActions(TextMediatedStochasticGame):
    actions = ("left",)


class NoActions(TextMediatedStochasticGame):
    new_game = Good.new_game
    play = Good.play
    describe = Good.describe
    rules = Good.rules
    state_key = Good.state_key


class UpperCase(Good):
    actions = ("Left", "right")


class ActionList(Good):
    actions = ["left", "right"]


class SameActions(Good):
    actions = ("left", "left")


class NoMoves(Good):
    def legal(self):
        return ()


class StrangeMoves(Good):
    def legal(self):
        return ("left", "jump")


class MoveList(Good):
    def legal(self):
        return ["left"]


class TextKey(Good):
    def state_key(self):
        return f"{self.length} {self.place}"


class NeverEnds(Good):
    def step(self, action):
        return self.describe(), 0.0, False, False, {"ended_by": None}


class RaisesInPlay(Good):
    def play(self, action):
        return 1 / 0


class RaisesInReset(Good):
    def new_game(self, rng):
        raise RuntimeError("no map today\\nreally")


class RaisesWithoutWords(Good):
    def play(self, action):
        raise KeyError


class NanReward(Good):
    def play(self, action):
        return float("nan"), None


class InfiniteReward(Good):
    def play(self, action):
        return float("inf"), None


class TextReward(Good):
    def play(self, action):
        return "1.0", None


class NoReward(Good):
    def play(self, action):
        return None, None


class RewardAlone(Good):
    def play(self, action):
        return 1.0


class EndsWithTrue(Good):
    def play(self, action):
        return 1.0, True


class SaysNothing(Good):
    def describe(self, observation="full"):
        return None


class NoCompactText(Good):
    def describe(self):
        return "P . . G"


class OddStates(Good):
    initial_states = "some"


class CannotBeMade(Good):
    def __init__(self, max_steps: int = 4):
        raise OSError("the board is not at home")


class Speaks(Good):
    def describe(self, observation="full"):
        return "P . . G " * 40


class Later(Good):
    """Breaks its promise once the game is played in earnest, which the few steps before a run do not show."""

    earnest = False

    def new_game(self, rng):
        super().new_game(rng)
        self.earnest = self.np_random_seed > 10


class LaterRaises(Later):
    def play(self, action):
        if self.earnest:
            raise LookupError("the corridor has caved in")
        return super().play(action)


class LaterNan(Later):
    def play(self, action):
        return (float("nan"), None) if self.earnest else super().play(action)


class LaterEndless(Later):
    def step(self, action):
        return ("P", 0.0, False, False, {}) if self.earnest else super().step(action)


class LaterDiffers(Later):
    def state_key(self):
        return bytes([next(count) % 250]) if self.earnest else super().state_key()


class LaterParses(Later):
    def parse(self, text):
        if self.earnest:
            raise ValueError("what?")
        return super().parse(text)


for name, kind in list(globals().items()):
    if isinstance(kind, type) and issubclass(kind, TextMediatedStochasticGame):
        gymnasium.register(f"bad/{name}-v0", entry_point=kind)
gymnasium.register("bad/Nowhere-v0", entry_point="no_such_module_at_all:Game")
'''


def write_games(folder: Path) -> Path:
    """A config folder with the module and, for each of its games, a choice `env=<class in lower case>`."""
    (folder / "env").mkdir(parents=True)
    (folder / "bad_games_of_mine.py").write_text(MODULE)
    (folder / "broken_module_of_mine.py").write_text("1 +\n")
    (folder / "sulking_module_of_mine.py").write_text("raise RuntimeError('not today')\n")
    names = [line.split()[1].partition("(")[0] for line in MODULE.splitlines() if line.startswith("class ")]
    for name in [*names, "Nowhere"]:
        text = f"name: {name.lower()}\nid: bad_games_of_mine:bad/{name}-v0\nmax_steps: 4\n"
        (folder / "env" / f"{name.lower()}.yaml").write_text(text)
    return folder
