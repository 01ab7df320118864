"""Environments of gymnasium's that a config gives words to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from msgrpo_cli.common.seeding import generator
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import KnownDynamics, TextMediatedStochasticGame
from msgrpo_cli.games.gym import TabularGymGame, wrapped
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.rollout.game_check import CHECKS
from msgrpo_cli.rollout.players import ExactPlayer


def game_of(*overrides: str) -> TextMediatedStochasticGame:
    return make_game(compose("train", overrides).env)


def test_rewards_and_ends_are_those_of_the_environment() -> None:
    game = game_of("env=cliffwalking")
    game.reset(seed=0)
    theirs = gymnasium.make("CliffWalking-v1").unwrapped
    theirs.reset(seed=0)
    for name, number in [("up", 0), *[("right", 1)] * 11, ("down", 2)]:
        _, reward, terminated, *_ = game.step(game.actions.index(name))
        _, expected, ended, *_ = theirs.step(number)
        assert (reward, terminated) == (expected, ended)
    assert terminated and game.success
    assert "You are at (3, 11)." in game.describe()


def test_the_cliff_costs_and_leads_back() -> None:
    game = game_of("env=cliffwalking")
    game.reset(seed=0)
    text, reward, terminated, *_ = game.step(game.actions.index("right"))
    assert (reward, terminated) == (-100.0, False)
    assert "You are at (3, 0)." in text
    assert not game.success


@pytest.mark.parametrize(("name", "best"), [("cliffwalking", -13.0)])
def test_a_table_of_transitions_gives_exact_play(name: str, best: float) -> None:
    game = game_of(f"env={name}")
    game.reset(seed=0)
    assert ExactPlayer().value(game) == pytest.approx(best)


def test_one_player_keeps_the_tables_of_two_environments_apart() -> None:
    player, values = ExactPlayer(), {}
    for name in ("cliffwalking", "taxi"):
        game = game_of(f"env={name}")
        for seed in range(8):
            game.reset(seed=seed)
            values[name, seed] = player.value(game), ExactPlayer().value(game)
    assert all(together == alone for together, alone in values.values())


def test_later_chance_is_the_members_own() -> None:
    """On slippery ground equal noise leads to equal episodes, and unequal noise parts them."""
    game = game_of("env=gym", "env.arguments={is_slippery: true}", "env.state=[s]")

    def walked(member: int) -> list[str]:
        game.reset(seed=3)
        game.np_random = generator(("member", member))
        return [game.step(0)[0] for _ in range(12)]

    assert walked(0) == walked(0)
    assert len({tuple(walked(member)) for member in range(6)}) > 1


def test_starts_come_from_the_seed() -> None:
    game = game_of("env=taxi")
    starts = []
    for seed in (1, 1, 2):
        game.reset(seed=seed)
        starts.append((game.state_key(), game.describe()))
    assert starts[0] == starts[1] != starts[2]


def test_what_is_hidden_is_in_the_key_and_not_in_the_text() -> None:
    game: Any = game_of("env=blackjack")
    game.reset(seed=0)
    before = game.state_key(), game.describe()
    assert "dealer" in game.hides
    game._inner.unwrapped.dealer[1] = game._inner.unwrapped.dealer[1] % 10 + 1
    assert game.describe() == before[1]
    assert game.state_key() != before[0]


def test_colours_of_a_drawing_are_left_out() -> None:
    game = game_of("env=gym", "env.id=FrozenLake-v1", "env.actions=[left,down,right,up]")
    game.reset(seed=0)
    assert game.describe().splitlines()[0] == "SFFF"


def test_without_a_template_the_environment_draws_itself() -> None:
    game = game_of("env=gym")
    game.reset(seed=0)
    assert game.describe().splitlines()[-1].split() == ["x", *["C"] * 10, "T"]
    assert game.success is None


def test_a_template_reads_attributes_and_the_clock() -> None:
    text = "env.template='{{ observation }} of {{ nS }}, {{ steps_left }} left of {{ max_steps }}'"
    game = game_of("env=gym", text, "env.attributes=[nS]")
    game.reset(seed=0)
    game.step(0)
    assert game.describe() == "24 of 48, 99 left of 100"
    assert isinstance(game.state_key(), bytes)
    assert np.isfinite(game.step(0)[1])


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["env.id=Pendulum-v1"], "template=null: Pendulum-v1 draws no text of its own; give env"),
        (["env.id=Pendulum-v1", "env.template=x"], "id=Pendulum-v1: its actions are Box"),
        (["env.actions=[a,b]"], r"actions=\['a', 'b'\]: CliffWalking-v1 has 4 actions; name each, in its own"),
        (["env.id=CliffWalkin-v1"], r"env\.id=CliffWalkin-v1: no game of that name is registered with gymnasium"),
        (["env.template='{{ observation'"], r"template=.*: broken"),
        (["env.template='{{ missing }}'"], r"env\.template=.*: cannot be rendered: 'missing' is undefined"),
        (["env.attributes=[nothing]"], r"attributes=\['nothing'\]: CliffWalking-v1 has no value of the name nothing"),
        (["env.state=[_np_random]"], r"env\.state=.*: CliffWalking-v1 has no value of the name _np_random"),
        (["env.attributes=[step]"], r"env\.attributes=.*: CliffWalking-v1 has no value of the name step"),
        (["env.template='{{ 1 / 0 }}'"], r"env\.template=.*: cannot be rendered: division by zero"),
        (["env.compact='{{ missing }}'"], r"env\.compact=.*: cannot be rendered: 'missing' is undefined"),
        (["env.template=''"], r"env\.template='': empty"),
        (["env.actions=['',b,c,d]"], "an empty word"),
        (["env.arguments={render_mode: human}"], r"env\.arguments=.*: render_mode is not the environment's own"),
        (["env.arguments={colour: red}"], r"arguments=\{'colour': 'red'\}: CliffWalking-v1 cannot be made"),
    ],
)
def test_what_cannot_be_played_is_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        compose("train", ["env=gym", *overrides])


def test_an_environment_without_words_is_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match="so it has no words; give it some: env=gym"):
        compose("train", ["env.id=CliffWalking-v1", "~env.size", "~env.p", "~env.slippery"])


class _Halved(gymnasium.RewardWrapper[Any, Any]):
    def reward(self, reward: Any) -> float:
        return float(reward) / 2 + 7.0


class _Shifted(gymnasium.ObservationWrapper[Any, Any, Any]):
    bonus = 40

    def observation(self, observation: Any) -> Any:
        return int(observation) + 1000


class _Reversed(gymnasium.ActionWrapper[Any, Any, Any]):
    def action(self, action: Any) -> Any:
        return 3 - action


def _wrapped(**arguments: Any) -> Any:
    return _Halved(_Shifted(gymnasium.make("CliffWalking-v1", **arguments).unwrapped))


def _turned(**arguments: Any) -> Any:
    return _Reversed(gymnasium.make("CliffWalking-v1", **arguments).unwrapped)


def _bare(**arguments: Any) -> Any:
    return gymnasium.make("CliffWalking-v1", **arguments).unwrapped


@pytest.fixture
def registered() -> Iterator[None]:
    gymnasium.register("test/Wrapped-v0", entry_point=_wrapped)
    gymnasium.register("test/Turned-v0", entry_point=_turned)
    gymnasium.register("test/Told-v0", entry_point=_bare, additional_wrappers=(_Halved.wrapper_spec(),))
    yield
    for name in ("Wrapped", "Turned", "Told"):
        del gymnasium.registry[f"test/{name}-v0"]
        wrapped.cache_clear()


@pytest.mark.parametrize(("name", "reward", "seen"), [("Wrapped", 6.5, 1024), ("Turned", -1.0, 36), ("Told", 6.5, 24)])
def test_an_environment_is_played_as_it_is_registered(registered: None, name: str, reward: float, seen: int) -> None:
    """From the start, number 36, up leads to 24; reversed it is left, which stays. The table knows no wrapper."""
    block = ["env=gym", f"env.id=test/{name}-v0", "env.name=it", "env.max_steps=5"]
    block += ["env.actions=[up,right,down,left]", "env.template='{{ observation }}'"]
    game = game_of(*block)
    game.reset(seed=0)
    text, found, *_ = game.step(0)
    assert (text, found) == (str(seen), reward)
    assert not isinstance(game, KnownDynamics)
    assert "those of a plain loop over" in CHECKS["gymnasium"](compose("train", block).env)


@pytest.fixture
def five_steps() -> Iterator[list[str]]:
    gymnasium.register("test/Five-v0", entry_point=_bare, max_episode_steps=5)
    yield ["env=gym", "env.id=test/Five-v0", "env.actions=[up,right,down,left]", "env.template='{{ steps_left }}'"]
    del gymnasium.registry["test/Five-v0"]
    wrapped.cache_clear()


@pytest.mark.parametrize("steps", [6, 12, 100])
def test_more_steps_than_an_environment_is_registered_with_are_refused(five_steps: list[str], steps: int) -> None:
    said = (
        rf"^env\.max_steps={steps}: test/Five-v0 is registered with max_episode_steps=5, where gymnasium cuts an "
        r"episode; use no more$"
    )
    with pytest.raises(UsageError, match=said):
        compose("train", [*five_steps, f"env.max_steps={steps}"])


@pytest.mark.parametrize("steps", [3, 5])
def test_a_registered_limit_cuts_as_gymnasium_does_and_is_no_end(five_steps: list[str], steps: int) -> None:
    block = [*five_steps, f"env.max_steps={steps}"]
    game = game_of(*block)
    game.reset(seed=0)
    ends = [game.step(0)[2:4] for _ in range(steps)]
    assert ends == [(False, False)] * (steps - 1) + [(False, True)]
    assert "those of a plain loop over" in CHECKS["gymnasium"](compose("train", block).env)


def test_the_check_holds_a_game_against_the_registered_limit(
    five_steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = compose("train", [*five_steps, "env.max_steps=5"]).env
    monkeypatch.setattr(type(make_game(env)), "limit", None)
    longer = env.model_copy(update={"max_steps": 12})
    with pytest.raises(Exception, match=r"at step 5 of seed 0 test/Five-v0 by itself gives \(-1\.0, True"):
        CHECKS["gymnasium"](longer)


def test_a_game_that_drops_a_wrapper_fails_its_check(registered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    block = ["env=gym", "env.id=test/Wrapped-v0", "env.name=it", "env.max_steps=5"]
    block += ["env.actions=[up,right,down,left]", "env.template='{{ observation }}'"]
    env = compose("train", block).env
    monkeypatch.setattr(type(make_game(env)), "play", lambda self, action: (-1.0, None))
    with pytest.raises(Exception, match=r"at step 1 of seed 0 test/Wrapped-v0 by itself gives"):
        CHECKS["gymnasium"](env)


def test_the_mask_of_an_environment_says_which_moves_are_legal() -> None:
    game = game_of("env=taxi", "env.action_mask=true")
    assert isinstance(game, TabularGymGame) and game.limits_moves
    rng = np.random.default_rng(0)
    for seed in range(4):
        game.reset(seed=seed)
        for _ in range(20):
            mask = game._inner.unwrapped.action_mask(game._inner.unwrapped.s)
            assert game.legal() == tuple(name for name, open_ in zip(game.actions, mask, strict=True) if open_)
            assert game.legal() == game.legal_in(game.state())
            game.take(game.legal()[int(rng.integers(len(game.legal())))])
    assert ExactPlayer().value(game) == pytest.approx(ExactPlayer().value(_plain_at(game))), "no use in walls"


def _plain_at(game: TabularGymGame) -> TabularGymGame:
    """Taxi without a mask, in the same state at the same time."""
    plain = game_of("env=taxi")
    assert isinstance(plain, TabularGymGame) and not plain.limits_moves and plain.legal() == plain.actions
    plain.reset(seed=0)
    plain._inner.unwrapped.s, plain.elapsed = game._inner.unwrapped.s, game.elapsed
    return plain


def test_an_environment_without_a_mask_cannot_limit_its_moves() -> None:
    with pytest.raises(UsageError, match=r"env\.action_mask=true: CliffWalking-v1 gives no info\['action_mask'\] of 4"):
        compose("train", ["env=gym", "env.action_mask=true"])
