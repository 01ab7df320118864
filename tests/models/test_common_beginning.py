"""Behind a common beginning a model says what it says with it, and no row copies it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AttentionInterface, DynamicCache

from msgrpo_cli.common.seeding import Key
from msgrpo_cli.models import common_beginning
from msgrpo_cli.models.beginnings import common_tokens, pays
from msgrpo_cli.models.caches import has_plain_cache
from msgrpo_cli.models.common_beginning import CommonBeginning, behind, read_common, sees_common
from msgrpo_cli.models.generation import Request, Sampling, generate
from msgrpo_cli.models.kept_beginnings import KeptBeginnings
from msgrpo_cli.models.shared_generation import generate_shared
from support.parts import sharp_model
from support.small_models import adapted, biased, eager, local, qwen2, recurrent, sliding, without_positions
from support.zoo import ZOO

ENDS = [5, 6]
RULES = tuple(7 + n % 9 for n in range(70))
KEYS: list[Key] = [(0, number) for number in range(48)]


def asked(begin: tuple[int, ...] = RULES, temperature: float = 1.0, kept: KeptBeginnings | None = None) -> Request:
    """48 prompts, nine distinct ones of unlike lengths; one is the beginning of another."""
    prompts = [(*begin, *(7 + (n % 9 + place) % 9 for place in range(1 + n % 3 * 5))) for n in range(48)]
    return Request(prompts, KEYS, Sampling(temperature, max_new_tokens=7), 0, ENDS, kept)


def assert_as_generate(model: Any, request: Request) -> None:
    found, wanted = generate_shared(model, request), generate(model, request)
    assert [one.token_ids for one in found] == [one.token_ids for one in wanted]
    assert len({one.token_ids for one in found}) > 1
    for one, other in zip(found, wanted, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
@pytest.mark.parametrize("make", [sharp_model, qwen2, eager, lambda: adapted().get_base_model()])
def test_answers_are_those_of_generate(make: Any, temperature: float) -> None:
    model = make()
    kept = KeptBeginnings(model, 10**9)
    for _ in range(2):  # the second time from what is kept
        assert_as_generate(model, asked(temperature=temperature, kept=kept))
    assert kept.common is not None
    assert kept.common.token_ids == (*RULES, 7)[: len(RULES)]
    assert_as_generate(model, asked(temperature=temperature))


@pytest.mark.parametrize("make", [sliding, local, biased, recurrent, without_positions])
def test_whoever_cannot_answers_as_ever(make: Any) -> None:
    model = make()
    kept = KeptBeginnings(model, 10**9)
    assert_as_generate(model, asked(RULES[:40], kept=kept))
    assert not sees_common(model)
    assert kept.common is None


@pytest.mark.parametrize("name", ZOO)
def test_architectures_that_can(name: str) -> None:
    """All whose caches keep every token, but Falcon, whose attention does without transformers'."""
    model, _ = ZOO[name].made()
    assert sees_common(model) == (has_plain_cache(model) and name != "falcon")


def test_no_row_has_the_beginning_in_its_cache() -> None:
    model, lengths = sharp_model(), list[tuple[int, int]]()

    def looks(module: Any, arguments: Any, given: Any) -> None:
        cache = given.get("past_key_values")
        lengths.append((len(given["input_ids"]), cache.get_seq_length() if cache else 0))

    hook = model.model.register_forward_pre_hook(looks, with_kwargs=True)
    generate_shared(model, asked())
    hook.remove()
    assert max(rows for rows, _ in lengths) > 9
    assert max(length for _, length in lengths) < len(RULES)


def test_attention_that_is_not_seen_through_is_found_out() -> None:
    """A planted fault: the beginning is left out."""

    def forgets(module: Any, query: Any, key: Any, value: Any, mask: Any, **others: Any) -> Any:
        return AttentionInterface()["sdpa"](module, query, key, value, mask, **others)

    assert sees_common(sharp_model())
    AttentionInterface.register(common_beginning._NAME, forgets)
    try:
        assert not sees_common(sharp_model())
    finally:
        AttentionInterface.register(common_beginning._NAME, common_beginning._attend)
    assert sees_common(sharp_model())


