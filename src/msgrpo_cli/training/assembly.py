"""From a config to the parts of one run, connected: model, policy, games, evaluators, recorder, trainer.

Knows every part and what it is made of. Knows nothing about what is done with them: `session` does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PrinterCallback, ProgressCallback

from msgrpo_cli.common.files import write_text
from msgrpo_cli.config.engines import trainer_settings
from msgrpo_cli.config.prompt import with_example_turns
from msgrpo_cli.config.saved import config_hash, saved_text
from msgrpo_cli.config.schema import RunConfig, stage_names, stages
from msgrpo_cli.errors import RunError
from msgrpo_cli.evaluation.evaluator import Evaluator
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.models.adapters import policy_of
from msgrpo_cli.models.conversation import Conversation
from msgrpo_cli.models.factory import game_factory, language_agent, load_policy, play_rules
from msgrpo_cli.models.loading import initial_model
from msgrpo_cli.models.precision import autocast_dtype, device_for, precision_name
from msgrpo_cli.rollout.collect import PlayedUpdate, play_update
from msgrpo_cli.rollout.players import ExactPlayer
from msgrpo_cli.rollout.split import Split
from msgrpo_cli.rollout.trained_prompts import TrainedPrompts
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.model_card import ModelCards

from .curriculum import Curriculum
from .display import Display
from .generators import make_generator
from .recorder import Recorder
from .reference import kl_reference
from .session import PlayUpdate, Session
from .settings import bound_logprob_gap, refusing, training_arguments, update_rules
from .stopping import Stopping
from .trainer import MSGRPOTrainer
from .trial import try_saving


def connected(
    config: RunConfig,
    run: Run,
    display: Display,
    stopping: Stopping,
    curriculum: Curriculum,
    trained: TrainedPrompts | None,
    play: PlayUpdate = play_update,
) -> Session:
    """All parts of one run.

    `trained`: what its weights were trained on until now, where that is known. `play` plays an update; it takes what
    `rollout.collect.play_update` takes.
    """
    device = device_for(config.trainer)
    arguments = training_arguments(config, run, device)
    display.phase("loading")
    display.say(f"loading {config.model.path} ({config.model.init})")
    model, tokenizer = initial_model(config, run)
    model.to(device)  # type: ignore[arg-type]
    _say_precision(config, run, model, display)
    bound_logprob_gap(arguments, config, policy_of(model))
    if config.engine.note:
        display.say(config.engine.note)
    generator = make_generator(config, lambda: trainer)  # vLLM starts at the first answer: the trainer is there then
    if (set_right := try_saving(model, tokenizer, config.model.path)) is not None:
        display.say(set_right)
    policy = language_agent(config, policy_of(model), tokenizer, generator)
    config = _kept_with_the_run(config, run, policy.conversation)
    for note in policy.conversation.notes:
        display.say(note)
    if unknown := policy.unknown_words(make_game(config.env), config.prompt.observation):
        display.say(
            f"warning: {unknown} tokens of a prompt stand for words that {config.model.name} does not know, so it "
            f"does not see them: msgrpo env show {config.env.name}"
        )
    reference = None
    if arguments.beta and isinstance(model, PreTrainedModel):
        reference = kl_reference(config, run, model, tokenizer, display)
    validation = _evaluator(config, config.eval.split or "validation", display)
    recorder = Recorder(
        config, run, policy, validation, display, stopping, curriculum, ModelCards(config, run), trained
    )
    games = [game_factory(env, evaluation=False) for env in stages(config.env, config.curriculum)]
    for make, name in zip(games, stage_names(config.env, config.curriculum), strict=True):
        policy.check(make(), config.prompt.observation, config.prompt.history, name)
    rules, rules_of_play, judge = update_rules(config), play_rules(config, evaluation=False), ExactPlayer()

    def played(update: int) -> PlayedUpdate:
        make = games[curriculum.stage]
        return play(update, rules, make, policy, rules_of_play, judge, _telling(display, "rollout"))

    with refusing():
        trainer = MSGRPOTrainer(
            model,
            arguments,
            tokenizer,
            played,
            recorder.on_checkpoint,
            reference,
            on_update=recorder.after_update,
            on_phase=display.phase,
        )
        trainer.try_optimizer()
    _check_precision_runs(trainer, autocast_dtype(config.trainer, device))
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    merge = bool(trainer_settings(config.engine.name).get("use_vllm"))  # vLLM knows no adapters
    return Session(
        config,
        run,
        display,
        policy,
        tokenizer,
        trainer,
        recorder,
        validation,
        final=_evaluator(config, config.eval.split or "test", display),
        stored_policy=lambda path: load_policy(config, path, generator=generator, tokenizer=tokenizer, merge=merge),
    )


def _kept_with_the_run(config: RunConfig, run: Run, conversation: Conversation) -> RunConfig:
    """The config with the day that its prompts print and their worked turns, so that the same are read ever after."""
    whole = with_example_turns(config)
    if conversation.reads_the_clock and config.prompt.date is None:
        whole = whole.model_copy(update={"prompt": whole.prompt.model_copy(update={"date": conversation.date})})
    if whole is not config:
        write_text(run.config, saved_text(whole))
        run.update_record(config_hash=config_hash(whole))
    return whole


def _evaluator(config: RunConfig, split: Split, display: Display) -> Evaluator:
    return Evaluator(
        game_factory(config.env, evaluation=True),
        play_rules(config, evaluation=True),
        split=split,
        seed=config.eval.seed,
        episodes=config.eval.episodes,
        on_progress=_telling(display, "evaluation"),
    )


def _telling(display: Display, phase: str) -> Callable[[int, int], None]:
    return lambda finished, total: display.phase(phase, finished, total)


def _say_precision(config: RunConfig, run: Run, model: PreTrainedModel | PeftModel, display: Display) -> None:
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
    run.update_record(precision=name)


def _check_precision_runs(trainer: MSGRPOTrainer, recorded: torch.dtype | None) -> None:
    """What is recorded is what runs: whoever else may have a say in accelerate's precision."""
    running = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}.get(trainer.accelerator.mixed_precision, "?")
    if running is not recorded:
        raise RunError(
            f"accelerate computes in {trainer.accelerator.mixed_precision}, where {recorded} was chosen: another "
            "Accelerator of this process decided so; start a new process"
        )
