"""A user's own game, outside the package: walk right to the end of a corridor of random length."""

import gymnasium

from msgrpo_cli.games import TextMediatedStochasticGame


class Corridor(TextMediatedStochasticGame):
    actions = ("left", "right")
    initial_states = "few"

    def __init__(self, longest=3, max_steps=4):
        super().__init__(max_steps)
        self.longest = longest

    def new_game(self, rng):
        self.length, self.place = int(rng.integers(1, self.longest + 1)), 0

    def play(self, action):
        self.place = max(0, self.place + (1 if action == "right" else -1))
        return (1.0, "exit") if self.success else (0.0, None)

    @property
    def success(self):
        return self.place >= self.length

    def describe(self, observation="full"):
        return f"{self.place} of {self.length}"

    def rules(self):
        return "Walk to the end of the corridor."

    def state_key(self):
        return bytes([self.length, self.place])


gymnasium.register("me/Corridor-v0", entry_point=Corridor)
