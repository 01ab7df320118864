"""What is done in the course of one run: score the base, train, save what an interruption left, score the best.

Knows the parts of a run and in which order they work. Knows nothing about how they are made (`assembly`), about locks,
or how a run begins and ends (`train`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from msgrpo_cli.analysis.curve import draw_curve
from msgrpo_cli.common.jsonl import append_lines
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import Interrupted, RunError
from msgrpo_cli.evaluation.evaluator import Evaluator, Played
from msgrpo_cli.evaluation.ladder import render
from msgrpo_cli.evaluation.record import evaluate_policy, evaluation_row, record_evaluation
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.rollout.collect import PlayedUpdate
from msgrpo_cli.runs import checkpoint
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.episodes import read_episodes
from msgrpo_cli.runs.resume import ResumePoint, scored_with
from msgrpo_cli.runs.trained_prompts import trained_before, trained_prompts

from .display import Display
from .failures import Limit
from .parallel.following import GiveBack, Save, Train
from .parallel.ranks import ALONE, Ranks
from .recorder import Recorder
from .trainer import MSGRPOTrainer

PlayUpdate = Callable[..., PlayedUpdate]
"""Plays one update: takes what `rollout.collect.play_update` takes."""


@dataclass(frozen=True)
class Session:
    """The parts of one run, connected by `assembly.connected`."""

    config: RunConfig
    run: Run
    display: Display
    policy: LanguageAgentPolicy
    tokenizer: PreTrainedTokenizerBase
    trainer: MSGRPOTrainer
    recorder: Recorder
    validation: Evaluator
    final: Evaluator
    """Of the base and of the best checkpoint, whose scores end the run."""
    stored_policy: Callable[[Path], LanguageAgentPolicy]
    """The policy of a checkpoint, as read back from disk."""
    ranks: Ranks = ALONE

    def evaluate_base(self, *, again: bool) -> None:
        """Score the untrained weights: on validation for the curve, on the final part for the ladder.

        `again`: a run goes on whose row of update 0 is there, but whose base was scored on other starts, or lost.
        """
        if not again:
            self.recorder.evaluate(0, self.policy, 0, self.trainer.log)
        played = self._final_score(self.policy, trained=trained_before(self.config))
        self.run.update_record(base_scored_with=None)  # while it is written nobody knows
        record_evaluation(self.run, played, 0, "base")
        self.run.update_record(base_scored_with=scored_with(self.config))

    def evaluate_pending(self, point: ResumePoint) -> None:
        """Make up for an evaluation on validation that the end of the process came before."""
        assert point.checkpoint is not None
        steps = point.update * self.trainer.args.steps_per_update
        policy = self.stored_policy(point.checkpoint)
        self.recorder.make_up(point.checkpoint, point.update, policy, steps, self.trainer.log)

    def train(self, point: ResumePoint) -> None:
        """Train to the end; where the process is asked to end before, save the last finished update."""
        begins_at = str(point.checkpoint) if point.checkpoint else None
        try:
            self.ranks.tell(Train(begins_at))
            self.trainer.train(resume_from_checkpoint=begins_at)
        except Interrupted:
            if self.recorder.recorded and not checkpoint.has(self.run, self.trainer.update):
                self.recorder.interim = True
                self.ranks.tell(Save())
                self.trainer.save_finished_update()
            raise

    def finish(self) -> dict[str, Any]:
        """Score the best checkpoint, read back from disk, on the final part, and draw the curve; returns that score."""
        best = checkpoint.best(self.run)
        if best is None:
            raise RunError(f"{self.run.path}: the run left no checkpoint")
        self.display.phase("evaluation")
        update, base = checkpoint.update_of(best), read_episodes(self.run.evaluations / "base.episodes.jsonl")
        self.ranks.tell(GiveBack())
        self.trainer.give_back()  # nothing is played or trained with it any more
        name, trained = str(best.relative_to(self.run.path)), trained_prompts(best, self.config.prompt)
        played = self._final_score(self.stored_policy(best), checkpoint=name, base_episodes=base, trained=trained)
        record_evaluation(self.run, played, update, "best")
        row = evaluation_row(played, update, update * self.trainer.args.steps_per_update)
        append_lines(self.run.metrics, [row])
        self.recorder.write_card(best, update, played.evaluation.to_json())
        self.display.evaluated(update, played.evaluation.split, row, "best checkpoint")
        self._draw_curve()
        summary = {**self.run.record()["summary"], "best": row}
        self.run.update_record(summary=summary, stopped=self.recorder.stopping.reason)  # last: all else is there
        self.display.show(render([played.evaluation], [self.final.references(base)]))
        return row

    def limits(self) -> dict[str, Limit]:
        """The key that bounds the memory of each phase, with what is really in use of it."""
        algo, live = self.config.algo, self.config.rollout.max_live_episodes
        rows = ("trainer.per_device_train_batch_size", self.trainer.largest_micro_batch)
        return {
            "rollout": ("rollout.max_live_episodes", min(live, algo.groups_per_update * algo.group_size)),
            "evaluation": ("rollout.max_live_episodes", min(live, self.config.eval.episodes)),
            "scoring": rows,
            "update": rows,
        }

    def text_of(self, token_ids: tuple[int, ...]) -> str:
        """The text of token ids, special tokens included."""
        return str(self.tokenizer.decode(list(token_ids)))

    def _final_score(self, policy: LanguageAgentPolicy, **told: Any) -> Played:
        temperature = self.config.eval.temperature
        return evaluate_policy(self.final, policy, temperature, training_sampling=policy.sampling, **told)

    def _draw_curve(self) -> None:
        random = self.validation.references().get("random")
        draw_curve(
            self.run.metrics,
            self.run.curve,
            random.mean_total_reward if random else None,
            self.validation.optimal_score,
            random_success=random.success_rate if random else None,
            best="optimal" if self.validation.exact_score is not None else "best known",
            title=f"{self.config.model.name} on {self.config.env.name}",
        )
