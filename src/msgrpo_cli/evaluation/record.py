"""An evaluation is made, written into its run, and later perhaps cut down: a long run stays small.

Knows policies, the evaluator, the rows of metrics.jsonl and the files of `eval/`. Knows nothing about how a run decides
when to evaluate. Of former evaluations the first, the best and the last keep all their episodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from msgrpo_cli.common.files import write_json, write_text
from msgrpo_cli.common.jsonl import write_lines
from msgrpo_cli.episode import Episode
from msgrpo_cli.models.factory import at_temperature
from msgrpo_cli.models.generation import Sampling
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.rollout.trained_prompts import TrainedPrompts
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.episodes import episode_to_json
from msgrpo_cli.runs.metrics import read_rows

from .evaluator import Evaluator, Played

KEPT = 50
"""Episodes that the other evaluations keep: their first ones, which are the same starts each time."""


def cut_former_episodes(run: Run, split: str) -> None:
    """After an evaluation during training: cut what was the best or the last until now and no longer is.

    Decided by the rows alone, which a resume has cut back to its checkpoint; so a resumed run ends with the same files.
    The evaluations of base and best checkpoint that end a run, and those of `msgrpo eval`, have other names and stay.
    """
    rows = [row for row in read_rows(run.metrics) if _is_of_the_series(row, split)]
    for update in _in_full(rows[:-1]) - _in_full(rows):
        file = run.evaluations / f"{split}-{update}.episodes.jsonl"
        if not file.is_file():
            continue
        with file.open(encoding="utf-8") as lines:
            first = list(itertools.islice(lines, KEPT))
        write_text(file, "".join(first))


def _is_of_the_series(row: dict[str, Any], split: str) -> bool:
    return row["kind"] == "eval" and row["split"] == split and row["checkpoint"] is None


def _in_full(rows: Sequence[dict[str, Any]]) -> set[int]:
    """The updates of the first, the best (the later of equals) and the last evaluation."""
    if not rows:
        return set()
    best = max(rows, key=lambda row: (row["mean_total_reward"], row["update"]))
    return {row["update"] for row in (rows[0], best, rows[-1])}


def evaluate_policy(
    evaluator: Evaluator,
    policy: LanguageAgentPolicy,
    temperature: float | None,
    *,
    training_sampling: Sampling | None,
    checkpoint: str | None = None,
    base_episodes: Sequence[Episode] | None = None,
    trained: TrainedPrompts | None = None,
) -> Played:
    """Score a policy, sampled (None: at its training temperature) and greedily, on the same starts.

    `trained`: what it was trained on, where that is known.
    """
    with policy.unchanged():  # what is said to a text does not depend on the temperature
        sampled = at_temperature(policy, temperature)
        return evaluator.evaluate(
            "model",
            sampled,
            greedy_policy=at_temperature(policy, 0.0),
            checkpoint=checkpoint,
            base_episodes=base_episodes,
            sampling=sampled.sampling.to_json(),
            training_sampling=training_sampling.to_json() if training_sampling else None,
            trained=trained,
        )


def evaluation_row(played: Played, update: int, global_step: int) -> dict[str, Any]:
    """An evaluation as a row of metrics.jsonl; what was measured by the clock stands under `perf/`."""
    fields = played.evaluation.to_json()
    seconds = fields.pop("wall_seconds")
    del fields["usage"], fields["overridden"]  # of `msgrpo eval` alone
    return {"kind": "eval", "update": update, "global_step": global_step, **fields, "perf/wall_seconds": seconds}


def record_evaluation(run: Run, played: Played, update: int | None, name: str) -> None:
    """Store an evaluation and its episodes under the run's `eval/`."""
    split = played.evaluation.split
    lines = [episode_to_json(episode, kind="eval", update=update, split=split) for episode in played.episodes]
    write_lines(run.evaluations / f"{name}.episodes.jsonl", lines)
    write_json(run.evaluations / f"{name}.json", played.evaluation.to_json())  # last: it says that both are there
