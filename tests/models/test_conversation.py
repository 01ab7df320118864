"""What a tokenizer's template prints, where turns end, and that an answer comes back as it was sampled."""

from __future__ import annotations

import datetime

import pytest

from msgrpo_cli.errors import UsageError
from msgrpo_cli.models.conversation import PLAIN_TEMPLATE, Conversation
from support.templates import CHATML, DATED, DATED_SYSTEM, FORGETS_SYSTEM, NO_SYSTEM, SEPARATED, tokenizer

PLAY = (("system", "the rules"), ("user", "the state"))


def read(conversation: Conversation) -> str:
    return conversation.tokenizer.decode(list(conversation.prompt_ids(PLAY)))


@pytest.mark.parametrize(
    ("template", "added", "ends"),
    [
        (CHATML, (), {"<|endoftext|>", "<|im_end|>"}),
        (DATED, ("<|eot_id|>",), {"<|endoftext|>", "<|eot_id|>"}),
        (NO_SYSTEM, (), {"<|endoftext|>"}),
        (SEPARATED, ("<|sep|>",), {"<|endoftext|>", "<|sep|>"}),
    ],
    ids=["chatml", "llama", "mistral", "separated"],
)
def test_a_turn_ends_where_the_template_ends_it_and_where_it_is_declared(
    template: str, added: tuple[str, ...], ends: set[str]
) -> None:
    words = tokenizer(template, *added)
    found = Conversation(words)
    assert set(words.convert_ids_to_tokens(list(found.ends))) == ends
    [line] = [note for note in found.notes if note.startswith("answers end at")]
    assert all(end in line for end in ends)


def test_ends_that_the_model_declares_and_that_a_user_names_count_too() -> None:
    words = tokenizer(CHATML, "<|stop|>", "<|more|>")
    stop, more = words.convert_tokens_to_ids(["<|stop|>", "<|more|>"])
    assert {stop, more} <= set(Conversation(words, declared_ends=[stop], end_of_turn=["<|more|>"]).ends)
    with pytest.raises(UsageError, match=r"model\.end_of_turn=two words: 9 tokens of this tokenizer"):
        Conversation(words, end_of_turn=["two words"])


def test_an_end_that_is_no_token_is_told() -> None:
    found = Conversation(tokenizer(CHATML.replace("<|im_end|>", "</turn>")))
    assert any("writes '</turn>' behind an answer, which is no single token" in note for note in found.notes)
    assert not any("warning" in note for note in Conversation(tokenizer(CHATML)).notes)


def test_special_tokens_inside_an_answer_stay_text() -> None:
    words = tokenizer(CHATML, "<think>", "<action>", "</action>")
    found = Conversation(words)
    ids = [*words.encode("<think>go<action>up</action>", add_special_tokens=False)]
    assert len(ids) < 10, "they are single tokens"
    end = words.convert_tokens_to_ids("<|im_end|>")
    assert found.text([*ids, end, *ids]) == "<think>go<action>up</action>"
    assert found.text(ids) == "<think>go<action>up</action>"
    assert found.text(found.answer_ids("<action>up</action>")) == "<action>up</action>"
    assert found.text([end]) == found.text([]) == ""


def test_a_date_is_the_one_that_is_given_on_any_day() -> None:
    words = tokenizer(DATED, "<|eot_id|>")
    first, second = Conversation(words, date="2025-03-04"), Conversation(words, date="2026-07-08")
    assert first.reads_the_clock and "04 Mar 2025" in read(first) and "08 Jul 2026" in read(second)
    assert any("2025-03-04 (prompt.date)" in note for note in first.notes)
    today = Conversation(words)
    assert today.date == datetime.date.today().isoformat() and today.prompt_ids(PLAY) != first.prompt_ids(PLAY)
    said = Conversation(words, date="2025-03-04", chat_template_kwargs={"date_string": "long ago"})
    assert "Today Date: long ago" in read(said) and not said.reads_the_clock
    assert not Conversation(tokenizer(CHATML)).reads_the_clock


TALK = (*PLAY, ("assistant", "one"), ("user", "more"))
TODAY = "{{ strftime_now('%d %b %Y') }}"


@pytest.mark.parametrize(
    "template",
    [
        DATED_SYSTEM,
        "{% for m in messages %}{% if m.role == 'assistant' %}" + TODAY + "{% endif %}{{ m.content }}\n{% endfor %}",
        "{% if messages | length > 2 %}" + TODAY + "{% endif %}" + CHATML,
        "{% if messages | length > 6 and messages[0].role != 'system' %}" + TODAY + "{% endif %}" + CHATML,
        "{% if messages[0].role != 'system' %}" + TODAY + "{% endif %}" + CHATML,
        "{% if tools %}" + TODAY + "{% endif %}" + CHATML,
    ],
    ids=["system", "answers", "history", "long history, no system", "no system", "tools"],
)
def test_a_date_in_any_branch_is_noticed(template: str) -> None:
    tools = [{"type": "function", "function": {"name": "up", "description": "", "parameters": {}}}]
    found = Conversation(tokenizer(template), date="2025-03-04", chat_template_kwargs={"tools": tools})
    assert found.reads_the_clock
    assert [note for note in found.notes if "2025-03-04" in note] == [
        "the chat template reads the date: 2025-03-04 (prompt.date)"
    ]


def test_a_date_that_nothing_reads_is_said_to_change_nothing() -> None:
    words = tokenizer(CHATML)
    told = "prompt.date=2025-03-04 changes nothing: the chat template reads no date"
    assert told in Conversation(words, date="2025-03-04").notes
    assert not [note for note in Conversation(words).notes if "date" in note]


