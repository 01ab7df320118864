"""Several games in one run."""

from __future__ import annotations

import json
from collections import Counter
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.common.seeding import generator
from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.saved import load_saved, saved_text
from msgrpo_cli.errors import UsageError
from msgrpo_cli.evaluation.evaluator import Evaluator
from msgrpo_cli.games.mix import Mix
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.rollout.collect import UpdateRules, play_update, rollout_metrics
from msgrpo_cli.rollout.game_check import check_game
from msgrpo_cli.rollout.play import PlayRules
from msgrpo_cli.rollout.players import ExactPlayer, GreedyPlayer, RandomPlayer, players_of
from msgrpo_cli.rollout.split import keyed_seed, split_of, start_seeds
from msgrpo_cli.training.train import train_job
from support.chance import fits

TWO = ("env=mix", "env.games=[frozenlake,snake_8]")


def mixture(*overrides: str, evaluation: bool = False) -> Any:
    return make_game(compose("train", [*TWO, *overrides]).env, evaluation)


def test_games_of_which_nothing_is_held_out_are_named() -> None:
    config = compose("train", ["env=mix", "env.games=[frozenlake,taxi,guess_number]"])
    rules = PlayRules("mix")
    mixed = Evaluator(lambda: make_game(config.env), rules, split="test", seed=0, episodes=6)
    found = mixed.evaluate("random", RandomPlayer()).evaluation
    assert (found.split, found.not_held_out) == ("test", ("taxi", "guess_number"))
    whole = Evaluator(lambda: make_game(config.env), rules, split="any", seed=0, episodes=6)
    assert whole.evaluate("random", RandomPlayer()).evaluation.not_held_out == ()


def test_every_start_belongs_to_one_game_which_plays_as_it_does_alone() -> None:
    game = mixture()
    of_one = {name: make_game(compose("train", [f"env={name}"]).env) for name in ("frozenlake", "snake_8")}
    seen = set()
    for seed in range(20):
        game.reset(seed=seed)
        seen.add(game.label)
        alone = of_one[str(game.label)]
        assert (game.actions, game.max_steps, game.rules()) == (alone.actions, alone.max_steps, alone.rules())
        assert game.describe() == game.present.describe()
    assert seen == {"frozenlake", "snake_8"}


def test_later_chance_is_the_members_own() -> None:
    game = mixture("env.games=[frozenlake_slippery,frozenlake]", "env.weights=[1000,1]")

    def walked(member: int) -> list[str]:
        game.reset(seed=3)
        game.np_random = generator(("member", member))
        return [game.step(2)[0] for _ in range(6)]

    assert walked(0) == walked(0)
    assert len({tuple(walked(member)) for member in range(8)}) > 1


def test_the_longest_game_sets_the_limit_of_the_mixture() -> None:
    assert compose("train", ["env=mix", "env.games=[frozenlake_slippery,frozenlake]"]).env.max_steps == 15


@pytest.mark.parametrize("split", ["train", "validation", "test", "any"])
def test_weights_hold_in_every_part_also_beside_a_game_that_holds_none_out(split: Any) -> None:
    game = mixture("env.games=[frozenlake,guess_number]", "env.weights=[3,1]")
    drawn: Counter[str] = Counter()
    for seed in islice(start_seeds(game, split, count()), 600):
        game.reset(seed=seed)
        drawn[game.label] += 1
        if game.label == "frozenlake" and split != "any":
            assert split_of(game.present.state_key()) == split
    assert fits([drawn["frozenlake"], drawn["guess_number"]], [0.75, 0.25])


def test_groups_are_drawn_by_weight_in_training() -> None:
    game = mixture("env.games=[frozenlake,guess_number]", "env.weights=[3,1]")
    drawn: Counter[str] = Counter()
    for group in range(600):
        game.reset(seed=keyed_seed(game, "train", (0, 1, group)))
        drawn[game.label] += 1
    assert fits([drawn["frozenlake"], drawn["guess_number"]], [0.75, 0.25])


def test_games_are_drawn_by_weight() -> None:
    game = mixture("env.weights=[3,1]")
    drawn: Counter[str] = Counter()
    for seed in range(400):
        game.reset(seed=seed)
        drawn[game.label] += 1
    assert 0.68 < drawn["frozenlake"] / 400 < 0.82


