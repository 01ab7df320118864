"""What an update is expected to play: the game's own bounds, counted prompts, and cuts as training makes them."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from msgrpo_cli.cli.app import main
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.planning.hardware import named
from msgrpo_cli.planning.plan import plan, replanned
from msgrpo_cli.planning.prompts import encoder, measured_prompt
from msgrpo_cli.planning.workload import by_letters, expected_play, play_sample
from support.counted import counting_calls


def test_bounds_are_those_of_the_dry_run() -> None:
    from msgrpo_cli.planning.dry_run import derived

    config = compose("train", ["env=snake_20", "algo.groups_per_update=2", "algo.group_size=4"])
    play, known = expected_play(config, play_sample(config, None)), derived(config)
    assert play.decisions_at_most == known["decisions_per_update_at_most"]
    assert play.rows_at_most == known["rows_per_update_at_most"]
    assert play.episode_length * 8 < play.decisions < play.decisions_at_most
    assert play.rows == pytest.approx(play.decisions / 2)


def test_prompts_are_counted_by_the_tokenizer_where_there_is_one() -> None:
    config = compose("train", ["algo.groups_per_update=1", "algo.group_size=2"])
    measured = expected_play(config, play_sample(config, encoder(config)))
    assert measured.measured
    assert measured.longest_prompt == measured.prompt_tokens == 22
    guessed = expected_play(config, play_sample(config, None))
    assert not guessed.measured
    assert guessed.longest_prompt == config.rollout.max_prompt_tokens  # the bound
    assert by_letters((("user", "abc"),)) == by_letters((("user", "abc"),)) != by_letters((("user", "abd"),))


def test_of_several_players_those_that_self_plays_are_trained() -> None:
    """In turn each of at most 9 turns is one decision, and half of them are those of the other seat."""
    pytest.importorskip("pyspiel")
    from msgrpo_cli.planning.dry_run import derived

    config = compose("train", ["experiment=selfplay_tictactoe", "algo.sample_fraction=0.5"])
    play, known = expected_play(config, play_sample(config, None)), derived(config)
    assert (play.decisions_at_most, play.rows_at_most) == (256 * 9, 128 * 9)
    assert known["decisions_per_update_at_most"] == play.decisions_at_most
    assert 7 < play.decisions / 256 <= 9
    assert play.rows == pytest.approx(play.decisions / 4)


def test_no_tokenizer_of_a_model_that_is_only_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert encoder(compose("train", ["model=qwen3b"])) is None
    bytes_of = encoder(compose("train", ["model=qwen3b", "model.init=random"]))
    assert bytes_of is not None
    assert len(bytes_of((("user", "abcdef"),))) > 6


def test_micro_batches_hold_what_fits_and_repeat_prompts_once() -> None:
    chosen = ["algo.groups_per_update=2", "algo.group_size=8", "algo.episode_sampling=all"]
    small = compose("train", [*chosen, "trainer.per_device_train_batch_size=4", "prompt=think"])
    play = expected_play(small, play_sample(small, None))
    assert max(batch.answers for batch in play.micro) == 4
    assert all(batch.prompts <= batch.answers for batch in play.micro)
    assert play.micro_batches == math.ceil(play.rows / 4)
    apart = expected_play(
        compose("train", [*small_overrides(chosen), "algo.share_prompts=false"]), play_sample(small, None)
    )
    assert all(batch.prompts == batch.answers for batch in apart.micro)
    alone = compose("train", chosen)  # answers of one action repeat
    assert expected_play(alone, play_sample(alone, None)).distinct_rows < 1


def small_overrides(chosen: list[str]) -> list[str]:
    return [*chosen, "trainer.per_device_train_batch_size=4", "prompt=think"]


def test_what_was_cut_is_cut_again_only_where_a_change_reaches_it() -> None:
    asked = ["algo.groups_per_update=2", "algo.group_size=4", "trainer.use_cpu=true"]
    found = plan(compose("train", asked), named("cpu"), here=True)
    with counting_calls() as calls:
        for keys in (
            {"rollout.max_live_episodes": 1},
            {"trainer.gradient_checkpointing": True},
            {"lora.enabled": True},
        ):
            assert replanned(found, keys).play.micro == found.play.micro
    assert calls["_micro_batches"] == calls["step_rows"] == 0
    smaller = replanned(found, {"trainer.per_device_train_batch_size": 2}).play
    again = compose("train", [*asked, "trainer.per_device_train_batch_size=2"])
    assert smaller == plan(again, named("cpu"), here=True).play != found.play


def test_random_weights_play_what_is_played_for_an_invalid_answer() -> None:
    config = compose("train", ["model.init=random", "env=frozenlake", "algo.invalid_action=first"])
    play = expected_play(config, play_sample(config, None))
    assert play.decisions == play.episode_length * 256  # nothing is expected of them
    assert play.expected_answer == config.rollout.max_new_tokens


def test_a_large_update_is_played_in_part() -> None:
    few = compose("train", ["algo.groups_per_update=4"])
    many = compose("train", ["algo.groups_per_update=400"])
    sample = play_sample(many, None, 64)
    assert sum(map(len, sample.updates)) == 64
    assert expected_play(many, sample).decisions == pytest.approx(
        100 * expected_play(few, play_sample(few, None)).decisions, rel=0.2
    )


def test_evaluations_do_not_need_training_data_and_optimizer_steps_cut_rows() -> None:
    chosen = ["algo.optimizer_steps=4", "trainer.num_iterations=2", "algo.groups_per_update=2"]
    config = compose("train", chosen)
    assert expected_play(config, play_sample(config, None)).micro_batches == 8


def test_a_sweep_whose_prompts_do_not_fit_is_refused_before_its_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["msgrpo", "sweep", "seed=1,2", "env=snake_20", "prompt.observation=full"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("rollout.max_prompt_tokens=64: a prompt of snake_20 has 188 tokens") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_model_s_context_and_every_stage_are_measured_against() -> None:
    with pytest.raises(
        UsageError, match=r"rollout\.max_new_tokens=250: a prompt of frozenlake has 22 tokens .* context is 256: low"
    ):
        measured_prompt(compose("train", ["rollout.max_new_tokens=250"]))
    stages = ["curriculum.key=env.size", "curriculum.values=[4,16]", "env.size=4"]
    with pytest.raises(UsageError, match=r"tokens=64: a prompt of frozenlake with env\.size=16 has \d+ tokens"):
        measured_prompt(compose("train", stages))
    mixture = ["env=mix", "env.games=[frozenlake,snake_20]", "prompt.observation=full"]
    with pytest.raises(UsageError, match=r"a prompt of snake_20 has \d+ tokens"):
        measured_prompt(compose("train", mixture))


def test_history_is_measured_too() -> None:
    config = compose("train", ["rollout.max_prompt_tokens=500"])
    longer = config.model_copy(update={"prompt": config.prompt.model_copy(update={"history": 2})})
    assert measured_prompt(config) == 22
    assert measured_prompt(longer) == 22 + 2 * (22 + 4), "each earlier turn with an answer of four tokens"