def test_a_date_that_no_trial_brings_to_light_is_refused_rather_than_read_anew_each_day() -> None:
    words = tokenizer("{% if 'the state' in messages[-1].content %}" + TODAY + "{% endif %}" + CHATML)
    found = Conversation(words)
    assert not found.reads_the_clock and found.prompt_ids((("user", "another"),))
    with pytest.raises(UsageError, match=rf"^prompt\.date: .*give prompt\.date={found.date}$"):
        found.prompt_ids(PLAY)
    assert "04 Mar 2025" in read(Conversation(words, date="2025-03-04"))


@pytest.mark.parametrize(
    ("format", "said"),
    [
        ("%F", "2025-03-04"),
        ("%D", "03/04/25"),
        ("%h %e", "Mar  4"),
        ("%-d/%-m", "4/3"),
        ("%%d", "%d"),
        ("100%% of %Y", "100% of 2025"),
        ("%T", "00:00:00"),
        ("%H:%M:%S.%f", "00:00:00.000000"),
        ("%^b it\\'s \\\\ {{ %} é😀", "MAR it's \\ {{ %} é😀"),
    ],
)
def test_every_directive_is_what_python_makes_of_it_on_that_day(format: str, said: str) -> None:
    for template in (
        "{{ strftime_now('" + format + "') | upper }}",
        "{% set f = '" + format + "' %}{{ strftime_now(f) }}",
    ):
        found = Conversation(tokenizer(template + CHATML), date="2025-03-04")
        expected = said.upper() if "upper" in template else said
        assert read(found) == f"{expected}<|im_start|>system\nthe rules<|im_end|>\n" + (
            "<|im_start|>user\nthe state<|im_end|>\n<|im_start|>assistant\n"
        )
        timed = any("where it reads the time of day, that is 00:00" in note for note in found.notes)
        assert timed == ("00:00" in said)


@pytest.mark.parametrize("beginning", ["\n\n", "  ", "  {% if true %}x{% endif %}", "\n  {%- if true %}x{% endif %}\n"])
def test_a_dated_template_is_read_to_the_letter(beginning: str) -> None:
    dated, plain = (f"{beginning}{day}{CHATML}" for day in (TODAY, "04 Mar 2025"))
    assert read(Conversation(tokenizer(dated), date="2025-03-04")) == read(Conversation(tokenizer(plain)))


def test_transformers_own_clock_says_the_same() -> None:
    words = tokenizer(DATED_SYSTEM)
    conversation = [{"role": role, "content": content} for role, content in TALK]
    for _ in range(2):  # once more, should midnight fall between
        theirs = words.apply_chat_template(conversation, add_generation_prompt=True)["input_ids"]
        ours = list(Conversation(words).prompt_ids(TALK))
        if ours == theirs:
            break
    assert ours == theirs


@pytest.mark.parametrize(("template", "how"), [(NO_SYSTEM, "refuses"), (FORGETS_SYSTEM, "leaves out")])
def test_a_system_text_that_the_template_does_not_take_goes_into_the_first_user_turn(template: str, how: str) -> None:
    found = Conversation(tokenizer(template))
    assert any(f"template {how} system messages" in note for note in found.notes)
    assert "the rules\n\nthe state" in read(found)
    if template == NO_SYSTEM:
        with pytest.raises(UsageError, match="System role not supported"):
            Conversation(tokenizer(template), system_role="system").prompt_ids(PLAY)
    talk = (*PLAY, ("assistant", "one"), ("user", "more"))
    assert found.tokenizer.decode(list(found.prompt_ids(talk))).count("the rules") == 1


def test_a_system_text_goes_where_it_is_sent() -> None:
    assert "the rules\n\nthe state" in read(Conversation(tokenizer(CHATML), system_role="user"))
    assert "system\nthe rules" in read(Conversation(tokenizer(CHATML)))


def test_a_base_model_is_asked_in_plain_text_and_that_is_told() -> None:
    found = Conversation(tokenizer(PLAIN_TEMPLATE))
    assert read(found) == "the rules\n\nUser: the state\nAssistant:"
    assert any("no chat template" in note and "model.chat_template_file" in note for note in found.notes)
    assert found.ends == (found.tokenizer.eos_token_id,)


def test_padding_falls_back_to_the_end_of_turn() -> None:
    words = tokenizer(CHATML)
    assert Conversation(words).pad_id == words.pad_token_id
    words.pad_token = None
    assert Conversation(words).pad_id == words.eos_token_id


def test_a_prefix_ends_the_prompt_and_begins_the_answer() -> None:
    words = tokenizer(CHATML, "<action>", "</action>")
    plain, begun = Conversation(words), Conversation(words, answer_prefix="<action>")
    prefix = words.encode("<action>", add_special_tokens=False)
    assert begun.prompt_ids(PLAY) == (*plain.prompt_ids(PLAY), *prefix)
    sampled = [*words.encode("up</action>", add_special_tokens=False), words.convert_tokens_to_ids("<|im_end|>")]
    assert begun.text(sampled) == begun.spoken(sampled) == "<action>up</action>"
    assert begun.answer_ids("<action>up</action>")[:-1] == sampled[:-1]
    assert begun.ends == plain.ends
    with pytest.raises(UsageError, match=r"prompt\.answer_prefix=<action>: the answer up does not begin so"):
        begun.answer_ids("up")


@pytest.mark.parametrize("prefix", ["<|im_end|>", "<think></think><|im_end|>\n<|im_start|>assistant\n"])
def test_a_prefix_that_ends_the_turn_is_refused(prefix: str) -> None:
    with pytest.raises(
        UsageError, match=r"^prompt\.answer_prefix=.*: holds <\|im_(end|start)\|>, with which a turn ends"
    ):
        Conversation(tokenizer(CHATML), answer_prefix=prefix)
