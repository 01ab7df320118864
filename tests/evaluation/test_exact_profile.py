"""How far a policy is from an equilibrium of Kuhn poker: known policies, a sample, and refusals."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyspiel")

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.evaluation.exact_profile import _played, check, measure_profiles
from msgrpo_cli.evaluation.targets import Subject
from msgrpo_cli.rollout.play import PlayRules
from msgrpo_cli.rollout.value_bounds import Known
from support.places import ROOT
from support.small_qwen import small_qwen

KUHN = ["env=openspiel_seats", "trainer.use_cpu=true", "eval.episodes=40", "prompt.observation=compact"]


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights that read and write letters, so that hardly any answer is an action."""
    folder = tmp_path_factory.mktemp("letters")
    small_qwen(folder)
    return f"model.path={folder}"


def measured(letters: str, *overrides: str) -> dict[str, Any]:
    model = ["model=any", letters, "rollout=short", "rollout.max_new_tokens=24", "rollout.max_prompt_tokens=500"]
    [found] = measure_profiles([(Subject(), compose("eval", [*KUHN, *model, "prompt=action_only", *overrides]))])
    json.dumps(found, allow_nan=False)
    return found


@pytest.mark.parametrize(
    ("invalid", "nash_conv", "values"), [("random", 11 / 12, (1 / 8, -1 / 8)), ("first", 2.0, (0.0, 0.0))]
)
def test_who_says_nothing_plays_what_is_played_for_it(
    letters: str, invalid: str, nash_conv: float, values: tuple[float, float]
) -> None:
    """Uniformly; or always the first action, against which a bet wins one every time."""
    found = measured(letters, f"algo.invalid_action={invalid}")
    assert found["uncovered"]["mean"] > 0.9
    assert (found["nodes"], found["information_sets"]) == (58, 12)
    assert found["nash_conv"] == pytest.approx(nash_conv, abs=0.02)
    assert found["exploitability"] == found["nash_conv"] / 2
    assert [one["value"] for one in found["seats"]] == pytest.approx(values, abs=0.02)
    assert found["random"]["nash_conv"] == pytest.approx(11 / 12, abs=1e-12)
    for exact, sampled in zip(found["seats"], found["sampled"]["seats"], strict=True):
        low, high = sampled["mean_total_reward_ci95"]
        assert low - 0.05 <= exact["value"] <= high + 0.05
    assert len(found["of_information_sets"]) == 12


def test_what_is_left_over_is_added_to_what_is_played_for_it() -> None:
    known = Known({"pass": 0.2, "bet": 0.3}, invalid=0.1)
    assert _played(known, ("pass", "bet"), PlayRules(invalid_action="first")) == pytest.approx(
        {"pass": 0.7, "bet": 0.3}
    )
    assert _played(known, ("pass", "bet"), PlayRules(invalid_action="random")) == pytest.approx(
        {"pass": 0.45, "bet": 0.55}
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["env=frozenlake"], "env=frozenlake: a game without tree() and stand_at()"),
        (["algo.invalid_action=noop"], "algo.invalid_action=noop: an answer that names no move leaves the tree; take "),
        (["prompt.history=1"], "prompt.history=1: then the state alone does not decide what is said"),
        (["policy=random"], "policy=random: only a model's answers have probabilities"),
    ],
)
def test_what_cannot_be_computed_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        check(compose("eval", [*KUHN, *overrides]))
    assert str(raised.value).startswith(said)


def test_a_model_without_words_for_the_game_is_refused() -> None:
    with pytest.raises(UsageError, match="model: it has no word for the action 'pass' of this game; take a model that"):
        measure_profiles([(Subject(), compose("eval", KUHN))])


def test_a_user_s_game_says_its_tree(letters: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of docs/games.md: to hide and to seek alike everywhere is its equilibrium; who always goes left loses."""
    page = (ROOT / "docs" / "games.md").read_text(encoding="utf-8")
    for name in ("hiding", "hiding_tree"):
        [module] = re.findall(rf"```python\n(# {name}.py.*?)```", page, re.DOTALL)
        (tmp_path / f"{name}.py").write_text(module)
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "hiding_tree.yaml").write_text(
        "name: hiding_tree\nid: hiding_tree:me/HidingTree-v0\nmax_steps: 2\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        words = ["env=hiding_tree", "model=any", letters, "rollout=short", "rollout.max_prompt_tokens=500"]
        played = ["prompt=action_only", "trainer.use_cpu=true", "eval.episodes=40", "algo.invalid_action=first"]
        config = compose("eval", [*words, *played], config_dirs=[tmp_path])
        [found] = measure_profiles([(Subject(), config)])
    finally:
        for name in ("hiding", "hiding_tree"):
            sys.modules.pop(name, None)
    assert (found["nodes"], found["information_sets"]) == (1 + 3 * (1 + 16 + 256), 2 * 3 * (1 + 8))
    assert found["random"]["nash_conv"] == pytest.approx(0.0, abs=1e-12)
    # both always go left: the seeker finds the prize, of 2 on average, in both turns, and could not do better
    assert [one["value"] for one in found["seats"]] == pytest.approx([-4.0, 4.0], abs=0.1)
    assert [one["best_response"] for one in found["seats"]] == pytest.approx([4.0, 4.0], abs=0.1)
    texts = {one["observation"] for one in found["of_information_sets"]}
    assert "You hide, for a prize of 3. Found so far: [False]." in texts and len(texts) == 2 * 3 * 3


def test_a_game_that_the_step_limit_would_cut_is_refused(letters: str) -> None:
    with pytest.raises(UsageError, match=r"env.max_steps=2: games of up to 3 turns would be cut; give 3"):
        measured(letters, "env.max_steps=2")


def test_the_words_of_its_table(letters: str, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from msgrpo_cli.cli.app import app

    words = ["lab", "nash", *KUHN, "model=any", letters, "rollout=short", "rollout.max_prompt_tokens=500"]
    ended = CliRunner().invoke(app, [*words, "prompt=action_only", "--out", str(tmp_path / "sets.json")])
    assert ended.exit_code == 0, ended.stderr
    assert "NashConv " in ended.stdout and "of uniform play 0.9167 and 0.4583" in ended.stdout
    [found] = json.loads((tmp_path / "sets.json").read_text())
    assert {one["seat"] for one in found["of_information_sets"]} == {0, 1}
