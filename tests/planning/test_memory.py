"""Memory by part: numbers worked out by hand, and what torch itself says it keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config
from trl.trainer.utils import add_fused_lm_head

from msgrpo_cli.algo.batching import Row
from msgrpo_cli.planning.architecture import Architecture
from msgrpo_cli.planning.memory import MemoryQuestion, activation_bytes, memory_plan
from msgrpo_cli.planning.workload import Batch, _micro_batches
from msgrpo_cli.training.loss.shared_logprobs import Sharing

SHAPE = Architecture(
    layers=4, hidden=64, inner=176, heads=4, kv_heads=2, head_dim=16, vocabulary=300, tied=True, parameters=204_672
)
ASKED = MemoryQuestion(
    shape=SHAPE,
    weight_bytes=4,
    autocast=False,
    adapter=None,
    adapter_targets=0,
    quantization=None,
    optimizer_numbers=2,
    steps=2,
    checkpointing=False,
    shared=True,
    reference=False,
    on_cpu=True,
    micro=[Batch(2, 3, 40, 78), Batch(2, 3, 40, 78)],
    single=False,
    live=5,
    prompts=3,
    longest_prompt=40,
    answer_tokens=8,
)


def test_parts_by_hand() -> None:
    parts = memory_plan(ASKED).parts
    embedding = 300 * 64 * 4
    assert parts["weights"] == 204_672 * 4
    assert parts["gradients"] == 204_672 * 4 + embedding  # that of the tied matrix comes twice: output layer, input
    assert parts["optimizer"] == 204_672 * 8
    assert parts["reference"] == parts["half_precision_copies"] == 0
    tokens = 5 * (40 + 8)
    # keys and values of 2 heads of 16, float32, 4 layers and one that is being made; spread over 4 heads in one
    assert parts["kv_cache"] == tokens * 32 * 8 * 5 + tokens * 2 * 4 * 64


def test_a_layer_by_hand() -> None:
    # both norms' inputs and normalised values, two inputs of matrices; feed-forward three and one; attention in and out
    whole = 4 * (4 * 64 + 2 * 64) + 4 * (3 * 176 + 176) + 4 * (2 * 64 + 4)
    assert activation_bytes(ASKED) == whole
    lora = replace(ASKED, adapter=1000, adapter_targets=56)
    assert activation_bytes(lora) == whole - 4 * 2 * 64 + 4 * 56


def test_phases_hold_what_is_there_at_once() -> None:
    plan = memory_plan(ASKED)
    parts, phases = plan.parts, plan.phases
    assert phases["update"] >= sum(parts[name] for name in ("weights", "gradients", "optimizer", "activations"))
    assert phases["rollout"] >= sum(parts[name] for name in ("weights", "optimizer", "kv_cache"))
    assert plan.total == max(phases.values())
    first = memory_plan(replace(ASKED, steps=1)).phases
    assert phases["update"] - first["update"] == parts["optimizer"]  # there is none before the first step
    beside = memory_plan(replace(ASKED, reference=True))
    assert beside.total - plan.total == beside.parts["reference"] == parts["weights"]


def test_the_best_checkpoint_takes_the_place_of_what_was_trained() -> None:
    asked = replace(ASKED, autocast=True, on_cpu=False, engine=1000)
    parts, phases = memory_plan(asked).parts, memory_plan(asked).phases
    sampling = phases["rollout"] - parts["weights"] - parts["optimizer"]
    assert phases["final evaluation"] == parts["best_checkpoint"] + sampling
    for trained in ({"reference": True}, {"optimizer_numbers": 9}, {"several": True}):
        assert memory_plan(replace(asked, **trained)).phases["final evaluation"] == phases["final evaluation"], trained


def test_models_on_seats_are_there_all_the_time() -> None:
    alone, three = memory_plan(ASKED), memory_plan(replace(ASKED, seated=3))
    assert three.parts["seated"] == 3 * three.parts["best_checkpoint"]
    assert {size - alone.phases[phase] for phase, size in three.phases.items()} == {three.parts["seated"]}


def test_several_processes_keep_buckets_as_large_as_gradients() -> None:
    one, several = memory_plan(ASKED), memory_plan(replace(ASKED, several=True))
    assert (one.parts["buckets"], several.parts["buckets"]) == (0, 204_672 * 4)
    for phase, size in several.phases.items():
        assert size - one.phases[phase] == (0 if phase == "final evaluation" else 204_672 * 4), phase
    adapter = replace(ASKED, adapter=1000, adapter_targets=56, several=True)
    assert memory_plan(adapter).parts["buckets"] == 4000


@pytest.mark.parametrize("count", [2, 4])
def test_what_is_shared_out_divides_by_the_processes(count: int) -> None:
    one, several = memory_plan(ASKED), memory_plan(replace(ASKED, parts=count))
    assert several.parts["buckets"] == 0
    embedding, whole = 300 * 64 * 4, 204_672 * 4
    assert several.parts["gradients"] - embedding == (one.parts["gradients"] - embedding) / count == whole / count
    for name in ("weights", "optimizer"):
        assert several.parts[name] * count == one.parts[name], name
    for name in ("kv_cache", "best_checkpoint"):
        assert several.parts[name] == one.parts[name], name
    assert several.parts["gathered"] == several.parts["saved_weights"] == whole
    own = several.parts["weights"] + several.parts["optimizer"]
    assert several.phases["rollout"] - one.phases["rollout"] == own + whole - 3 * whole
    layer = (whole - embedding) / 4
    # weights of what lies around the layers and of two of them; gradients of the former and, twice, of one layer
    assert several.parts["gathered_in_training"] == 2 * embedding + 2 * layer + 2 * layer
    process = several.parts["process"]
    assert several.phases["loading"] == whole + process
    assert several.phases["saving"] == own + whole + 2 * embedding + process
    assert memory_plan(replace(ASKED, parts=count, on_cpu=False)).phases["saving"] == own + 2 * embedding


def test_one_process_has_all_parts() -> None:
    assert memory_plan(replace(ASKED, parts=1, gathered_bytes=2)) == memory_plan(ASKED)


def test_parts_are_gathered_in_what_training_computes_in() -> None:
    mixed = replace(ASKED, autocast=True, on_cpu=False, parts=4, gathered_bytes=2)
    parts, phases = memory_plan(mixed).parts, memory_plan(mixed).phases
    assert (parts["weights"], parts["gathered"], parts["saved_weights"]) == (204_672, 204_672 * 2, 0)  # on the host
    alone = memory_plan(replace(mixed, parts=1)).phases["rollout"]
    whole = 204_672 * 4
    # parts of weights and of two optimizer numbers, and in place of autocast's copies the gathered weights
    assert alone - phases["rollout"] == 3 * whole - 3 * whole / 4
    beside = memory_plan(replace(mixed, reference=True))
    more = {name: beside.phases[name] - size for name, size in phases.items()}  # whole on every process, to the end
    assert more == {name: 0 if name == "final evaluation" else 204_672 * 4 for name in phases}
    adapter = memory_plan(replace(ASKED, adapter=1000, adapter_targets=56, parts=2)).parts
    assert (adapter["weights"], adapter["gradients"], adapter["optimizer"]) == (204_672 * 2 + 2000, 2000, 4000)


def test_shared_out_rows_are_packed() -> None:
    tokens, width = 78 + 3 * 8, 78 + 3 * 8
    kept = 4 * tokens * (activation_bytes(ASKED) + 2 * 4 * 64) + tokens * 4 * 64 * 2 + tokens * width * (1 + 4)
    assert memory_plan(replace(ASKED, parts=2)).parts["activations"] == kept
    apart = replace(ASKED, shared=False)
    assert memory_plan(replace(apart, parts=2)).parts["activations"] == memory_plan(apart).parts["activations"]


def test_an_adapter_trains_little_and_a_quantized_base_is_small() -> None:
    parts = memory_plan(replace(ASKED, adapter=1000, adapter_targets=56)).parts
    assert (parts["weights"], parts["gradients"], parts["optimizer"]) == (204_672 * 4 + 4000, 4000, 8000)
    rounded = memory_plan(replace(ASKED, adapter=1000, adapter_targets=56, quantization="4bit", weight_bytes=2)).parts
    assert rounded["weights"] < 204_672
    served = memory_plan(replace(ASKED, in_process=False)).parts
    assert served["kv_cache"] == 0


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_more_of_anything_never_takes_less(shared: bool, checkpointing: bool) -> None:
    asked = replace(ASKED, shared=shared, checkpointing=checkpointing)
    least = memory_plan(asked).total
    for width in (41, 64, 512):
        longer = replace(asked, micro=[Batch(2, 3, width, 2 * width - 2)] * 2, longest_prompt=width)
        assert least <= (least := memory_plan(longer).total)
    least = memory_plan(asked).total
    for more in ({"answer_tokens": 64}, {"live": 500}, {"micro": [Batch(4, 9, 40, 156)] * 2}, {"optimizer_numbers": 3}):
        assert memory_plan(replace(asked, **more)).total >= least


def test_checkpointing_spares_memory_in_a_deep_model() -> None:
    deep = replace(ASKED, shape=replace(SHAPE, layers=24), micro=[Batch(20, 40, 200, 3980)] * 2)
    assert memory_plan(replace(deep, checkpointing=True)).total < memory_plan(deep).total


@contextmanager
def keeping(seen: dict[int, int], model: PreTrainedModel) -> Iterator[None]:
    """Adds up the storages that autograd keeps, weights and their copies of half precision left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    shapes = {shape for p in model.parameters() for shape in (tuple(p.shape), tuple(p.shape)[::-1])}

    def pack(kept: torch.Tensor) -> torch.Tensor:
        storage = kept.untyped_storage()
        if storage.data_ptr() not in own and tuple(kept.shape) not in shapes:
            seen[storage.data_ptr()] = storage.nbytes()
        alive.append(kept)  # an address is used again once it is free
        return kept

    alive: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        yield


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(
    ("weights", "autocast"), [(torch.float32, False), (torch.float32, True), (torch.bfloat16, False)]
)
def test_activations_are_what_torch_keeps(shared: bool, lora: bool, weights: torch.dtype, autocast: bool) -> None:
    prompts, answers, width, length = 2, 6, 60, 8
    config = Qwen2Config(
        vocab_size=300, hidden_size=64, intermediate_size=176, num_hidden_layers=8, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=512,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).to(weights)
    if lora:
        get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    rng = torch.Generator().manual_seed(0)
    beginning = torch.randint(5, 300, (prompts, width), generator=rng)[torch.arange(answers) % prompts]
    ids = torch.cat([beginning, torch.randint(5, 300, (answers, length), generator=rng)], dim=1)
    sharing = Sharing(8, a_pass=50)  # each prompt is worth a pass, and nothing that answers share
    seen: dict[int, int] = {}
    with keeping(seen, model), torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        if shared:
            sharing.logprobs(model, ids, torch.ones_like(ids), length, entropy=True)
        else:
            labels = ids.masked_fill(torch.arange(width + length) < width, -100)
            model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, fused_lm_head=True)
    asked = replace(
        ASKED,
        shape=replace(SHAPE, layers=8),
        weight_bytes=weights.itemsize,
        autocast=autocast,
        adapter=1000 if lora else None,
        adapter_targets=7 * 8 if lora else 0,
        shared=shared,
        micro=[Batch(prompts if shared else answers, answers, width, prompts * (width - 1))],
        answer_tokens=length,
    )
    assert memory_plan(asked).parts["activations"] == pytest.approx(sum(seen.values()), rel=0.1)