def test_the_config_holds_every_game_whole_and_reads_back(tmp_path: Path) -> None:
    config = compose("train", TWO)
    blocks = config.env.keys["games"]
    assert [(block["name"], block["max_steps"]) for block in blocks] == [("frozenlake", 8), ("snake_8", 8)]
    (tmp_path / "config.yaml").write_text(saved_text(config))
    assert load_saved(tmp_path / "config.yaml") == config


def test_evaluation_uses_the_evaluation_rewards_of_each_game() -> None:
    for evaluation, cost in ((False, -0.01), (True, 0.0)):
        game = mixture(evaluation=evaluation)
        seed = next(seed for seed in range(50) if not game.reset(seed=seed) or game.label == "snake_8")
        game.reset(seed=seed)
        game.present.food.clear()
        game.present.bodies = [((5, 5),), ((0, 0),)]
        assert game.step(game.actions.index("up"))[1] == pytest.approx(cost)


def test_players_play_whatever_game_is_present() -> None:
    game = mixture()
    exact, judged = ExactPlayer(), set()
    for seed in range(20):
        game.reset(seed=seed)
        assert game.greedy_action() in game.actions
        best, _ = exact.judge(game, game.actions[0])
        judged.add((game.label, best is not None))
        assert (exact.value(game) is not None) == (game.label == "frozenlake")
    assert judged == {("frozenlake", True), ("snake_8", False)}


def test_a_game_without_a_split_is_never_held_out_and_the_others_are() -> None:
    game = mixture("env.games=[frozenlake,guess_number]")
    labels = set()
    for seed, _ in zip(start_seeds(game, "test", iter(range(10**6))), range(30), strict=False):
        game.reset(seed=seed)
        labels.add(game.label)
        assert game.label == "guess_number" or split_of(game.present.state_key()) == "test"
    assert labels == {"frozenlake", "guess_number"}


def test_what_a_mixture_trains_on_is_what_its_games_alone_would() -> None:
    """Else a checkpoint of a mixture would have seen what `msgrpo eval env=frozenlake` holds out."""
    game, alone = mixture(), make_game(compose("train", ["env=frozenlake"]).env)
    keys = set()
    for seed, _ in zip(start_seeds(game, "train", iter(range(10**6))), range(60), strict=False):
        game.reset(seed=seed)
        if game.label == "frozenlake":
            alone.board, alone.cell = game.present.board, game.present.cell  # type: ignore[attr-defined]
            assert alone.state_key() == game.present.state_key()
            keys.add(alone.state_key())
    assert {split_of(key) for key in keys} == {"train"}


def test_metrics_are_told_for_each_game_too() -> None:
    env = compose("train", TWO).env
    rules = UpdateRules(seed=0, groups_per_update=12, group_size=4)
    played = play_update(1, rules, lambda: make_game(env), RandomPlayer(), PlayRules("mix"))
    found = rollout_metrics(played)
    names = ("frozenlake", "snake_8")
    assert sum(found[f"episodes_played/{name}"] or 0 for name in names) == found["episodes_played"] == 48
    assert sum(found[f"episodes_drawn/{name}"] or 0 for name in names) == found["episodes_drawn"]
    means = [(found[f"total_reward/{name}"] or 0) * (found[f"episodes_played/{name}"] or 0) / 48 for name in names]
    assert sum(means) == pytest.approx(found["total_reward"])
    assert found["success_rate/snake_8"] is None and found["success_rate/frozenlake"] is not None
    groups = {(episode.start.group, episode.env) for episode in played.episodes}
    assert len(groups) == 12, "a group plays one game"


def test_an_update_that_played_one_game_alone_tells_it_all_the_same() -> None:
    env = compose("train", TWO).env
    rules = UpdateRules(seed=0, groups_per_update=1, group_size=4)
    found = rollout_metrics(play_update(1, rules, lambda: make_game(env), RandomPlayer(), PlayRules("mix")))
    assert sum(f"total_reward/{name}" in found for name in ("frozenlake", "snake_8")) == 1
    alone = compose("train", []).env
    found = rollout_metrics(play_update(1, rules, lambda: make_game(alone), RandomPlayer(), PlayRules("one")))
    assert not any("/" in name for name in found)


