"""The Language-Agent Policy on real models whose weights say a typed-in answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from msgrpo_cli.config.compose import compose
from msgrpo_cli.episode import Completion, Start
from msgrpo_cli.errors import RunError
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.models.conversation import Conversation
from msgrpo_cli.models.embedded import make_tokenizer
from msgrpo_cli.models.factory import at_temperature
from msgrpo_cli.models.generation import Sampling
from msgrpo_cli.models.loading import ends_of
from msgrpo_cli.models.policy import LanguageAgentPolicy, too_long
from msgrpo_cli.models.shared_generation import generate_shared
from msgrpo_cli.rollout.play import Decision, PlayRules, play_episodes
from msgrpo_cli.rollout.prompt import PromptTemplate
from support.parts import agent, small_model

BOARD = ("SFFF", "FHFH", "FFFH", "HFFG")
USER, ASSISTANT, END, BREAK, YOU, ICE, HOLE, GOAL = 3, 4, 5, 8, 14, 15, 16, 17
UP = ["<action>", "up", "</action>", "<end>"]


def ids_of(words: Sequence[str]) -> list[int]:
    vocabulary = make_tokenizer().get_vocab()
    return [vocabulary[word] for word in words]


def saying(*words: str) -> LlamaForCausalLM:
    """A Llama without layers that answers with `words`, each of which follows from the one before it alone."""
    size = len(make_tokenizer())
    config = LlamaConfig(
        vocab_size=size, hidden_size=64, intermediate_size=8, num_hidden_layers=0, num_attention_heads=4,
        max_position_embeddings=256, pad_token_id=0, eos_token_id=END, bos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    answer = ids_of(words)
    assert len(set(answer)) == len(answer)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size, 64))
        model.lm_head.weight.zero_()
        for before, after in zip([ASSISTANT, *answer], [*answer, answer[-1]], strict=False):
            model.lm_head.weight[after, before] = 20.0
    return model


def decision(cell: int = 0, observation: str = "compact", member: int = 0) -> Decision:
    game = FrozenLake(max_steps=8)
    game.reset(seed=0)
    game.board, game.cell = BOARD, cell
    return Decision(game, game.describe(observation), (0, 1, 0, member, 0))  # type: ignore[arg-type]


def policy_of(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast | None = None,
    system: str | None = None,
    **settings: Any,
) -> LanguageAgentPolicy:
    template = PromptTemplate(system, "{{ observation }}")
    arguments = {"max_prompt_tokens": 64, **settings}
    conversation = Conversation(tokenizer or make_tokenizer(), declared_ends=ends_of(model.generation_config))
    return LanguageAgentPolicy(model, conversation, template, Sampling(1.0, 8), **arguments)


def said(*words: str) -> Completion:
    (completion,) = policy_of(saying(*words)).act([decision()])
    assert completion.token_ids[: len(words)] == tuple(ids_of(words))
    return completion


def test_an_answer_is_decoded_and_parsed() -> None:
    completion = said(*UP)
    assert (completion.text, completion.action, completion.truncated) == ("<action>up</action>", "up", False)
    assert completion.token_ids == (6, 12, 7, 5), "the end-of-turn id stays"
    assert completion.logprobs == pytest.approx((0.0,) * 4, abs=1e-3)


def test_the_prompt_is_the_current_state_in_the_chat_template() -> None:
    (completion,) = policy_of(saying(*UP)).act([decision(cell=8)])
    rows = [[ICE] * 4, [ICE, HOLE, ICE, HOLE], [YOU, ICE, ICE, HOLE], [HOLE, ICE, ICE, GOAL]]
    cells = [token for row in rows for token in (*row, BREAK)][:-1]
    assert completion.prompt_ids == (USER, *cells, END, ASSISTANT)


def test_a_system_text_comes_first() -> None:
    (completion,) = policy_of(saying(*UP), system="{{ actions | join(' ') }}").act([decision()])
    assert completion.prompt_ids[:8] == (2, 9, 10, 11, 12, END, USER, YOU)


def test_keys_reach_the_chat_template() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "<user>{{ messages[0].content }}<end>{% if thinking %}<system>{% endif %}<assistant>"
    messages = (("user", "P"),)
    assert Conversation(tokenizer, chat_template_kwargs={"thinking": True}).prompt_ids(messages)[-3:] == (
        END,
        2,
        ASSISTANT,
    )
    assert Conversation(tokenizer).prompt_ids(messages)[-2:] == (END, ASSISTANT)


def test_the_text_is_all_that_was_sampled() -> None:
    completion = said("<action>", "up", "</action>", "<user>", "P", ".", "O", "G")
    assert (completion.text, completion.action, completion.truncated) == ("<action>up</action><user>P.OG", "up", True)
    assert len(completion.token_ids) == 8, "all that was sampled is kept for training"


@pytest.mark.parametrize("before", [["<user>"], ["P", "<user>"]])
def test_an_action_in_a_made_up_turn_is_never_read(before: list[str]) -> None:
    completion = said(*before, *UP)
    assert (completion.text, completion.action) == ("".join([*before, *UP[:-1]]), None)
    assert completion.token_ids[-1] == END


@pytest.mark.parametrize("before", ["<pad>", "<unk>", "<system>"])
def test_a_special_token_that_begins_no_turn_hides_no_action(before: str) -> None:
    completion = said(before, *UP)
    assert (completion.text, completion.action) == ("".join([before, *UP[:-1]]), "up")
    assert completion.token_ids[-1] == END


def test_an_empty_answer_is_invalid_and_keeps_its_end() -> None:
    completion = said("<end>")
    assert (completion.text, completion.action, completion.truncated) == ("", None, False)
    assert completion.token_ids == (END,)
    assert len(completion.logprobs) == 1


def test_an_endless_answer_is_truncated() -> None:
    completion = said("<action>", "up", ".")
    assert completion.truncated
    assert completion.token_ids == (6, 12, 15, 15, 15, 15, 15, 15)
    assert completion.action is None


def test_one_completion_for_each_decision_in_order() -> None:
    model, tokenizer = small_model()
    cells = [0, 9, 14, 0, 4]
    completions = agent(model, tokenizer).act([decision(cell, member=number) for number, cell in enumerate(cells)])
    assert [completion.prompt_ids[1:-2].index(YOU) for completion in completions] == [0, 11, 17, 0, 5]
    assert completions[0].prompt_ids == completions[3].prompt_ids
    assert completions[0].token_ids != completions[3].token_ids, "the same question, but other keys"


def test_the_same_text_is_encoded_once() -> None:
    policy = policy_of(saying(*UP))
    first, second, other = policy.act([decision(cell=9), decision(cell=9), decision(cell=8)])
    assert first.prompt_ids is second.prompt_ids
    assert policy.act([decision(cell=9)])[0].prompt_ids is first.prompt_ids
    assert other.prompt_ids != first.prompt_ids


def test_a_prompt_that_is_too_long_names_both_lengths() -> None:
    assert policy_of(saying(*UP), max_prompt_tokens=22).act([decision()])[0].action == "up"
    with pytest.raises(
        RunError,
        match=r"rollout\.max_prompt_tokens=21: a prompt of FrozenLake has 22 tokens, and prompts are never cut",
    ):
        policy_of(saying(*UP), max_prompt_tokens=21).act([decision()])


LONG = "a prompt of lake has 90 tokens"
SMALLER = "a smaller game, a shorter prompt"


@pytest.mark.parametrize(
    ("most", "answer", "context", "more", "said"),
    [
        (90, 10, 100, {}, None),
        (90, 10, None, {}, None),
        (89, 10, 100, {"compact": True}, f"most: {LONG}, and prompts are never cut: raise the limit, or choose "
         "a smaller game or a shorter prompt"),
        (89, 10, None, {"history": 1}, f"most: {LONG}, and prompts are never cut: raise the limit, or choose "
         "prompt.observation=compact, less prompt.history, a smaller game or a shorter prompt"),
        (90, 11, 100, {"compact": True}, f"answer: {LONG} and the model's context is 100: lower it to at most 10, or "
         f"choose {SMALLER} or a model with a longer context"),
        (80, 20, 100, {"compact": True}, f"most: {LONG} and the model's context is 100: raise the limit and lower "
         f"rollout.max_new_tokens=20 to at most 10, or choose {SMALLER} or a model with a longer context"),
        (80, 20, 80, {"compact": True}, f"most: {LONG} and the model's context is 80: choose {SMALLER} or a model "
         "with a longer context"),
        (90, 20, 90, {"compact": True}, f"answer: {LONG} and the model's context is 90: choose {SMALLER} or a model "
         "with a longer context"),
    ],
)  # fmt: skip
def test_only_what_can_help_is_advised_against_a_long_prompt(
    most: int, answer: int, context: int | None, more: dict[str, Any], said: str | None
) -> None:
    keys = {"most:": f"rollout.max_prompt_tokens={most}:", "answer:": f"rollout.max_new_tokens={answer}:"}
    if said is not None:
        said = re.sub("^(most|answer):", lambda found: keys[found[0]], said)
    assert too_long(90, most, answer, context, "lake", **more) == said


def test_a_prompt_that_grew_too_long_is_advised_by_how_it_is_shown() -> None:
    with pytest.raises(RunError) as compact:
        policy_of(saying(*UP), max_prompt_tokens=21).act([decision()])
    assert "compact" not in str(compact.value) and "history" not in str(compact.value)


def test_the_model_runs_in_the_given_precision() -> None:
    entered = []

    @contextmanager
    def precision() -> Iterator[None]:
        entered.append("once")
        yield

    policy_of(saying(*UP), precision=precision).act([decision()])
    assert entered == ["once"]


def test_an_end_that_only_the_model_declares_ends_the_text_too() -> None:
    model = saying("<action>", "up", "</action>", "G", "P")
    model.generation_config.eos_token_id = [END, GOAL]
    (completion,) = policy_of(model).act([decision()])
    assert (completion.text, completion.truncated) == ("<action>up</action>", False)
    assert completion.token_ids == (6, 12, 7, GOAL)


def test_words_that_the_tokenizer_does_not_know_are_counted() -> None:
    policy = policy_of(saying(*UP))
    assert policy.unknown_words(FrozenLake(), "compact") == 0
    cliff = make_game(compose("train", ["env=cliffwalking"]).env)
    cliff.reset(seed=0)
    assert policy.unknown_words(cliff, "compact") == 0
    assert policy.unknown_words(cliff, "full") == 36


def test_what_is_kept_while_playing_is_gone_when_the_weights_change() -> None:
    """Two plays of one policy, whose weights change in between, are those of policies that keep nothing."""
    model, tokenizer = small_model()
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(8.0)
    template = PromptTemplate("P " * 100 + "{{ rules }}", "{{ observation }}")
    starts = [Start(number // 4, number // 4, number % 4, (0, 1, number // 4, number % 4)) for number in range(24)]
    lengths: list[int] = []

    class Watched(LanguageAgentPolicy):
        def act(self, decisions: Sequence[Decision]) -> list[Completion]:
            found = super().act(decisions)
            lengths.extend(0 if self._kept is None else len(self._kept.common.token_ids) for one in found)
            return found

    def played(memory: int) -> list[tuple[int, ...]]:
        conversation = Conversation(tokenizer)
        policy = Watched(
            model, conversation, template, Sampling(1.0, 6), max_prompt_tokens=500,
            generator=generate_shared, prefix_memory=memory,
        )  # fmt: skip
        episodes = play_episodes(starts, lambda: FrozenLake(max_steps=4), policy, PlayRules(invalid_action="random"))
        with torch.no_grad():
            model.lm_head.weight.mul_(-1.0)  # and back, after two plays
            model.model.layers[0].self_attn.v_proj.weight.mul_(-1.0)
        again = play_episodes(starts, lambda: FrozenLake(max_steps=4), policy, PlayRules(invalid_action="random"))
        with torch.no_grad():
            model.lm_head.weight.mul_(-1.0)
            model.model.layers[0].self_attn.v_proj.weight.mul_(-1.0)
        return [step.completion.token_ids for episode in [*episodes, *again] for step in episode.steps]

    plain = played(0)
    assert set(lengths) == {0}
    lengths.clear()
    assert played(2**30) == plain
    assert max(lengths) > 100


def test_what_was_said_at_one_temperature_is_known_at_another() -> None:
    model, tokenizer = small_model()
    policy = LanguageAgentPolicy(
        model, Conversation(tokenizer), PromptTemplate(None, "{{ observation }}"), Sampling(1.0, 6),
        max_prompt_tokens=100, generator=generate_shared, prefix_memory=2**24,
    )  # fmt: skip
    starts = [Start(number, number, 0, (0, number)) for number in range(12)]
    asked: list[int] = []
    model.register_forward_pre_hook(lambda *_: asked.append(1))

    def play(of: LanguageAgentPolicy) -> list[tuple[int, ...]]:
        episodes = play_episodes(starts, lambda: FrozenLake(max_steps=3), of, PlayRules(invalid_action="random"))
        return [step.completion.token_ids for episode in episodes for step in episode.steps]

    alone = play(at_temperature(policy, 0.0))
    with policy.unchanged():
        greedy = play(at_temperature(policy, 0.0))
        asked.clear()
        again = play(at_temperature(policy, 0.0))
        assert not asked, "every text was read before"
    assert alone == greedy == again and policy._kept is None
    play(at_temperature(policy, 0.0))
    assert asked, "outside nothing is kept"
