"""Scores what training starts from: both bases, and the player that they imitate. Writes bases.json beside itself.

Knows the notebook functions, the evaluator and the blundering player. Knows nothing about training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from msgrpo_cli import evaluate
from msgrpo_cli.common.seeding import generator
from msgrpo_cli.config.compose import compose
from msgrpo_cli.episode import Completion
from msgrpo_cli.evaluation.evaluator import Evaluator
from msgrpo_cli.models.demonstrations import frozenlake_player
from msgrpo_cli.models.factory import game_factory, play_rules
from msgrpo_cli.rollout.play import Decision

HERE = Path(__file__).parent
SHOWN = (
    "success_rate", "success_ci95", "normalized_score", "greedy_success_rate", "episodes", "distinct_initial_states",
)  # fmt: skip


class Imitated:
    """Draws from the probabilities that the bases were shown."""

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        """One completion for each decision."""
        return [self._says(decision) for decision in decisions]

    def _says(self, decision: Decision) -> Completion:
        actions, chances = decision.game.actions, frozenlake_player(decision.game)  # type: ignore[arg-type]
        action = actions[int(generator((*decision.key, "player")).choice(len(actions), p=chances))]
        return Completion(action, action)


def main() -> None:
    """Everybody on the same 500 starts of the test part."""
    config = compose("eval", ["env=frozenlake"])
    evaluator = Evaluator(
        game_factory(config.env, evaluation=True), play_rules(config, evaluation=True), split="test", seed=0,
        episodes=config.eval.episodes,
    )  # fmt: skip
    (small,) = evaluate(None, "model=tiny")
    (large,) = evaluate(None, "model=tiny", "model.name=large", f"model.path={HERE / 'large'}")
    player = evaluator.evaluate("imitated", Imitated()).evaluation.to_json()
    found = {"small": small, "large": large, "imitated player": player}
    text = json.dumps({name: {key: of_one[key] for key in SHOWN} for name, of_one in found.items()}, indent=1)
    (HERE / "bases.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
