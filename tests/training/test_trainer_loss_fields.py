"""Every field of GRPOConfig that enters the loss: loss and gradient are plain TRL's on the same rows."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trl import GRPOTrainer

from msgrpo_cli.algo.episode_sampling import Draw
from msgrpo_cli.models.conversation import Conversation
from msgrpo_cli.models.embedded import make_model
from msgrpo_cli.rollout.collect import PlayedUpdate
from support.groups import group_advantages
from support.parts import first_gradient, one_step_episodes, relative_difference, shared, small_model, trainer_for
from support.plain_trl import ANSWERS, PROMPTS, REWARDS, gradient_of, plain_trainer
from support.templates import CHATML
from support.templates import tokenizer as tokenizer_of

Step = tuple[float, torch.Tensor, float]
"""Loss, gradient, and the coefficient of the entropy bonus afterwards."""
END = 5
CUT = [[6, 9, 7, 5], [6, 10, 7, 8, 9, 10], [6, 5], [5], [6, 11, 7, 5], [6, 8, 7, 10, 11, 12], [9, 9, 5], [6, 9, 7, 8]]
ALL_CUT = [[6, 9, 7, 8]] * 8
LOGPROBS = [[-0.5 - 0.1 * i for i in range(len(answer))] for answer in ANSWERS]

FIELDS: list[dict[str, Any]] = [
    {},
    {"epsilon": 0.05},
    {"epsilon": 0.1, "epsilon_high": 0.4},
    {"epsilon": 0.1, "delta": 1.3},
    {"importance_sampling_level": "sequence"},
    {"off_policy_mask_threshold": 0.05},
    {"entropy_coef": 0.1},
    {"entropy_coef": 0.1, "use_adaptive_entropy": True, "entropy_target": 9.0},
    {"top_entropy_quantile": 0.4},
    {"pad_to_multiple_of": 8},
    {"pad_to_multiple_of": None},
    {"cast_lm_head_to_fp32": True},
    {"disable_dropout": True},
    {"beta": 0.3, "use_bias_correction_kl": True},
    {"beta": 0.3, "use_bias_correction_kl": False},
]
NORMALIZATIONS = [("dapo", "token"), ("grpo", "step"), ("dr_grpo", "constant")]


@torch.no_grad()
def _old(trainer: GRPOTrainer, batch: dict[str, Any]) -> torch.Tensor:
    """Log-probabilities of a policy that is not the trained one, the same for a row wherever it stands."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    width = batch["completion_ids"].shape[1]
    present, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width)
    prompt = (batch["prompt_ids"] * batch["prompt_mask"]).sum(1, keepdim=True)
    return present + 0.4 * torch.sin(batch["completion_ids"] + 7.0 * prompt + torch.arange(width))


def _pair(
    folder: Path, answers: list[list[int]], loss_type: str, normalization: str, rows: int, end: int = END, **fields: Any
) -> tuple[Step, Step]:
    """Ours, with micro-batches of `rows`, and plain TRL's, which is told the only `end`."""
    model, tokenizer = small_model()
    logprobs = [[-0.5 - 0.1 * i for i in range(len(answer))] for answer in answers]
    plain_model, reference = copy.deepcopy(model), small_model(seed=5)[0]
    beta, ours_alone = fields.pop("beta", 0.0), fields.pop("ours", {})
    plain = plain_trainer(folder, plain_model, tokenizer, answers, logprobs, loss_type=loss_type, **fields)
    plain.eos_token_ids = [end]
    plain.beta = beta  # TRL would load its own reference from the model's path
    if beta:
        from msgrpo_cli.training.reference import as_trl_reads_it

        plain.ref_model = as_trl_reads_it(copy.deepcopy(reference), plain.args, plain.temperature)
    batch = plain.first_batch()
    batch["old_per_token_logps"] = _old(plain, batch)
    theirs = plain._compute_loss(plain.model, batch)
    theirs.backward()

    advantages = group_advantages(np.array(REWARDS).reshape(2, 4)).reshape(-1)
    episodes = one_step_episodes(answers, PROMPTS, logprobs, end)
    played = PlayedUpdate(
        1, tuple(episodes), shared(episodes, advantages), Draw(np.ones(8, dtype=bool), np.ones(8)), 0.0, 1.0
    )
    trainer = trainer_for(
        folder, model, tokenizer, lambda update: played, reference if beta else None, beta=beta,
        length_normalization=normalization, per_device_train_batch_size=rows, **fields,
        **ours_alone,
    )  # fmt: skip
    make = trainer._batch

    def off_policy(*of_rows: Any) -> dict[str, Any]:
        made = make(*of_rows)
        return {**made, "old_per_token_logps": _old(trainer, made)}

    trainer._batch = off_policy  # type: ignore[method-assign]
    trainer.create_optimizer()
    trainer.create_scheduler(num_training_steps=10)
    trainer.model.zero_grad()
    trainer.training_step(trainer.model, {}, None)
    ours = trainer.figures.loss, gradient_of(model), trainer.entropy_coef
    return ours, (float(theirs.detach()), gradient_of(plain_model), plain.entropy_coef)


def _same(ours: Step, theirs: Step) -> None:
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5, abs=1e-6)
    assert relative_difference(ours[1], theirs[1]) < 2e-5
    assert ours[2] == theirs[2]


@pytest.mark.parametrize("rows", [1000, 3])
@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: ",".join(fields) or "none")
def test_a_field_of_the_loss_is_honoured_as_trl_honours_it(tmp_path: Path, fields: dict[str, Any], rows: int) -> None:
    _same(*_pair(tmp_path, ANSWERS, "dapo", "token", rows, **fields))