@pytest.mark.parametrize("apart", [False, True])
def test_keys_and_values_are_kept_for_every_level_that_sees_them(apart: bool) -> None:
    common, bundles, own, length = 90, 16, 12, 8
    rng = torch.Generator().manual_seed(0)

    def drawn(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, 300, (count,), generator=rng).tolist())

    first, heads = drawn(common), [drawn(own) for _ in range(bundles)]
    rows = [
        Row((*first, *heads[number % bundles]), drawn(length), (0.0,) * length, 1.0, number)
        for number in range(2 * bundles)
    ]
    config = Qwen2Config(
        vocab_size=300, hidden_size=64, intermediate_size=176, num_hidden_layers=8, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=512,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    ids = torch.tensor([row.prompt_ids + row.completion_ids for row in rows])
    seen: dict[int, int] = {}
    with keeping(seen, model):
        Sharing(8, a_pass=50, apart=apart).logprobs(model, ids, torch.ones_like(ids), length, entropy=True)
    (batch,) = _micro_batches(rows, len(rows), None, 50, False, 1, length)
    assert batch.common == common
    batch = batch if apart else replace(batch, common=0)
    kept = sum(seen.values())
    asked = replace(ASKED, shape=replace(SHAPE, layers=8), micro=[batch], answer_tokens=length)
    assert memory_plan(asked).parts["activations"] == pytest.approx(kept, rel=0.1)
    other = replace(asked, micro=[replace(batch, common=0 if apart else common)])
    assert memory_plan(other).parts["activations"] != pytest.approx(kept, rel=0.1)
    if not apart:
        without = replace(asked, micro=[replace(batch, handed=0)])
        assert memory_plan(without).parts["activations"] < 0.9 * kept
