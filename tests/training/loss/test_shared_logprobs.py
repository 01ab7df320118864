"""Sharing prompts and answers between rows changes neither log-probabilities, nor loss, nor gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from msgrpo_cli.algo.batching import LengthNormalization, step_rows
from msgrpo_cli.models import beginnings
from msgrpo_cli.models.beginnings import a_pass
from msgrpo_cli.models.caches import has_plain_cache
from msgrpo_cli.models.packing import most_tokens
from msgrpo_cli.rollout.collect import PlayedUpdate
from msgrpo_cli.training.loss.shared_logprobs import SharedRows, Sharing, _Sequences
from msgrpo_cli.training.trainer import MSGRPOTrainer
from support.parts import (
    given,
    played_update,
    relative_difference,
    small_model,
    trainer_for,
    uneven,
    with_advantages,
)
from support.small_models import (
    adapted,
    adapter_dropping_out,
    attention_dropping_out,
    biased,
    eager,
    half_sliding,
    llama,
    local,
    qwen2,
    recurrent,
    sliding,
    without_positions,
)
from support.zoo import ZOO


@pytest.fixture(params=[beginnings.PASS, 0], ids=["usual passes", "every beginning"], autouse=True)
def cost_of_a_pass(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """These rows are short: where a pass costs nothing their beginnings are read level by level."""
    monkeypatch.setattr(beginnings, "PASS", request.param)
    return int(request.param)


def both(folder: Path, make: Any, played: PlayedUpdate, **arguments: Any) -> list[MSGRPOTrainer]:
    """A trainer that shares and one that does not, over equal weights."""
    return [
        trainer_for(
            folder,
            make(),
            small_model()[1],
            lambda update: played,
            llama() if arguments.get("beta") else None,
            share_prompts=share,
            **arguments,
        )
        for share in (True, False)
    ]


def metrics(trainer: MSGRPOTrainer) -> dict[str, float]:
    """What the loss and the log-probabilities decide."""
    found = trainer.figures.metrics(uneven(), 1, with_kl=bool(trainer.beta))
    names = ("loss", "entropy", "kl", "clip_ratio", "grad_norm", "logprob_gap_mean", "logprob_gap_max")
    return {name: found[name] for name in names if found[name] is not None}


def gradient(trainer: MSGRPOTrainer) -> torch.Tensor:
    """Of the first optimizer step, all trained parameters in one vector."""
    trainer.create_optimizer()
    trainer.create_scheduler(num_training_steps=10)
    trainer.training_step(trainer.model, {}, None)
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]).clone()


@pytest.mark.parametrize("make", [llama, qwen2, eager, adapted])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"per_device_train_batch_size": 3, "entropy_coef": 0.1},
        {"beta": 0.04},
        {"num_iterations": 2, "optimizer_steps": 2, "temperature": 0.7},
        {"importance_sampling_level": "sequence", "length_normalization": "step"},
        {"way": "packed", "entropy_coef": 0.1},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "per_device_train_batch_size": 3, "entropy_coef": 0.1, "beta": 0.04},
    ],
    ids=[
        "plain",
        "micro-batches and entropy",
        "kl",
        "several steps",
        "sequence ratios",
        "packed",
        "checkpointing",
        "checkpointing, all on",
    ],
)
def test_loss_and_gradient_are_those_of_separate_rows(tmp_path: Path, make: Any, arguments: dict[str, Any]) -> None:
    arguments = dict(arguments)
    if make is qwen2 and arguments.get("beta"):
        pytest.skip("the reference is a llama")
    way = {"packed": {"levels": False}, "levels": {"packed": None}}[arguments.pop("way", "levels")]
    shared, separate = both(tmp_path, make, uneven(), **arguments)
    assert shared.sharing
    assert not separate.sharing
    if not arguments.get("gradient_checkpointing"):
        shared.sharing = replace(shared.sharing, **way)
    first, second = gradient(shared), gradient(separate)
    assert float(second.norm()) > 1e-3
    assert relative_difference(first, second) < 1e-5
    assert metrics(shared) == pytest.approx(metrics(separate), rel=1e-5, abs=1e-6)
    assert shared.figures.tokens_read < separate.figures.tokens_read


@pytest.mark.parametrize("way", ["levels", "packed"])
@pytest.mark.parametrize("normalization", get_args(LengthNormalization))
def test_however_rows_weigh(tmp_path: Path, normalization: LengthNormalization, way: str) -> None:
    arguments = {"length_normalization": normalization, "way": way, "per_device_train_batch_size": 3}
    test_loss_and_gradient_are_those_of_separate_rows(tmp_path, llama, arguments)


def behind_rules() -> PlayedUpdate:
    """The uneven rows behind 70 tokens that all begin with."""
    rules = [7 + n % 9 for n in range(70)]
    return given([([*rules, *row.prompt_ids], list(row.completion_ids)) for row in step_rows(uneven().trained)])


@pytest.mark.parametrize("make", [llama, qwen2, eager, adapted])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"per_device_train_batch_size": 3, "entropy_coef": 0.1}, {"num_iterations": 2, "optimizer_steps": 2}],
    ids=["plain", "micro-batches and entropy", "several steps"],
)
def test_loss_and_gradient_behind_a_common_beginning(tmp_path: Path, make: Any, arguments: dict[str, Any]) -> None:
    shared, separate = both(tmp_path, make, behind_rules(), **arguments)
    shared.sharing = replace(shared.sharing, packed=None, a_pass=0)
    copying, _ = both(tmp_path, make, behind_rules(), **arguments)
    copying.sharing = replace(shared.sharing, apart=False)
    with counted_copies(shared) as of_shared:
        first = gradient(shared)
    with counted_copies(copying) as of_copying:
        third = gradient(copying)
    second = gradient(separate)
    assert float(second.norm()) > 1e-3
    assert relative_difference(first, second) < 1e-5
    assert relative_difference(third, second) < 1e-5
    assert max(of_shared) < 70 <= max(of_copying), "no row holds the beginning"


@contextmanager
def counted_copies(trainer: MSGRPOTrainer) -> Iterator[list[int]]:
    """How many tokens stand in the caches of rows at each pass."""
    lengths: list[int] = []

    def looks(module: Any, arguments: Any, given: Any) -> None:
        cache = given.get("past_key_values")
        lengths.append(0 if cache is None else cache.get_seq_length())

    backbone = next(m for m in trainer.model.modules() if type(m).__name__.endswith("Model") and hasattr(m, "layers"))
    hook = backbone.register_forward_pre_hook(looks, with_kwargs=True)
    yield lengths
    hook.remove()


def test_weights_after_several_updates_stay_together(tmp_path: Path) -> None:
    after = []
    for share in (True, False):
        model, tokenizer = small_model()
        played = with_advantages(played_update(model, tokenizer), [1.0, -1.0, 0.5])
        trainer = trainer_for(
            tmp_path / str(share), model, tokenizer, lambda update, played=played: played,
            share_prompts=share, max_updates=3, num_iterations=2, per_device_train_batch_size=4,
        )  # fmt: skip
        trainer.train()
        after.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    before = torch.cat([parameter.detach().flatten() for parameter in llama().parameters()])
    assert float((after[0] - after[1]).norm()) < 1e-2 * float((after[0] - before).norm())


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_read_is_what_is_distinct(tmp_path: Path, packed: bool, cost_of_a_pass: int) -> None:
    model, tokenizer = small_model()
    played = with_advantages(played_update(model, tokenizer), [1.0, -1.0])
    trainer = trainer_for(tmp_path, model, tokenizer, lambda update: played, gradient_checkpointing=packed)
    if not packed:
        trainer.sharing = replace(trainer.sharing, packed=None)
    read: list[int] = []
    hook = model.model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    gradient(trainer)
    hook.remove()
    rows = step_rows(played.trained)
    answers = {(row.prompt_ids, row.completion_ids) for row in rows}
    texts = {(*prompt, *answer)[:-1]: len(prompt) - 1 for prompt, answer in answers}
    assert len({row.prompt_ids for row in rows}) < len(texts) <= len(answers) <= len(rows)
    if packed:
        real = beginnings.distinct_beginnings(texts)
        assert sum(read) == real, "one sequence holds them all"
    else:
        levels = beginnings.plan(list(texts), repeating=list(texts.values()), a_pass=cost_of_a_pass)
        assert sum(read) == sum(level.read for level in levels)
        real = sum(len(part) for level in levels for part in level.segments)
        once = beginnings.distinct_beginnings(texts)
        assert real > once if cost_of_a_pass else once <= real < 1.2 * once
    assert trainer.largest_micro_batch == len(answers)  # what memory follows from, not len(rows)
    assert trainer.figures.tokens_read == sum(read)
    assert trainer.figures.tokens_padding == sum(read) - real


def test_rows_are_cut_into_what_is_distinct() -> None:
    ids = torch.tensor([[0, 7, 8, 1, 2], [0, 7, 8, 1, 0], [6, 7, 8, 1, 2], [0, 7, 8, 1, 2]])
    mask = torch.tensor([[0, 1, 1, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
    rows = SharedRows.of(ids, mask, 2)
    assert rows.texts == [(7, 8, 1), (7, 8), (6, 7, 8, 1)]
    assert rows.beginnings == [1, 1, 2], "without the last token of the prompt"
    assert rows.answers == [(0, (1, 2)), (1, (1,)), (2, (1, 2))]
    assert rows.answer_N == [0, 1, 2, 0]
    apart, once = Sharing(8, a_pass=512), Sharing(8, a_pass=0)
    assert apart.work(ids, mask, 2) == (3 * 4, 1 + 2)
    assert once.work(ids, mask, 2)[0] < 3 * 4
    assert Sharing(8, 512, levels=False, packed=100).work(ids, mask, 2) == (3 + 4, 0)
    assert Sharing(8, 512, levels=False, packed=1).work(ids, mask, 2) == (3 * 4, 1 + 2)


@pytest.mark.parametrize("make", [attention_dropping_out, adapter_dropping_out])
def test_with_dropout_rows_stay_separate(tmp_path: Path, make: Any) -> None:
    assert all(trainer.sharing is None for trainer in both(tmp_path / "as it is", make, uneven()))
    shared = both(tmp_path / "off", make, uneven(), disable_dropout=True)[0]
    assert shared.sharing


@pytest.mark.parametrize("arguments", [{}, {"gradient_checkpointing": True}])
def test_with_a_sliding_window_rows_stay_separate(tmp_path: Path, arguments: dict[str, Any]) -> None:
    shared, separate = both(tmp_path, sliding, uneven(), **arguments)
    assert not shared.sharing
    assert torch.equal(gradient(shared), gradient(separate))


@pytest.mark.parametrize("longer", [[8], [8, 9, 10]])
def test_a_prompt_of_one_token_has_no_beginning_of_its_own(tmp_path: Path, longer: list[int]) -> None:
    shared, separate = both(tmp_path, llama, given([([7], [20, 5]), ([7], [5]), (longer, [20, 5])]))
    assert relative_difference(gradient(shared), gradient(separate)) < 1e-5


@pytest.mark.parametrize("packed", [False, True])
def test_where_a_row_is_padded_its_log_probability_is_0(tmp_path: Path, packed: bool) -> None:
    shared = both(tmp_path, llama, uneven(), gradient_checkpointing=packed)[0]
    gradient(shared)
    [[batch]] = shared._parts
    padded = batch["completion_mask"] == 0
    assert shared._seen_logps is not None
    assert torch.equal(shared._seen_logps == 0, padded)
    assert padded.any()


@pytest.mark.parametrize(
    ("attention", "packs"),
    [("sdpa", True), ("eager", True), ("flex_attention", True), ("flash_attention_2", False)],
)
def test_only_attention_that_takes_a_mask_of_its_own_is_packed(attention: str, packs: bool) -> None:
    model = llama()
    model.config._attn_implementation = attention
    assert bool(Sharing.of(model, checkpointing=True)) == packs
    assert Sharing.of(model, checkpointing=False) is not None


@torch.no_grad()
def test_flex_attention_reads_packed_rows_as_plain_attention_does() -> None:
    """Its backward pass is not run: torch has none on a CPU."""
    model = llama()
    add_fused_lm_head(model)
    ids = torch.tensor([[0, 7, 8, 1, 2], [0, 7, 8, 1, 0], [6, 7, 8, 1, 2], [6, 7, 9, 3, 0]])
    mask = torch.tensor([[0, 1, 1, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    found = []
    for attention in ("sdpa", "flex_attention"):
        model.set_attn_implementation(attention)
        found.append(Sharing(8, 0, levels=False, packed=7).logprobs(model, ids, mask, 2, entropy=False)[0])
    assert found[0].all(dim=0).any() and torch.equal(found[0] == 0, mask[:, -2:] == 0)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_attention_that_makes_biases_of_its_mask_is_not_packed() -> None:
    model = biased()
    assert Sharing.of(model, checkpointing=True) is None
    assert Sharing.of(model, checkpointing=False) is not None


@pytest.mark.parametrize(
    ("make", "plain"),
    [
        (llama, True),
        (qwen2, True),
        (sliding, False),
        (half_sliding, False),
        (local, False),
        (biased, True),
        (recurrent, False),
        (without_positions, False),
    ],
)
def test_plain_caches(make: Any, plain: bool) -> None:
    assert has_plain_cache(make()) == plain


@pytest.mark.parametrize("coefficient", [0.1, 0.0])
def test_experts_with_an_auxiliary_loss_are_cut_as_they_are_read(tmp_path: Path, coefficient: float) -> None:
    """One decision for both: where the auxiliary loss keeps rows separate, no micro-batch holds more than asked."""
    model, tokenizer = ZOO["mixtral"].made()
    played = uneven()
    trainer = trainer_for(
        tmp_path, model, tokenizer, lambda update: played, per_device_train_batch_size=2,
        router_aux_loss_coef=coefficient,
    )  # fmt: skip
    trainer._play_update()
    rows = [len(batch["completion_ids"]) for part in trainer._parts for batch in part]
    assert bool(trainer.sharing) == (coefficient == 0.0)
    assert (max(rows) > 2) == (coefficient == 0.0)
    assert trainer.largest_micro_batch == 2
    read = sum(
        batch["prompt_ids"].numel() + batch["completion_ids"].numel() for part in trainer._parts for batch in part
    )
    assert (trainer.figures.tokens_read == read) == (coefficient > 0.0)


@pytest.mark.parametrize(
    ("hidden", "begun", "states", "answers", "length", "packs"),
    [(576, 231, 13, 6, 6, True), (512, 300, 8, 1, 60, False), (96, 4, 60, 3, 4, False)],
    ids=["many short answers behind a long beginning", "few long answers", "short prompts of a small model"],
)
def test_what_costs_less_is_read(hidden: int, begun: int, states: int, answers: int, length: int, packs: bool) -> None:
    """As it was measured; see `_COPIED`."""
    prompts = [(*range(begun), *range(1000 + 30 * state, 1000 + 30 * state + 24)) for state in range(states)]
    texts = [
        (*prompt, *range(5000 + 100 * n, 5000 + 100 * n + length - 1)) for prompt in prompts for n in range(answers)
    ]
    rows = SharedRows(texts, [begun + 23] * len(texts), [(n, texts[n][-length:]) for n in range(len(texts))], [])
    both = Sharing(hidden, a_pass(hidden, on_cpu=True), packed=most_tokens(hidden))
    assert isinstance(both._reading(rows), _Sequences) is packs