@pytest.mark.parametrize("fields", [field for field in FIELDS if field], ids=lambda fields: ",".join(fields))
def test_the_rows_are_such_that_the_fields_of_the_loss_matter(tmp_path: Path, fields: dict[str, Any]) -> None:
    if "use_adaptive_entropy" in fields:
        assert _pair(tmp_path, ANSWERS, "dapo", "token", 1000, **fields)[1][2] > fields["entropy_coef"]
        return
    if set(fields) & {"pad_to_multiple_of", "cast_lm_head_to_fp32", "disable_dropout"}:
        pytest.skip("changes how it is computed, not what")
    usual = _pair(tmp_path, ANSWERS, "dapo", "token", 1000)[1]
    assert relative_difference(_pair(tmp_path, ANSWERS, "dapo", "token", 1000, **fields)[1][1], usual[1]) > 1e-3


@pytest.mark.parametrize(("loss_type", "normalization"), NORMALIZATIONS)
@pytest.mark.parametrize("rows", [1000, 2])
def test_truncated_completions_are_masked_as_trl_masks_them(
    tmp_path: Path, loss_type: str, normalization: str, rows: int
) -> None:
    masked = {"mask_truncated_completions": True}
    _same(*_pair(tmp_path, CUT, loss_type, normalization, rows, **masked))
    _same(*_pair(tmp_path, ANSWERS, loss_type, normalization, rows, **masked))


@pytest.mark.parametrize("rows", [1000, 3])
@pytest.mark.parametrize("way", [{}, {"share_prompts": False}, {"gradient_checkpointing": True}], ids=str)
def test_an_end_that_the_tokenizer_does_not_declare_ends_an_answer_too(
    tmp_path: Path, way: dict[str, Any], rows: int
) -> None:
    """As ends that only a chat template writes, or that `model.end_of_turn` names."""
    other = 13
    model, tokenizer = small_model()
    assert other not in (tokenizer.eos_token_id, tokenizer.pad_token_id, model.generation_config.eos_token_id)
    ours_alone = {name: value for name, value in way.items() if name == "share_prompts"}
    way = {name: value for name, value in way.items() if name not in ours_alone}
    cut, whole = ([[other if token == END else token for token in row] for row in given] for given in (CUT, ANSWERS))
    masked = {"mask_truncated_completions": True}
    _same(*_pair(tmp_path, cut, "dapo", "token", rows, other, **masked, **way, ours=ours_alone))
    same = [
        _pair(tmp_path, whole, "dapo", "token", rows, other, **way, **more, ours=ours_alone)[0] for more in ({}, masked)
    ]
    assert same[0][0] == same[1][0] != 0.0
    assert torch.equal(same[0][1], same[1][1])


def test_where_every_answer_is_cut_nothing_is_trained(tmp_path: Path) -> None:
    ours, theirs = _pair(tmp_path, ALL_CUT, "dapo", "token", 1000, mask_truncated_completions=True)
    assert ours[0] == theirs[0] == 0.0
    assert not ours[1].any() and not theirs[1].any()
    assert not math.isnan(ours[0])


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("template", "named", "end"),
    [(CHATML, (), "<|im_end|>"), (CHATML, ("<|eot_id|>",), "<|eot_id|>"), (None, ("<|eot_id|>",), "<|eot_id|>")],
)
def test_what_a_conversation_ends_is_trained_and_what_is_cut_is_not(
    tmp_path: Path, template: str | None, named: tuple[str, ...], end: str, checkpointing: bool
) -> None:
    """Of a tokenizer that declares another end. A padding token ends nothing, though TRL takes it for an end."""
    words = tokenizer_of(template, "<|eot_id|>")
    ends = Conversation(words, end_of_turn=named).ends
    last = words.convert_tokens_to_ids(end)
    assert last in ends and last != words.eos_token_id and words.pad_token_id not in ends
    answers = [[70, 71, last], [last], [70, 72], [73, words.pad_token_id], [70, last]]
    prompts = [[65, 66, 67]] * 5
    logprobs = [[-1.0] * len(answer) for answer in answers]
    episodes = [
        replace(one, steps=(replace(one.steps[0], completion=replace(one.steps[0].completion, truncated=cut)),))
        for one, cut in zip(
            one_step_episodes(answers, prompts, logprobs), [answer[-1] not in ends for answer in answers], strict=True
        )
    ]
    losses = []
    for kept, masked in ((episodes, True), ([episodes[i] for i in (0, 1, 4)], False)):
        advantages = np.array([1.0, -0.5, 2.0, 3.0, 0.25] if masked else [1.0, -0.5, 0.25])
        played = PlayedUpdate(
            1, tuple(kept), shared(kept, advantages), Draw(advantages < 9, np.ones(len(kept))), 0.0, 1.0
        )
        torch.manual_seed(0)
        model = make_model(words, 0, hidden=32, layers=2)
        trainer = trainer_for(
            tmp_path, model, words, lambda update, played=played: played, mask_truncated_completions=masked,
            gradient_checkpointing=checkpointing,
        )  # fmt: skip
        gradient = first_gradient(trainer)
        losses.append((trainer.figures.loss, gradient, trainer.figures.rows, trainer.figures.logprob_gap))
    assert losses[0][0] == losses[1][0] != 0.0
    assert torch.equal(losses[0][1], losses[1][1])
    assert losses[0][2:] == losses[1][2:] and losses[0][2] == 3
