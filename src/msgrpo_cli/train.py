"""One training run, put together from a config: model, games, trainer, recorder, final scores.

Knows every part and the order in which they work. Knows nothing about Hydra or the command line.
"""

from __future__ import annotations

import copy
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PrinterCallback, ProgressCallback

from . import checkpoint
from .assembly import game_factory, language_agent, play_rules
from .config import as_yaml, config_hash
from .curve import draw_curve
from .episode_log import read_episodes
from .errors import RunError, UsageError
from .evaluator import Evaluator
from .ladder import render
from .models import device_of_this_machine, load_model, mixed_precision, quiet_libraries
from .msgrpo_config import MSGRPOConfig
from .msgrpo_trainer import MSGRPOTrainer
from .players import ExactPlayer
from .policy import LanguageAgentPolicy
from .progress import Display
from .recorder import Recorder, evaluate_policy, evaluation_row, record_evaluation
from .runs import Run, append_lines, keep_lines, write_text
from .schema import RunConfig
from .scores import score
from .split import Split
from .update import PlayedUpdate, UpdateRules, play_update


def train_job(
    config: RunConfig,
    run_dir: Path,
    *,
    command: list[str],
    overrides: list[str],
    resume: Path | None = None,
    from_checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Train, or go on training, in `run_dir`; returns what `train --json` prints.

    `run.json` ends as done, failed or interrupted, whatever happens. Raises RunError for work that failed.
    """
    began = time.perf_counter()
    run = Run(resume or run_dir)
    if from_checkpoint is not None:
        config = _from_weights(config, from_checkpoint)
    run.path.mkdir(parents=True, exist_ok=True)
    try:
        write_text(run.config, as_yaml(config))
        run.begin(
            command=command,
            overrides=overrides,
            config_hash=config_hash(config),
            device=str(device_of_this_machine()),
            threads=torch.get_num_threads(),
        )
        quiet_libraries()
        with _trackers_inside(run):
            summary = _train(config, run, resumed=resume is not None)
    except KeyboardInterrupt:
        run.finish("interrupted")
        raise
    except (RunError, UsageError, OSError, ValueError, RuntimeError, TypeError, KeyError, ArithmeticError) as error:
        run.finish("failed", f"{type(error).__name__}: {error}")
        raise
    run.finish("done")
    return {"run": str(run.path), "status": "done", **summary, "wall_seconds": time.perf_counter() - began}


@contextmanager
def _trackers_inside(run: Run) -> Iterator[None]:
    """Trackers write inside the run directory, unless the user's environment says where else."""
    folder = (run.path / "trackers").absolute()
    places = {
        "TENSORBOARD_LOGGING_DIR": f"{folder}/tensorboard",
        "TRACKIO_DIR": f"{folder}/trackio-data",  # a folder called trackio would be taken for the package
        "WANDB_DIR": str(folder),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    ours = {name: place for name, place in places.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:  # the next job of a sweep has a directory of its own
        for name in ours:
            del os.environ[name]


def _train(config: RunConfig, run: Run, *, resumed: bool) -> dict[str, Any]:
    last = checkpoint.last_whole(run) if resumed else None
    done = checkpoint.update_of(last) if last else 0
    if done >= config.max_updates and (finished := run.record()["summary"].get("best")):
        said = f"{run.path}: already at {done} of {config.max_updates} updates; a higher max_updates goes on"
        print(said, file=sys.stderr)
        return _summary(config, run, finished)
    base_scored = (run.evaluations / "base.json").exists()
    for file in (run.metrics, run.episodes):
        keep_lines(file, done if base_scored else -1)  # without it even the row of update 0 will be written again
    with Display(config.max_updates) as display:
        display.say(f"run {run.path}")
        session = _Session(config, run, display)
        shutil.rmtree(run.checkpoints / ".partial", ignore_errors=True)
        if not base_scored:
            session.evaluate_base()
        if done < config.max_updates:
            session.trainer.train(resume_from_checkpoint=str(last) if last else None)
            shutil.rmtree(run.checkpoints / ".partial", ignore_errors=True)
        return session.finish()


class _Session:
    """The parts of one run, connected."""

    def __init__(self, config: RunConfig, run: Run, display: Display) -> None:
        self.config, self.run, self.display = config, run, display
        device = device_of_this_machine()
        arguments = training_arguments(config, run, device)
        display.say(f"loading {config.model.path} ({config.model.init})")
        self.model, self.tokenizer = load_model(config.model, config.seed)
        self.model.to(device)  # type: ignore[arg-type]
        reference = self._reference() if arguments.beta else None
        self.policy = self._policy(self.model)
        self.validation = self._evaluator(config.eval.split or "validation")
        self.recorder = Recorder(config, run, self.policy, self.validation, display)
        self.trainer = MSGRPOTrainer(
            self.model, arguments, self.tokenizer, self._play, self.recorder.on_checkpoint, reference, [self.recorder]
        )
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.remove_callback(ProgressCallback)
        self.recorder.trainer = self.trainer
        self._make_game = game_factory(config.env, evaluation=False)
        self._rules = play_rules(config, evaluation=False)
        self._update_rules = update_rules(config)
        self._judge = ExactPlayer()

    def evaluate_base(self) -> None:
        """Score the untrained weights: on validation for the curve, on the test part for the ladder."""
        self.recorder.evaluate(0)
        temperature, sampling = self.config.eval.temperature, self.policy.sampling
        played = evaluate_policy(self._final_evaluator(), self.policy, temperature, training_sampling=sampling)
        record_evaluation(self.run, played, 0, "base")

    def finish(self) -> dict[str, Any]:
        """Score the best checkpoint, as read back from disk, on the test part; draw the curve."""
        best = checkpoint.best(self.run)
        if best is None:
            raise RunError(f"{self.run.path}: the run left no checkpoint")
        self.display.phase("final evaluation")
        stored = self.config.model.model_copy(update={"path": str(best), "init": "pretrained", "revision": None})
        model, _ = load_model(stored)
        policy = self._policy(model.to(self.model.device))  # type: ignore[arg-type]
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
        row = evaluation_row(played, update, self.trainer.state.global_step)
        append_lines(self.run.metrics, [row])
        self.run.update_record(summary={**self.run.record()["summary"], "best": row})
        self.recorder.write_card(best, update, played.evaluation.to_json())
        self.display.evaluated(update, f"{played.evaluation.split}, best checkpoint", row)
        random = score(self.validation.random_episodes)
        draw_curve(
            self.run.metrics,
            self.run.curve,
            random.mean_total_reward,
            self.validation.optimal_score,
            random_success=random.success_rate,
            title=f"{self.config.model.name} on {self.config.env.name}",
        )
        references = {"random": score(evaluator.random_episodes), "base": score(base)}
        self.display.show(render([played.evaluation], [references]))
        return _summary(self.config, self.run, row)

    def _play(self, update: int) -> PlayedUpdate:
        return play_update(
            update,
            self._update_rules,
            self._make_game,
            self.policy,
            self._rules,
            self._judge,
            lambda finished, total: self.display.phase("rollout", finished, total),
        )

    def _policy(self, model: PreTrainedModel) -> LanguageAgentPolicy:
        return language_agent(self.config, model, self.tokenizer)

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
        """The policy at update 0, saved once, so that a resumed run has the same one."""
        if self.run.reference.exists():
            stored = self.config.model.model_copy(update={"path": str(self.run.reference), "init": "pretrained"})
            loaded, _ = load_model(stored)
            loaded.to(self.model.device)  # type: ignore[arg-type]
            return loaded
        reference = copy.deepcopy(self.model)
        reference.save_pretrained(self.run.reference)
        self.tokenizer.save_pretrained(self.run.reference)
        return reference


def _summary(config: RunConfig, run: Run, best: Mapping[str, Any]) -> dict[str, Any]:
    """What a finished run says; `best` is the final evaluation of the best checkpoint."""
    return {
        "updates": config.max_updates,
        "checkpoint": str(checkpoint.checkpoints(run)[-1].relative_to(run.path)),
        "best_checkpoint": best["checkpoint"],
        "success_rate": best["success_rate"],
        "mean_total_reward": best["mean_total_reward"],
    }


def update_rules(config: RunConfig) -> UpdateRules:
    """What every update of the run does."""
    algo = config.algo
    return UpdateRules(
        seed=config.seed,
        groups_per_update=algo.groups_per_update,
        group_size=algo.group_size,
        scale=algo.scale,
        episode_sampling=algo.episode_sampling,  # type: ignore[arg-type]
        sample_fraction=algo.sample_fraction,
        sampling_exponent=algo.sampling_exponent,
        sampling_scope=algo.sampling_scope,
        sampling_correction=algo.sampling_correction,
    )


def training_arguments(config: RunConfig, run: Run, device: torch.device) -> MSGRPOConfig:
    """TRL's fields as the config gives them, and ours."""
    given: Mapping[str, Any] = config.trainer
    fields = {
        **given,
        "bf16": mixed_precision(given.get("bf16"), device),
        "output_dir": str(run.checkpoints / ".partial"),
        "use_cpu": device.type == "cpu",
        "seed": config.seed % 2**32,
        "temperature": config.rollout.temperature,
        "max_completion_length": config.rollout.max_new_tokens,
        "max_updates": config.max_updates,
        "optimizer_steps": config.algo.optimizer_steps,
        "length_normalization": config.algo.length_normalization,
        "run_seed": config.seed,
    }
    try:
        return MSGRPOConfig(**fields)
    except (ValueError, TypeError, ImportError, KeyError) as error:  # what TRL itself refuses
        raise UsageError(f"trainer: {str(error).splitlines()[0]}") from error


def _from_weights(config: RunConfig, source: Path) -> RunConfig:
    """The config with the weights of another run, or of one of its checkpoints, as its base."""
    found, _ = checkpoint.find_checkpoint(str(source))
    model = config.model.model_copy(update={"path": str(found.resolve()), "init": "pretrained", "revision": None})
    return config.model_copy(update={"model": model})