@pytest.mark.parametrize(("second", "declared"), [("snake_8", False), ("frozenlake_slippery", True)])
def test_success_of_a_mixture_is_told_where_all_of_its_games_declare_it(second: str, declared: bool) -> None:
    """In every update, whichever games it happened to play, and in evaluations alike."""
    env = compose("train", ["env=mix", f"env.games=[frozenlake,{second}]"]).env
    rules = UpdateRules(seed=0, groups_per_update=1, group_size=4)
    updates = [
        play_update(number, rules, lambda: make_game(env), RandomPlayer(), PlayRules("mix")) for number in range(1, 9)
    ]
    assert {played.episodes[0].env for played in updates} == {"frozenlake", second}
    assert {rollout_metrics(played)["success_rate"] is not None for played in updates} == {declared}
    evaluator = Evaluator(lambda: make_game(env, True), PlayRules("mix"), split="test", seed=0, episodes=12)
    assert (evaluator.evaluate("random", RandomPlayer()).evaluation.success_rate is not None) == declared


def test_a_mixture_passes_the_checks_of_games() -> None:
    checks = check_game(compose("train", ["env=mix", "env.games=[frozenlake,guess_number]"]).env)
    assert [(check.name, check.detail) for check in checks if not check.passed] == []


def test_a_run_trains_on_a_mixture_and_evaluates_each_game(tmp_path: Path) -> None:
    config = compose(
        "train",
        ["experiment=smoke", "env=mix", "env.games=[frozenlake,frozenlake_slippery]", "eval.episodes=12",
         "algo.groups_per_update=6"],
    )  # fmt: skip
    train_job(config, tmp_path / "run", command=["msgrpo", "train"], overrides=[])
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    trained = next(row for row in rows if row["kind"] == "train")
    assert {"total_reward/frozenlake", "total_reward/frozenlake_slippery"} <= trained.keys()
    evaluated = next(row for row in rows if row["kind"] == "eval")
    assert {"frozenlake/success_rate", "frozenlake_slippery/total_reward"} <= evaluated["game_metrics"].keys()
    episodes = [json.loads(line) for line in (tmp_path / "run" / "episodes.jsonl").read_text().splitlines()]
    assert {episode["env"] for episode in episodes} == {"frozenlake", "frozenlake_slippery"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["env.games=[frozenlake]"], "games=1 of them: a mixture needs two or more"),
        (["env.games=[frozenlake,frozenlake]"], "the same name twice"),
        (["env.games=[frozenlake,snak_8]"], r"env.games=.*no 'snak_8' in config group 'env'"),
        (["env.games=[frozenlake,../env/snake_8]"], r"env.games=.*: '../env/snake_8' is no name in conf/env"),
        (["env.games=[frozenlake,mix]"], r"env.games=\['frozenlake', 'mix'\]: a mixture cannot hold another"),
        (["env.games=frozenlake"], "env.games=frozenlake: must be a list of games"),
        (["env.max_steps=3"], "env.max_steps=3: each game of a mixture keeps its own; leave it out"),
        (["env.weights=[1]"], "one positive number for each of the 2 games"),
        (["env.weights=[1,-1]"], "one positive number for each of the 2 games"),
    ],
)
def test_what_is_no_mixture_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compose("train", ["env=mix", *overrides])


def test_where_a_game_has_no_search_its_heuristic_plays_in_the_search_of_a_mixture() -> None:
    game = mixture()
    for seed in range(20):
        game.reset(seed=seed)
        expected = game.present.greedy_action() if game.label == "frozenlake" else game.present.search_action()
        assert game.search_action() == expected is not None
    assert list(players_of(mixture("env.games=[frozenlake,blackjack]")))[:3] == [
        "random",
        "greedy",
        "search",
    ]


def test_heuristics_play_a_mixture() -> None:
    env = compose("train", TWO).env
    rules = UpdateRules(seed=0, groups_per_update=4, group_size=2)
    played = play_update(1, rules, lambda: make_game(env, True), GreedyPlayer(), PlayRules("mix"))
    assert all(episode.total_reward > 0 for episode in played.episodes)


def test_a_mixture_limits_moves_where_one_of_its_games_does() -> None:
    overrides = ["env=mix", "env.games=[frozenlake,minesweeper]"]
    blocks = [game.model_dump() for game in compose("train", overrides).env.games]
    assert not Mix(blocks).limits_moves
    mixed = Mix([blocks[0], {**blocks[1], "legal_moves": True}])
    assert mixed.limits_moves and mixed.lists_moves()
    for seed in range(12):
        mixed.reset(seed=seed)
        assert mixed.legal() == mixed.present.legal() == mixed.actions
        if mixed.label == "minesweeper":
            mixed.take(mixed.greedy_action())
            assert len(mixed.legal()) < len(mixed.actions) or mixed.elapsed == 1
