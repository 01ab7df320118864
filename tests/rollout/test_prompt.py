"""From a state to messages: what a template may name, and that every shipped one says what it must."""

from __future__ import annotations

import pytest
import yaml
from jinja2 import UndefinedError

from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.rollout.prompt import PromptTemplate
from support.places import ROOT
from support.planted_games import Fenced

FOLDER = ROOT / "conf/prompt"


def lake(slippery: bool = False) -> FrozenLake:
    game = FrozenLake(slippery=slippery, max_steps=8)
    game.reset(seed=0)
    return game


def test_a_template_may_name_rules_actions_limit_and_observation() -> None:
    template = PromptTemplate(
        "Rules: {{ rules }} Say {{ actions | join('/') }} within {{ max_steps }}.",
        "Seen: {{ observation }} {{ actions[3] }}",
    )
    assert template.messages(lake(), "P . G") == (
        ("system", f"Rules: {lake().rules()} Say left/down/right/up within 8."),
        ("user", "Seen: P . G up"),
    )


def test_earlier_states_are_turns_answered_by_their_actions() -> None:
    template = PromptTemplate("{{ actions[0] }}", "Seen: {{ observation }}")
    assert template.messages(lake(), "now", [("first", "up"), ("second", None)]) == (
        ("system", "left"),
        ("user", "Seen: first"),
        ("assistant", "<action>up</action>"),
        ("user", "Seen: second"),
        ("assistant", "<action>none</action>"),
        ("user", "Seen: now"),
    )


@pytest.mark.parametrize("system", [None, ""])
def test_without_a_system_text_there_is_no_system_message(system: str | None) -> None:
    assert PromptTemplate(system, "{{ observation }}").messages(lake(), "here") == (("user", "here"),)


def test_surrounding_blanks_are_dropped_and_line_breaks_within_stay() -> None:
    template = PromptTemplate(None, "\n  {{ observation }}\n\n")
    assert template.messages(lake(), "P .\n. G") == (("user", "P .\n. G"),)


def test_blocks_leave_no_empty_lines() -> None:
    template = PromptTemplate(
        None, "{% for action in actions %}\n  {% if action != 'up' %}\n{{ action }}\n  {% endif %}\n{% endfor %}"
    )
    assert template.messages(lake(), "")[0][1] == "left\ndown\nright"


def test_equal_states_make_equal_and_hashable_messages() -> None:
    template = PromptTemplate("{{ rules }}", "{{ observation }}")
    assert hash(template.messages(lake(), "x")) == hash(template.messages(lake(), "x"))
    assert template.messages(lake(), "x") != template.messages(lake(), "y")


def test_the_words_of_a_game_are_text_and_no_template() -> None:
    template = PromptTemplate(None, "{{ observation }}")
    assert template.messages(lake(), "{{ rules }} <b> & é") == (("user", "{{ rules }} <b> & é"),)


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("{{ history }}", "'history' is undefined"),
        ("{{ actions[9] }}", "no element 9"),
        ("{{ observation", "unexpected end of template"),
        ("{% if %}", "Expected an expression"),
        ("{{ observation | shout }}", "No filter named 'shout'"),
        ("{{ max_steps + 'x' }}", "unsupported operand"),
        ("{{ max_steps / 0 }}", "division by zero"),
        ("{{ range(10 ** 9) }}", "loops of more than 100000 rounds"),
        ("{{ observation.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_a_broken_template_is_found_before_anything_is_played(user: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"the prompt template is broken: .*({reason})"):
        PromptTemplate(None, user).check(lake())
    with pytest.raises(ValueError, match="the prompt template is broken"):
        PromptTemplate(user, "{{ observation }}").check(lake())


def test_a_sound_template_passes() -> None:
    PromptTemplate("{{ rules }}", "{{ observation }}").check(lake())


def test_an_unknown_name_is_never_rendered_as_nothing() -> None:
    with pytest.raises(UndefinedError):
        PromptTemplate(None, "{{ observaton }}").messages(lake(), "x")


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.yaml")))
@pytest.mark.parametrize("slippery", [False, True])
def test_shipped_templates_tell_rules_actions_limit_and_the_whole_state(name: str, slippery: bool) -> None:
    settings = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    game = lake(slippery)
    template = PromptTemplate(settings["system"], settings["user"])
    template.check(game)
    text = "\n".join(content for _, content in template.messages(game, game.describe("full")))
    assert game.rules() in text
    assert ("The ice is slippery" in text) is slippery
    assert ("The ice is not slippery" in text) is not slippery
    assert "left, down, right, up" in text
    assert "at most 8 moves" in text
    for fact in ("4 rows and 4 columns", "(row, column)", "You are at (0, 0)", "The goal is at (3, 3)", "Legend:"):
        assert fact in text
    assert text.count("P . O .\n. . . .\n. . . O\n. . . G") == 1
    assert "<action>" in text


@pytest.mark.parametrize(
    "text",
    [
        "{{ '%0999999999d' % 3 }}",
        "{{ '%0999999999d' | format(3) }}",
        "{{ 'x' | center(999999999) }}",
        "{{ 'x'.zfill(999999999) }}",
        "{{ '{:999999999}'.format(3) }}",
    ],
)
def test_widths_have_a_bound(text: str) -> None:
    game = FrozenLake()
    game.reset(seed=0)
    with pytest.raises(ValueError, match="a width of more than 100000 characters"):
        PromptTemplate(None, text).check(game)


def test_formats_of_usual_widths_are_filled_in() -> None:
    game = FrozenLake()
    game.reset(seed=0)
    text = "{{ '%03d' % 7 }} {{ '%s!' | format('a') }} {{ 'x' | center(3) }}|{{ '{:>3}'.format(1) }}"
    assert PromptTemplate(None, text).messages(game, "")[0][1] == "007 a!  x |  1"


def test_a_template_may_show_the_legal_moves_of_the_present_state() -> None:
    game = Fenced(p=1.0)
    game.reset(seed=0)
    template = PromptTemplate("{{ legal[0] }}", "{{ legal | join('/') }} of {{ actions | length }}")
    assert template.messages(game, "") == (("system", "down"), ("user", "down/right of 4"))
    game.take("down")
    assert template.messages(game, "") == (("system", "down"), ("user", "down/right/up of 4"))


def test_legal_moves_of_earlier_states_are_not_made_up() -> None:
    game = lake()
    shows, hidden = PromptTemplate(None, "{{ legal }}"), PromptTemplate("{{ legal }}", "{{ observation }}")
    with pytest.raises(ValueError, match="legal, which is known of the present state alone"):
        shows.check(game, history=1)
    with pytest.raises(ValueError, match="legal, which is known of the present state alone"):
        PromptTemplate(None, "{{ legal }}", {"": [("P", "up")]}).check(game)
    shows.check(game)
    hidden.check(game, history=1)


def test_a_game_of_free_text_has_no_actions_to_name() -> None:
    game = lake()
    game.actions = None  # type: ignore[assignment]
    with pytest.raises(ValueError, match="takes free text, so there are no actions to name; take prompt=legal"):
        PromptTemplate("{{ actions | join }}", "{{ observation }}").check(game)
    settings = yaml.safe_load((FOLDER / "legal.yaml").read_text(encoding="utf-8"))
    template = PromptTemplate(settings["system"], settings["user"])
    template.check(game)
    assert template.messages(game, "Here.")[-1] == ("user", "Here."), "no list, where none is known"
