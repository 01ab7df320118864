"""The parts of one training run, connected: model, games, trainer, recorder, evaluations, final score.

Knows every part and how they fit. Knows nothing about locks, or how a run begins and ends: `train`.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PrinterCallback, ProgressCallback

from msgrpo_cli.analysis.curve import draw_curve
from msgrpo_cli.common.files import whole_directory
from msgrpo_cli.common.jsonl import append_lines
from msgrpo_cli.config.engines import trainer_settings
from msgrpo_cli.config.schema import RunConfig, stages
from msgrpo_cli.errors import Interrupted, RunError
from msgrpo_cli.evaluation.evaluator import Evaluator
from msgrpo_cli.evaluation.ladder import render
from msgrpo_cli.evaluation.record import evaluate_policy, evaluation_row, record_evaluation
from msgrpo_cli.evaluation.scores import score
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.models.adapters import policy_of
from msgrpo_cli.models.factory import game_factory, language_agent, play_rules
from msgrpo_cli.models.loading import initial_model, load_model
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.models.precision import autocast_dtype, device_for, precision_name
from msgrpo_cli.rollout.collect import PlayedUpdate, play_update
from msgrpo_cli.rollout.players import ExactPlayer
from msgrpo_cli.rollout.split import Split
from msgrpo_cli.runs import checkpoint
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.episodes import read_episodes
from msgrpo_cli.runs.resume import ResumePoint, scored_with

from .curriculum import Curriculum
from .failures import Limit
from .generators import make_generator
from .recorder import Recorder
from .settings import bound_logprob_gap, refusing, training_arguments, update_rules
from .stopping import Stopping
from .supervision import Supervision
from .trainer import MSGRPOTrainer


class Session:
    """The parts of one run, connected."""

    def __init__(
        self, config: RunConfig, run: Run, supervision: Supervision, stopping: Stopping, curriculum: Curriculum
    ) -> None:
        self.config, self.run, self.display = config, run, supervision.display
        display = self.display
        device = device_for(config.trainer)
        arguments = training_arguments(config, run, device)
        display.phase("loading")
        display.say(f"loading {config.model.path} ({config.model.init})")
        self.model, self.tokenizer = initial_model(config, run)
        self.model.to(device)  # type: ignore[arg-type]
        self._say_precision(device)
        bound_logprob_gap(arguments, config, policy_of(self.model))
        if config.engine.note:
            display.say(config.engine.note)
        self._generator = make_generator(config, lambda: self.trainer)
        self.policy = self._policy(policy_of(self.model))
        if unknown := self.policy.unknown_words(make_game(config.env), config.prompt.observation):
            display.say(
                f"warning: {unknown} tokens of a prompt stand for words that {config.model.name} does not know, so it "
                f"does not see them: msgrpo env show {config.env.name}"
            )
        reference = self._reference() if arguments.beta and not config.lora.enabled else None
        self.validation = self._evaluator(config.eval.split or "validation")
        self.recorder = Recorder(config, run, self.policy, self.validation, display, stopping, curriculum)
        with refusing():
            self.trainer = MSGRPOTrainer(
                self.model,
                arguments,
                self.tokenizer,
                self._play,
                self.recorder.on_checkpoint,
                reference,
                [self.recorder],
                on_phase=display.phase,
            )
            self.trainer.try_optimizer()
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.remove_callback(ProgressCallback)
        self.recorder.trainer = self.trainer
        self._curriculum = curriculum
        self._games = [game_factory(env, evaluation=False) for env in stages(config.env, config.curriculum)]
        for make in self._games:
            self.policy.check(make(), config.prompt.observation, config.prompt.history)
        self._rules = play_rules(config, evaluation=False)
        self._update_rules = update_rules(config)
        self._judge = ExactPlayer()

    def _say_precision(self, device: torch.device) -> None:
        """What the run computes in, said and recorded: it depends on the machine as well as on the config."""
        weights = policy_of(self.model).dtype
        name = precision_name(autocast_dtype(self.config.trainer, device), weights)
        stored = self.config.lora.quantization or precision_name(None, weights)
        count = self.model.num_parameters
        text = (
            f"computing in {name} on {device}, weights in {stored}; "
            f"{count(only_trainable=True):_} of {count():_} parameters are trained"
        )
        self.display.say(text.replace("_", " "))
        self.run.update_record(precision=name)

    def evaluate_base(self, *, again: bool) -> None:
        """Score the untrained weights: on validation for the curve, on the test part for the ladder.

        `again`: a run goes on whose row of update 0 is there, but whose base was scored on other starts, or lost.
        """
        if not again:
            self.recorder.evaluate(0, self.policy, 0)
        temperature, sampling = self.config.eval.temperature, self.policy.sampling
        played = evaluate_policy(self._final_evaluator(), self.policy, temperature, training_sampling=sampling)
        self.run.update_record(base_scored_with=None)  # while it is written nobody knows
        record_evaluation(self.run, played, 0, "base")
        self.run.update_record(base_scored_with=scored_with(self.config))

    def evaluate_pending(self, point: ResumePoint) -> None:
        """Make up for an evaluation on validation that the end of the process came before."""
        assert point.checkpoint is not None
        steps = point.update * self.trainer.args.steps_per_update
        self.recorder.make_up(point.checkpoint, point.update, self._stored_policy(point.checkpoint), steps)

    def train(self, point: ResumePoint) -> None:
        """Train to the end; where the process is asked to end before, save the last finished update."""
        try:
            self.trainer.train(resume_from_checkpoint=str(point.checkpoint) if point.checkpoint else None)
        except Interrupted:
            if self.recorder.recorded and not checkpoint.has(self.run, self.trainer.update):
                self.recorder.interim = True
                self.trainer.save_finished_update()
            raise

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

    def finish(self) -> dict[str, Any]:
        """Score the best checkpoint, read back from disk, on the test part, and draw the curve; returns that score."""
        best = checkpoint.best(self.run)
        if best is None:
            raise RunError(f"{self.run.path}: the run left no checkpoint")
        self.display.phase("evaluation")
        policy = self._stored_policy(best)
        evaluator = self._final_evaluator()
        base = read_episodes(self.run.evaluations / "base.episodes.jsonl")
        played = evaluate_policy(
            evaluator,
            policy,
            self.config.eval.temperature,
            training_sampling=policy.sampling,
            checkpoint=str(best.relative_to(self.run.path)),
            base_episodes=base,
        )
        update = checkpoint.update_of(best)
        record_evaluation(self.run, played, update, "best")
        row = evaluation_row(played, update, update * self.trainer.args.steps_per_update)
        append_lines(self.run.metrics, [row])
        self.recorder.write_card(best, update, played.evaluation.to_json())
        self.display.evaluated(update, f"{played.evaluation.split}, best checkpoint", row)
        random = score(self.validation.random_episodes)
        draw_curve(
            self.run.metrics,
            self.run.curve,
            random.mean_total_reward,
            self.validation.optimal_score,
            random_success=random.success_rate,
            best="optimal" if self.validation.exact_score is not None else "best known",
            title=f"{self.config.model.name} on {self.config.env.name}",
        )
        summary = {**self.run.record()["summary"], "best": row}
        self.run.update_record(summary=summary, stopped=self.recorder.stopping.reason)  # last: all else is there
        references = {"random": score(evaluator.random_episodes), "base": score(base)}
        self.display.show(render([played.evaluation], [references]))
        return row

    def _play(self, update: int) -> PlayedUpdate:
        return play_update(
            update,
            self._update_rules,
            self._games[self._curriculum.stage],
            self.policy,
            self._rules,
            self._judge,
            lambda finished, total: self.display.phase("rollout", finished, total),
        )

    def _stored_policy(self, stored: Path) -> LanguageAgentPolicy:
        """The policy of a checkpoint, as read back from disk."""
        config = self.config.model.model_copy(update={"path": str(stored), "init": "pretrained", "revision": None})
        merge = bool(trainer_settings(self.config.engine.name).get("use_vllm"))  # vLLM knows no adapters
        model, _ = load_model(config, merge=merge)
        return self._policy(model.to(self.model.device))  # type: ignore[arg-type]

    def _policy(self, model: PreTrainedModel) -> LanguageAgentPolicy:
        return language_agent(self.config, model, self.tokenizer, self._generator)

    def _final_evaluator(self) -> Evaluator:
        return self._evaluator(self.config.eval.split or "test")

    def _evaluator(self, split: Split) -> Evaluator:
        return Evaluator(
            game_factory(self.config.env, evaluation=True),
            play_rules(self.config, evaluation=True),
            split=split,
            seed=self.config.eval.seed,
            episodes=self.config.eval.episodes,
            on_progress=lambda finished, total: self.display.phase("evaluation", finished, total),
        )

    def _reference(self) -> PreTrainedModel:
        """The policy at update 0, saved once, so that a resumed run has the same one; made anew where it is damaged."""
        kept = self.run.reference
        damage = checkpoint.damage(kept, thorough=True) if kept.exists() else "missing"
        if damage is None:
            stored = self.config.model.model_copy(update={"path": str(self.run.reference), "init": "pretrained"})
            loaded, _ = load_model(stored)
            loaded.to(self.model.device)  # type: ignore[arg-type]
            return loaded
        assert isinstance(self.model, PreTrainedModel)
        if kept.exists():
            self.display.say(f"warning: {damage}; made anew from the base")
        with whole_directory(kept) as folder:
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            checkpoint.describe(folder, checkpoint.metadata_of(self.config, self.run, 0, None))
        return copy.deepcopy(self.model)
