"""What happens at the end of every update: metrics, episodes, evaluation, checkpoint.

Knows the run directory, the evaluator, and what decides that a run stops or saves. Knows nothing about losses, Hydra or
how to play.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgrpo_cli.common.files import sync, write_text
from msgrpo_cli.common.jsonl import append_lines
from msgrpo_cli.common.lock import is_there
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.config.schema_prompt import PromptConfig
from msgrpo_cli.errors import RunError
from msgrpo_cli.evaluation.evaluator import Evaluator, Played
from msgrpo_cli.evaluation.record import cut_former_episodes, evaluate_policy, evaluation_row, record_evaluation
from msgrpo_cli.models.adapters import name_base
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.rollout.collect import PlayedUpdate
from msgrpo_cli.rollout.trained_prompts import TrainedPrompts
from msgrpo_cli.runs import checkpoint
from msgrpo_cli.runs.checkpoint import base_of
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.episodes import TrainedPair, episode_to_json, table_to_json
from msgrpo_cli.runs.model_card import ModelCards
from msgrpo_cli.runs.pretrained import local_path
from msgrpo_cli.runs.trained_prompts import write_trained_prompts

from .curriculum import Curriculum
from .display import Display
from .end_of_update import AfterUpdate, FinishedUpdate
from .stopping import Stopping

Log = Callable[[dict[str, Any]], None]
_SHOWN = 200  # characters of an answer
_SILENT = 10  # updates without signal in a row, after which a warning is due


@dataclass
class Recorder:
    """Writes what a run leaves behind. One per run."""

    config: RunConfig
    run: Run
    policy: LanguageAgentPolicy
    validation: Evaluator
    display: Display
    stopping: Stopping
    curriculum: Curriculum
    cards: ModelCards
    trained: TrainedPrompts | None
    """What the present weights were trained on; None where that is not known of the model that the run began with."""
    score: dict[str, Any] | None = None
    """Evaluation of the present weights on validation, where they were evaluated."""
    recorded: int = 0
    """The last update whose rows were written by this process."""
    interim: bool = False
    """The run was asked to end: a checkpoint taken now is not one of its regular ones."""
    skipped_in_a_row: int = 0
    withheld_in_a_row: int = 0
    invalid_in_a_row: int = 0

    def after_update(self, finished: FinishedUpdate) -> AfterUpdate:
        """Record a finished update, evaluate where that is due, and say whether the run saves or stops now."""
        update = int(finished.metrics["update"])
        self._record_update(finished)
        self.recorded = update
        self.score = None
        if self.config.evaluation_due(update):
            played = self.evaluate(update, self.policy, finished.global_step, finished.log)
            self.score = played.evaluation.to_json()
            self.stopping.after_evaluation(self.score, update)
        stop = self.stopping.reason is not None
        if stop:
            self.display.say(f"stopped after update {update}: {self.stopping.reason}")
        return AfterUpdate(save=self._is_due(update), stop=stop)

    def _is_due(self, update: int) -> bool:
        """Whether the run keeps a checkpoint of this update, whose score is known if it was to be evaluated."""
        last = update == self.config.max_updates or self.stopping.reason is not None
        return last or update % self.config.save.every == 0 or (self.config.save.keep_best and self._is_best())

    def evaluate(self, update: int, policy: LanguageAgentPolicy, global_step: int, log: Log) -> Played:
        """Score the weights after `update` on the validation part and record it; `log` takes it to the trackers."""
        self.display.phase("evaluation")
        temperature, sampling = self.config.eval.temperature, policy.sampling
        played = evaluate_policy(self.validation, policy, temperature, training_sampling=sampling, trained=self.trained)
        record_evaluation(self.run, played, update, name=f"{played.evaluation.split}-{update}")
        row = evaluation_row(played, update, global_step)
        append_lines(self.run.metrics, [row])
        cut_former_episodes(self.run, played.evaluation.split)
        log({f"eval_{key}": value for key, value in row.items() if isinstance(value, (int, float))})
        self.run.update_record(summary={**self.run.record()["summary"], "last": row})
        self.display.evaluated(update, played.evaluation.split, row)
        return played

    def on_checkpoint(self, partial: Path, update: int) -> None:
        """Complete what TRL wrote aside, and drop checkpoints that are no longer kept."""
        metadata = checkpoint.metadata_of(self.config, self.run, update, self.score, interim=self.interim)
        for rows in (self.run.metrics, self.run.episodes):
            sync(rows)  # a checkpoint never lies on a disk that its rows have not reached
        if self.config.lora.enabled:
            base = base_of(self.run.checkpoints / partial.name, metadata)  # where it will lie
            name_base(partial, local_path(base.path), base.revision)
        write_trained_prompts(partial, self.trained)
        checkpoint.publish(partial, self.run, update, metadata, self.cards.of(update, self.score))
        checkpoint.rotate(self.run, self.config.save.keep_last, self.config.save.keep_best)

    def make_up(self, path: Path, update: int, policy: LanguageAgentPolicy, global_step: int, log: Log) -> None:
        """Make up for an evaluation that the end of a process came before; then the checkpoint is what it would be."""
        self.score = self.evaluate(update, policy, global_step, log).evaluation.to_json()
        self.stopping.after_evaluation(self.score, update)
        interim = not self._is_due(update)
        checkpoint.set_score(path, self.score, self.cards.of(update, self.score), interim=interim)
        checkpoint.rotate(self.run, self.config.save.keep_last, self.config.save.keep_best)

    def write_card(self, path: Path, update: int, evaluation: dict[str, Any]) -> None:
        """Renew the card of a checkpoint once its final evaluation is known."""
        write_text(path / "README.md", self.cards.of(update, evaluation))

    def _record_update(self, finished: FinishedUpdate) -> None:
        played, metrics = finished.played, finished.metrics
        lines = _lines(played)
        if not is_there(self.run.path):
            raise RunError(f"{self.run.path}: removed")
        if self.curriculum.values:
            metrics["curriculum_value"] = self.curriculum.value
        if self.trained is not None and metrics["withheld_steps"] < finished.optimizer_steps and not metrics["skipped"]:
            self.trained.add(episode for episode, _ in played.trained)
        append_lines(self.run.episodes, lines)
        append_lines(self.run.metrics, [metrics])
        finished.log({key: value for key, value in metrics.items() if isinstance(value, (int, float))})
        self.display.update(metrics)
        self._warn_of_withheld(metrics, finished.optimizer_steps)
        self._warn_of_silence(metrics)
        self._warn_of_invalid(played)
        if (news := self.curriculum.after_update(metrics)) is not None:
            self.display.say(news)
        collapse = self.stopping.after_update(metrics)
        if collapse is not None and self.stopping.reason is None:  # else the reason says it
            self.display.say(f"warning: the run has collapsed: {collapse}")

    def _warn_of_withheld(self, metrics: dict[str, Any], optimizer_steps: int) -> None:
        """Ten updates of which every step was withheld: the guard keeps the run from learning."""
        if metrics["skipped"]:  # it changed nothing either, but says nothing about the guard
            return
        withheld = metrics["withheld_steps"] == optimizer_steps
        self.withheld_in_a_row = self.withheld_in_a_row + 1 if withheld else 0
        if withheld and self.withheld_in_a_row == _SILENT:
            guard = self.config.guard
            self.display.say(
                f"warning: {_SILENT} updates in a row changed nothing: guard.grad_norm={guard.grad_norm} or "
                f"guard.log_ratio={guard.log_ratio} withheld every optimizer step (grad_norm "
                f"{metrics['grad_norm']:.2g}, log_ratio_max {metrics['log_ratio_max']:.2g}); raise the guard"
            )

    def _warn_of_silence(self, metrics: dict[str, Any]) -> None:
        """Ten updates without any difference within a group: nothing is being learnt, and somebody should know."""
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if metrics["skipped"] else 0
        if self.skipped_in_a_row == _SILENT:
            self.display.say(
                f"warning: {_SILENT} updates in a row gave no signal: in every group all rewards are equal. The game "
                "is too hard or too easy for this model, or its temperature too low"
            )

    def _warn_of_invalid(self, played: PlayedUpdate) -> None:
        """The first update in which no answer was read as an action, and ten: whoever sees some knows at once why."""
        steps = [step for episode in played.episodes for step in episode.steps]
        self.invalid_in_a_row = (
            0 if any(step.completion.action is not None for step in steps) else self.invalid_in_a_row + 1
        )
        answers = ", ".join(repr(step.completion.text[:_SHOWN]) for step in steps[:: max(1, len(steps) // 3)][:3])
        if self.invalid_in_a_row == played.update == 1:
            self.display.say(
                "warning: no answer of the first update is a valid action, so that nothing can be learnt; some "
                f"answers: {answers}. {_remedies(self.config.prompt)}"
            )
        if self.invalid_in_a_row == _SILENT:
            self.display.say(f"warning: {_SILENT} updates in a row without one valid action; some answers: {answers}")

    def _is_best(self) -> bool:
        """Whether the present weights play better than every kept checkpoint; of those `checkpoint.best` takes one."""
        if self.score is None:
            return False
        known = [checkpoint.score_of(path) for path in checkpoint.checkpoints(self.run)]
        return float(self.score["mean_total_reward"]) > max((x for x in known if x is not None), default=-1e300)


def _lines(played: PlayedUpdate) -> list[dict[str, Any]]:
    """One for every episode; of several players with what training made of each of its pairs."""
    of_each = list(zip(played.episodes, played.advantage_E, played.advantages, played.draw.drawn_E, strict=True))
    if not played.of_several:
        return [
            episode_to_json(
                episode,
                kind="train",
                update=played.update,
                split="train",
                advantage=float(advantage),
                step_advantages=advantage_T.tolist(),
                drawn=bool(drawn),
            )
            for episode, advantage, advantage_T, drawn in of_each
        ]
    trained: dict[tuple[int, int], list[TrainedPair]] = {}
    for pair, advantage, advantage_T, drawn in of_each:
        found = TrainedPair(pair.seat or 0, float(advantage), advantage_T.tolist(), bool(drawn))
        trained.setdefault((pair.start.group, pair.start.member), []).append(found)
    return [
        table_to_json(
            episode,
            kind="train",
            update=played.update,
            split="train",
            trained=trained.get((episode.start.group, episode.start.member), ()),
        )
        for episode in played.of_several
    ]


def _remedies(prompt: PromptConfig) -> str:
    """What lets a model begin that does not answer in the form that is asked for."""
    more = [
        *(["show it how (prompt.examples=4)"] if not prompt.examples else []),
        *(["begin its answers (prompt.answer_prefix='<action>')"] if prompt.answer_prefix is None else []),
    ]
    return f"To let the model begin, {' and '.join(more)}" if more else "Show it more examples, or take another model"
