"""The identities of MS-GRPO that must hold, on the real TRL trainer and small random models."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msgrpo_cli.algo.batching import step_rows
from msgrpo_cli.algo.episode_sampling import Draw
from msgrpo_cli.episode import Start
from msgrpo_cli.rollout.collect import PlayedUpdate
from msgrpo_cli.rollout.play import PlayRules, play_episodes
from msgrpo_cli.training.trainer import MSGRPOTrainer
from support.groups import group_advantages
from support.parts import (
    agent,
    first_gradient,
    lake,
    one_step_episodes,
    played_update,
    relative_difference,
    shared,
    small_model,
    trainer_for,
    with_advantages,
)
from support.plain_trl import ANSWERS, PROMPTS, REWARDS, gradient_of, plain_trainer


@pytest.mark.parametrize(
    ("loss_type", "length_normalization"), [("dapo", "token"), ("grpo", "step"), ("dr_grpo", "constant")]
)
def test_one_step_episodes_give_trl_s_own_advantages_loss_and_gradient(
    tmp_path: Path, loss_type: str, length_normalization: str
) -> None:
    model, tokenizer = small_model()
    plain = plain_trainer(tmp_path, copy.deepcopy(model), tokenizer, loss_type=loss_type)
    batch = plain.first_batch()
    theirs = plain._compute_loss(plain.model, batch)
    theirs.backward()
    their_gradient = gradient_of(plain.model)

    advantages = group_advantages(np.array(REWARDS).reshape(2, 4)).reshape(-1)
    assert np.allclose(advantages, batch["advantages"].numpy(), rtol=1e-5)
    episodes = one_step_episodes(ANSWERS, PROMPTS, [[0.0] * len(answer) for answer in ANSWERS])
    draw = Draw(np.ones(8, dtype=bool), np.ones(8))
    played = PlayedUpdate(1, tuple(episodes), shared(episodes, advantages), draw, 0.0, 1.0)
    trainer = trainer_for(tmp_path, model, tokenizer, lambda update: played, length_normalization=length_normalization)
    gradient = first_gradient(trainer)
    assert trainer.figures.loss == pytest.approx(float(theirs.detach()), rel=1e-5, abs=1e-7)
    assert relative_difference(gradient, their_gradient) < 1e-5


def _gradient(folder: Path, played: PlayedUpdate, reference: Any = None, **arguments: Any) -> torch.Tensor:
    model, tokenizer = small_model()
    return first_gradient(trainer_for(folder, model, tokenizer, lambda update: played, reference, **arguments))


def _an_update(**rules: Any) -> PlayedUpdate:
    model, tokenizer = small_model()
    return with_advantages(played_update(model, tokenizer, **rules), [1.5, -0.5, 0.25, -1.0, 0.75])


@pytest.mark.parametrize("length_normalization", ["token", "step", "episode", "constant"])
@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_micro_batches_do_not_change_the_gradient(tmp_path: Path, length_normalization: str, beta: float) -> None:
    played = _an_update()
    rows = len(step_rows(played.trained))
    gradients = []
    for batches in (1, 2, 3, 4):
        reference = small_model(seed=5)[0] if beta else None
        size = -(-rows // batches)
        gradients.append(
            _gradient(
                tmp_path, played, reference, per_device_train_batch_size=size, beta=beta, entropy_coef=0.1,
                length_normalization=length_normalization,
            )
        )  # fmt: skip
    assert rows % 4 or rows % 3, "one of the cuts must not divide evenly"
    for gradient in gradients[1:]:
        assert relative_difference(gradient, gradients[0]) < 1e-5


def test_order_of_episodes_does_not_change_loss_and_gradient(tmp_path: Path) -> None:
    played = _an_update()
    order = np.random.default_rng(0).permutation(len(played.episodes))
    episodes, advantages = (tuple(of_each[i] for i in order) for of_each in (played.episodes, played.advantages))
    shuffled = PlayedUpdate(1, episodes, advantages, played.draw, 0.0, 1.0)
    assert relative_difference(_gradient(tmp_path, shuffled), _gradient(tmp_path, played)) < 1e-6


def test_absolute_advantage_with_fraction_1_has_the_direction_of_all(tmp_path: Path) -> None:
    played = _an_update()
    advantages = played.advantage_E.copy()
    advantages[::3] = 0.0
    of_steps = shared(played.episodes, advantages)
    everything = PlayedUpdate(1, played.episodes, of_steps, played.draw, 0.0, 1.0)
    drawn = PlayedUpdate(1, played.episodes, of_steps, Draw(advantages != 0, played.draw.factor_E), 0.0, 1.0)
    all_gradient, drawn_gradient = _gradient(tmp_path, everything), _gradient(tmp_path, drawn)
    cosine = torch.nn.functional.cosine_similarity(all_gradient.double(), drawn_gradient.double(), dim=0)
    assert float(cosine) == pytest.approx(1.0, abs=1e-6)
    tokens = [sum(len(row.completion_ids) for row in step_rows(update.trained)) for update in (everything, drawn)]
    assert float(drawn_gradient.norm() / all_gradient.norm()) == pytest.approx(tokens[0] / tokens[1], rel=1e-4)


def test_every_drawn_step_enters_the_loss_exactly_once(tmp_path: Path) -> None:
    played = _an_update()
    model, tokenizer = small_model()
    trainer = trainer_for(
        tmp_path, model, tokenizer, lambda update: played, per_device_train_batch_size=5, optimizer_steps=4
    )
    trainer._play_update()
    seen = []
    for part in trainer._parts:
        for batch in part:
            for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True):
                seen.append(tuple(ids[mask.bool()].tolist()))
    expected = [step.completion.token_ids for episode in played.episodes for step in episode.steps]
    assert sorted(seen) == sorted(expected)
    assert len(seen) % 4, "the rows must not divide evenly into the optimizer steps"


def test_trained_ids_are_the_sampled_ids_and_log_probabilities_agree(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    played = with_advantages(played_update(model, tokenizer), [1.0, -1.0])
    trainer = trainer_for(tmp_path, model, tokenizer, lambda update: played)
    first_gradient(trainer)
    ends = [step.completion.token_ids[-1] for episode in played.episodes for step in episode.steps]
    assert tokenizer.eos_token_id in ends
    gap = trainer.figures.logprob_gap.largest
    assert 0.0 <= gap < 1e-4
    logprobs = [value for e in played.episodes for step in e.steps for value in step.completion.logprobs]
    assert min(logprobs) < -1.0, "the policy must not be so sure that any gap would be small"


def test_an_update_without_signal_moves_nothing(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    plays = [with_advantages(played_update(model, tokenizer), [1.0, -1.0])]
    nothing = plays[0]
    silence = shared(nothing.episodes, np.zeros(12))
    silent = PlayedUpdate(2, nothing.episodes, silence, Draw(np.zeros(12, dtype=bool), np.ones(12)), 1.0, 1.0)
    trainer = trainer_for(
        tmp_path, model, tokenizer, lambda update: plays[0] if update == 1 else silent, max_updates=1, weight_decay=0.1
    )
    trainer.train()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    momentum = [state["exp_avg"].clone() for state in trainer.optimizer.state.values()]
    trainer.args.max_steps = 2
    trainer.state.global_step = 1
    model.zero_grad()
    trainer.training_step(model, {}, None)
    trainer.optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    after = [state["exp_avg"] for state in trainer.optimizer.state.values()]
    assert all(torch.equal(old, new) for old, new in zip(momentum, after, strict=True))
    assert trainer.update_metrics()["skipped"] is True


def test_a_draw_that_missed_all_signal_takes_no_step(tmp_path: Path) -> None:
    """As a uniform draw may: its episodes have rows, an entropy bonus and a KL term, and yet teach nothing."""
    model, tokenizer = small_model()
    played = played_update(model, tokenizer)
    missed = with_advantages(played, [0.0])
    before = [parameter.detach().clone() for parameter in model.parameters()]
    trainer = trainer_for(
        tmp_path, model, tokenizer, lambda update: missed, small_model(seed=5)[0], beta=0.1, entropy_coef=0.1,
        weight_decay=0.1, max_updates=1,
    )  # fmt: skip
    trainer.train()
    assert trainer.update_metrics()["skipped"] is True
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_actions_do_not_depend_on_the_batch() -> None:
    model, tokenizer = small_model()
    starts = [Start(7 * number, number, 0, (0, 1, number, 0)) for number in range(20)]
    plays = []
    for live in (1, 7, 64):
        rules = PlayRules(env="frozenlake", observation="compact", max_live_episodes=live)
        episodes = play_episodes(starts, lake, agent(model, tokenizer), rules)
        plays.append([[step.completion.token_ids for step in episode.steps] for episode in episodes])
    assert plays[0] == plays[1] == plays[2]
    assert len({answer for episode in plays[0] for answer in episode}) > 5


def test_an_evaluation_in_between_changes_no_training_metric(tmp_path: Path) -> None:
    metrics = []
    for evaluates in (False, True):
        model, tokenizer = small_model()

        def play(
            update: int, model: Any = model, tokenizer: Any = tokenizer, evaluates: bool = evaluates
        ) -> PlayedUpdate:
            if evaluates:
                starts = [Start(number, number, 0, (3, "eval", number, 0)) for number in range(9)]
                play_episodes(starts, lake, agent(model, tokenizer), PlayRules(observation="compact"))
            return with_advantages(played_update(model, tokenizer, update), [1.0, -0.5, 0.2])

        trainer = trainer_for(tmp_path, model, tokenizer, play, max_updates=3)
        trainer.train()
        metrics.append({key: value for key, value in trainer.update_metrics().items() if "/" not in key})
    assert metrics[0] == metrics[1]


def test_sequence_of_optimizer_steps_uses_old_log_probabilities(tmp_path: Path) -> None:
    played = _an_update()
    model, tokenizer = small_model()
    trainer: MSGRPOTrainer = trainer_for(
        tmp_path, model, tokenizer, lambda update: played, optimizer_steps=2, num_iterations=2, max_updates=1,
        learning_rate=0.05,
    )  # fmt: skip
    trainer.train()
    metrics = trainer.update_metrics()
    assert trainer.state.global_step == 4
    assert metrics["update"] == 1
    assert metrics["clip_ratio"] > 0.0, "after three steps at this rate some ratio must have left the clip range"
    assert metrics["logprob_gap_max"] < 1e-4, "the gap is measured against the weights that sampled"
