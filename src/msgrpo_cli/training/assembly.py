"""From a config to the parts of one run, connected: model, policy, games, evaluators, recorder, trainer.

Knows every part and what it is made of. Knows nothing about what is done with them: `session` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, ProgressCallback

from msgrpo_cli.common.files import write_text
from msgrpo_cli.config.engines import trainer_settings
from msgrpo_cli.config.prompt import with_example_turns
from msgrpo_cli.config.saved import config_hash, saved_text
from msgrpo_cli.config.schema import EnvConfig, RunConfig, stage_names, stages
from msgrpo_cli.errors import RunError
from msgrpo_cli.evaluation.parts import evaluator_of
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.models.adapters import policy_of
from msgrpo_cli.models.conversation import Conversation
from msgrpo_cli.models.factory import game_factory, language_agent, load_policy, play_rules
from msgrpo_cli.models.generation import Generator
from msgrpo_cli.models.loading import initial_model
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.models.precision import autocast_dtype, device_for, precision_name
from msgrpo_cli.rollout.collect import PlayedUpdate, play_update
from msgrpo_cli.rollout.play import Policy
from msgrpo_cli.rollout.players import ExactPlayer
from msgrpo_cli.rollout.seating import SeatedPolicy
from msgrpo_cli.rollout.trained_prompts import TrainedPrompts
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.model_card import ModelCards

from .curriculum import Curriculum
from .display import Display
from .end_of_update import AfterUpdate, FinishedUpdate
from .generators import make_generator
from .parallel.following import Follower, Leader
from .parallel.ranks import ALONE, Ranks
from .parallel.shares import shared_play
from .pool import CheckpointPool
from .recorder import Recorder
from .reference import kl_reference
from .session import PlayUpdate, Session
from .settings import MSGRPOConfig, bound_logprob_gap, refusing, training_arguments, update_rules
from .sharded_trainer import ShardedTrainer
from .stopping import Stopping
from .trainer import MSGRPOTrainer
from .trial import try_saving


@dataclass
class _Loaded:
    """What every rank of a run has."""

    config: RunConfig
    run: Run
    arguments: MSGRPOConfig
    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    policy: LanguageAgentPolicy
    reference: PreTrainedModel | None
    generator: Generator
    ranks: Ranks
    pool: CheckpointPool = field(init=False)
    trainer: MSGRPOTrainer = field(init=False)

    def __post_init__(self) -> None:
        parts = (self.config, self.run, self.model, self.tokenizer, self.stored_policy, self.ranks)
        self.pool = CheckpointPool(*parts)

    def stored_policy(self, path: Path) -> LanguageAgentPolicy:
        """The policy of a checkpoint, as read back from disk."""
        merge = bool(trainer_settings(self.config.engine.name).get("use_vllm"))  # vLLM knows no adapters
        return load_policy(self.config, path, generator=self.generator, tokenizer=self.tokenizer, merge=merge)


def connected(
    config: RunConfig,
    run: Run,
    display: Display,
    stopping: Stopping,
    curriculum: Curriculum,
    trained: TrainedPrompts | None,
    play: PlayUpdate = play_update,
    ranks: Ranks = ALONE,
) -> Session:
    """All parts of one run, on the first of its ranks.

    `trained`: what its weights were trained on until now, where that is known. `play` plays an update; it takes what
    `rollout.collect.play_update` takes.
    """
    loaded = _loaded(config, run, display, ranks)
    config, policy, leader = loaded.config, loaded.policy, Leader(ranks)
    told, player = _telling(display, "evaluation"), loaded.pool.player
    validation = evaluator_of(config, "validation", told, leader.evaluating(), player)
    recorder = Recorder(
        config, run, policy, validation, display, stopping, curriculum, ModelCards(config, run), trained
    )
    on_update = leader.updating(recorder.after_update, curriculum)
    _connect_trainer(loaded, display, curriculum, play, ranks, recorder.on_checkpoint, on_update)
    return Session(
        config,
        run,
        display,
        policy,
        loaded.tokenizer,
        loaded.trainer,
        recorder,
        validation,
        final=evaluator_of(config, "test", told, leader.evaluating(), player),
        stored_policy=leader.remembering(loaded.stored_policy),
        ranks=ranks,
    )


def following(config: RunConfig, run: Run, display: Display, stage: int, ranks: Ranks) -> Follower:
    """The parts that another rank has; `stage` of the curriculum is where the run begins or goes on."""
    loaded = _loaded(config, run, display, ranks)
    config, curriculum = loaded.config, Curriculum(loaded.config.curriculum, stage)
    follower = Follower(
        ranks,
        loaded.policy,
        loaded.stored_policy,
        game_factory(config.env, evaluation=True),
        play_rules(config, evaluation=True),
        ExactPlayer(),
        loaded.pool.player,
        curriculum,
        _telling(display, "evaluation"),
    )
    _connect_trainer(
        loaded, display, curriculum, play_update, ranks, lambda partial, update: None, follower.after_update
    )
    follower.trainer = loaded.trainer
    return follower


def _loaded(config: RunConfig, run: Run, display: Display, ranks: Ranks) -> _Loaded:
    device = device_for(config.trainer)
    arguments = training_arguments(config, run, device)
    display.phase("loading")
    display.say(f"loading {config.model.path} ({config.model.init})")
    model, tokenizer = ranks.after_first(lambda: initial_model(config, run))
    model.to(device)  # type: ignore[arg-type]
    if not ranks.alone:
        ranks.beat.follow(policy_of(model))
    _say_precision(config, run, model, display, ranks)
    bound_logprob_gap(arguments, config, policy_of(model))
    if config.engine.note:
        display.say(config.engine.note)
    generator = make_generator(config, lambda: loaded.trainer)  # vLLM starts at the first answer: it is there then
    if (set_right := ranks.told(partial(try_saving, model, tokenizer, config.model.path))) is not None:
        display.say(set_right)
    policy = language_agent(config, policy_of(model), tokenizer, generator)
    config = ranks.told(partial(_kept_with_the_run, config, run, policy.conversation))
    for note in policy.conversation.notes:
        display.say(note)
    if unknown := policy.unknown_words(make_game(config.env), config.prompt.observation):
        display.say(
            f"warning: {unknown} tokens of a prompt stand for words that {config.model.name} does not know, so it "
            f"does not see them: msgrpo env show {config.env.name}"
        )
    reference = None
    if arguments.beta and isinstance(model, PreTrainedModel):
        reference = ranks.after_first(partial(kl_reference, config, run, model, tokenizer, display))
    for env, name in zip(*_stages(config), strict=True):
        game = game_factory(env, evaluation=False)()
        policy.check(game, config.prompt.observation, config.prompt.history, name)
    loaded = _Loaded(config, run, arguments, model, tokenizer, policy, reference, generator, ranks)
    return loaded


def _stages(config: RunConfig) -> tuple[list[EnvConfig], list[str]]:
    return stages(config.env, config.curriculum), stage_names(config.env, config.curriculum)


def _connect_trainer(
    loaded: _Loaded,
    display: Display,
    curriculum: Curriculum,
    play: PlayUpdate,
    ranks: Ranks,
    on_checkpoint: Callable[[Path, int], None],
    on_update: Callable[[FinishedUpdate], AfterUpdate],
) -> None:
    config = loaded.config
    shared = {} if ranks.alone and config.parallel.name != "fsdp" else {"play": shared_play(ranks)}
    games = [game_factory(env, evaluation=False) for env in _stages(config)[0]]
    rules, rules_of_play, judge = update_rules(config), play_rules(config, evaluation=False), ExactPlayer()
    pool = loaded.pool
    seats = rules.seating

    def played(update: int) -> PlayedUpdate:
        make, telling = games[curriculum.stage], _telling(display, "rollout")
        policy: Policy = SeatedPolicy(loaded.policy, pool.player) if seats else loaded.policy
        here = rules
        if seats and config.selfplay.pooled:
            here = replace(rules, seating=replace(seats, pool=pool.before(update)))
        return play(update, here, make, policy, rules_of_play, judge, telling, **shared)

    with refusing():
        trainer = (ShardedTrainer if config.parallel.name == "fsdp" else MSGRPOTrainer)(
            loaded.model,
            loaded.arguments,
            loaded.tokenizer,
            played,
            on_checkpoint,
            loaded.reference,
            on_update=on_update,
            on_phase=display.phase,
            ranks=ranks,
        )
        trainer.try_optimizer()
    _check_precision_runs(trainer, autocast_dtype(config.trainer, device_for(config.trainer)))
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    loaded.trainer = trainer


def _kept_with_the_run(config: RunConfig, run: Run, conversation: Conversation) -> RunConfig:
    """The config with the day that its prompts print and their worked turns, so that the same are read ever after."""
    whole = with_example_turns(config)
    if conversation.reads_the_clock and config.prompt.date is None:
        whole = whole.model_copy(update={"prompt": whole.prompt.model_copy(update={"date": conversation.date})})
    if whole is not config:
        write_text(run.config, saved_text(whole))
        run.update_record(config_hash=config_hash(whole))
    return whole


def _telling(display: Display, phase: str) -> Callable[[int, int], None]:
    return lambda finished, total: display.phase(phase, finished, total)


def _say_precision(
    config: RunConfig, run: Run, model: PreTrainedModel | PeftModel, display: Display, ranks: Ranks
) -> None:
    """What the run computes in, said and recorded: it depends on the machine as well as on the config."""
    device = device_for(config.trainer)
    weights: torch.dtype = policy_of(model).dtype
    name = precision_name(autocast_dtype(config.trainer, device), weights)
    stored = config.lora.quantization or precision_name(None, weights)
    count = model.num_parameters
    text = (
        f"computing in {name} on {device}, weights in {stored}; "
        f"{count(only_trainable=True):_} of {count():_} parameters are trained"
    )
    display.say(text.replace("_", " "))
    ranks.told(lambda: run.update_record(precision=name))


def _check_precision_runs(trainer: MSGRPOTrainer, recorded: torch.dtype | None) -> None:
    """What is recorded is what runs: whoever else may have a say in accelerate's precision."""
    running = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}.get(trainer.accelerator.mixed_precision, "?")
    if running is not recorded:
        raise RunError(
            f"accelerate computes in {trainer.accelerator.mixed_precision}, where {recorded} was chosen: another "
            "Accelerator of this process decided so; start a new process"
        )