@pytest.mark.parametrize(("error", "same"), [(1e-4, True), (0.1, False)])
def test_rounding_that_a_model_blows_up_is_no_fault(error: float, same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted error of this share in every layer: as small as one that a trained model's own numbers make, or not."""

    def errs(*arguments: Any, **others: Any) -> Any:
        output, weights = common_beginning._attend(*arguments, **others)
        return output * (1 + error), weights

    monkeypatch.setattr(common_beginning, "_APART", 0.0)  # numbers of no size have no rounding
    AttentionInterface.register(common_beginning._NAME, errs)
    try:
        assert sees_common(sharp_model()) == same
    finally:
        AttentionInterface.register(common_beginning._NAME, common_beginning._attend)


def test_what_would_change_the_weights_is_not_passed_over() -> None:
    model = sharp_model()
    ids = torch.tensor([[7, 8, 9]])
    with torch.no_grad(), behind(model, read_common(model, RULES)):
        plain = model(input_ids=ids, position_ids=torch.arange(3)[None] + len(RULES))
        assert torch.isfinite(plain.logits).all()
        with pytest.raises(ValueError, match="softcap"):
            model(input_ids=ids, softcap=3.0)
    assert model.config._attn_implementation == "sdpa"


def test_the_beginning_is_what_all_begin_with_and_shorter_than_each() -> None:
    assert common_tokens([(*RULES, 1), (*RULES, 2, 3)]) == RULES
    assert common_tokens([RULES, (*RULES, 2)]) == RULES[:-1]
    assert common_tokens([RULES]) == RULES[:-1]
    assert common_tokens([RULES[:40], (*RULES[:40], 2)]) == (), "too short to be worth it"
    assert common_tokens([(*RULES, 1), (9, *RULES)]) == ()
    assert common_tokens([(*RULES, 1)], more=69) == RULES
    assert common_tokens([(*RULES, 1)], more=70) == (), "more stands behind it than in it"
    assert not pays(1000, 129)


def test_a_known_beginning_stays_as_long_as_it_is_one() -> None:
    longer = (*RULES, 1, 2)
    assert common_tokens([(*longer, 3), (*longer, 4)], known=RULES) == RULES
    assert common_tokens([(*RULES, 3), (*RULES, 4)], known=longer) == RULES
    other = (9, *RULES)
    assert common_tokens([(*other, 1), (*other, 2)], known=RULES) == other[:0], "nothing of the known one is left"


def test_a_part_of_what_is_known_is_not_read_again() -> None:
    model = sharp_model()
    with torch.no_grad():
        whole, part = read_common(model, RULES), read_common(model, RULES[:65])
        read: list[int] = []
        hook = model.model.register_forward_pre_hook(lambda *_: read.append(1))
        cut = read_common(model, RULES[:65], whole)
        hook.remove()
    assert not read
    for (keys, values), (wanted_keys, wanted_values) in zip(cut.layers, part.layers, strict=True):
        assert torch.allclose(keys, wanted_keys, atol=1e-5)
        assert torch.allclose(values, wanted_values, atol=1e-5)


def test_another_beginning_takes_its_place_and_a_budget_can_be_too_small_for_it() -> None:
    model = sharp_model()
    kept = KeptBeginnings(model, 10**9)
    other = (15, *RULES)
    for begin in (RULES, other, RULES, RULES[:30]):
        assert_as_generate(model, asked(begin, kept=kept))
    assert kept.common is None
    assert_as_generate(model, asked(kept=kept))
    common = kept.common
    assert common is not None
    assert common.size == 2 * 2 * len(RULES) * 32 * 4  # keys and values, two layers, float32
    kept.fit(common.size)
    assert kept.common is common
    assert_as_generate(model, asked(kept=kept))
    kept.fit(common.size - 1)
    assert kept.common is None
    assert_as_generate(model, asked(kept=kept))


def test_a_cache_without_keys_is_no_beginning() -> None:
    with pytest.raises(LookupError, match="keeps no keys"):
        CommonBeginning.of(RULES, DynamicCache(config=sharp_model().config))
