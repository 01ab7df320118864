"""A game from outside the package, as a user writes it: trained and evaluated by its id alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

GAME = '''
import gymnasium
from msgrpo_cli.games import TextMediatedStochasticGame


class Corridor(TextMediatedStochasticGame):
    """Walk right to the end of a corridor of random length."""

    actions = ("left", "right")

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

    @property
    def initial_states(self):
        return "few"


gymnasium.register("me/Corridor-v0", entry_point=Corridor)
'''


def test_a_game_outside_the_package_trains_and_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from msgrpo_cli.config.compose import compose
    from msgrpo_cli.evaluation.evaluate import evaluate_subjects
    from msgrpo_cli.evaluation.targets import asked_for
    from msgrpo_cli.launch.run import go_on
    from msgrpo_cli.training.train import train_job

    monkeypatch.chdir(tmp_path)
    (tmp_path / "corridor_game.py").write_text(GAME)
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "corridor.yaml").write_text(
        "name: corridor\nid: corridor_game:me/Corridor-v0\nlongest: 3\nmax_steps: 4\n"
    )
    overrides = ["experiment=smoke", "env=corridor", "max_updates=1", "eval.episodes=6", "eval.every=0"]
    config = compose("train", overrides, [tmp_path])
    train_job(config, tmp_path / "run", command=["test"], overrides=overrides)
    line = json.loads((tmp_path / "run" / "episodes.jsonl").read_text().splitlines()[0])
    assert line["env"] == "corridor" and line["steps"][0]["optimal_action"] is None
    asked = asked_for(str(tmp_path / "run"), ["eval.episodes=6"], allow_modules=["corridor_game"])
    [result] = evaluate_subjects(asked, as_json=True)
    assert result["split"] == "any", "few starts: nothing can be held out"
    assert result["overlap_with_training"] == 0.0, "tiny knows no action of it, so no update took a step"
    assert result["optimal_score"] is None and result["normalized_score"] is None
    assert "unknown" in result["normalized_reason"]
    sys.modules.pop("corridor_game")
    sys.path.remove(str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    outcome = go_on(str(tmp_path / "run"), ["max_updates=2"], [tmp_path], ["test"], ["corridor_game"])
    assert outcome["updates"] == 2, "resumed from another directory, with the game's folder named"
    capsys.readouterr()
    sys.modules.pop("corridor_game", None)
