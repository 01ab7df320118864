"""The table for people: which rungs, which notes, which warnings, and that it fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from msgrpo_cli.evaluation.ladder import References, render
from msgrpo_cli.evaluation.scores import Evaluation, Scores

EVALUATION = Evaluation(
    env="frozenlake",
    policy="model",
    checkpoint="outputs/a/checkpoints/checkpoint-60",
    episodes=500,
    distinct_initial_states=308,
    distinct_initial_texts=308,
    seeds=(0, 4023),
    split="test",
    not_held_out=(),
    overlap_with_training=0.0,
    overlap_of_decisions=0.125,
    success_rate=0.902,
    success_ci95=(0.873, 0.925),
    mean_total_reward=0.9,
    mean_total_reward_ci95=(0.871, 0.924),
    normalized_score=0.899,
    normalized_reason=None,
    random_score=0.01,
    base_score=0.381,
    optimal_score=1.0,
    optimal_is_exact=True,
    greedy_success_rate=0.912,
    greedy_mean_total_reward=0.911,
    game_metrics={"apples": 1.25},
    valid_action_rate=0.998,
    mean_length=5.2,
    ends={"goal": 451, "hole": 29, "step limit": 20},
    smallest_detectable_difference=0.0371,
    sampling={"temperature": 0.5, "top_p": 1.0},
    training_sampling={"temperature": 1.25, "top_p": 1.0},
    wall_seconds=3.0,
)


def shown(evaluations: list[Evaluation], references: tuple[References, ...] = (), width: int = 80) -> str:
    console = Console(width=width, no_color=True, legacy_windows=False)
    with console.capture() as capture:
        console.print(render(evaluations, references))
    return capture.get()


def flat(text: str) -> str:
    return " ".join(text.split())


def row(text: str, label: str) -> str:
    return next(flat(line) for line in text.splitlines() if line.strip().startswith(label))


def test_rungs_stand_in_order() -> None:
    labels = ["random", "base", "checkpoint-60", "decoded greedily", "optimal (exact)"]
    places = [shown([EVALUATION]).index(label) for label in labels]
    assert places == sorted(places)


def test_numbers_of_the_rungs() -> None:
    text = shown([EVALUATION])
    assert row(text, "checkpoint-60") == "checkpoint-60 0.902 [0.873, 0.925] 0.900 [0.871, 0.924] 0.899"
    assert row(text, "decoded greedily") == "decoded greedily 0.912 0.911 0.910"
    assert row(text, "base") == "base - 0.381 0.375"  # (0.381 - 0.01) / 0.99
    assert row(text, "random") == "random - 0.010 0.000"
    assert row(text, "optimal") == "optimal (exact) - 1.000 1.000"


def test_references_add_success_and_intervals() -> None:
    base = Scores(500, 308, 308, 0.38, (0.34, 0.42), 0.381, (0.341, 0.421), 1.0, 5.0)
    text = shown([EVALUATION], ({"base": base, "greedy": base},))
    assert row(text, "base") == "base 0.380 [0.340, 0.420] 0.381 [0.341, 0.421] 0.375"
    assert row(text, "decoded greedily") == "decoded greedily 0.912 [0.340, 0.420] 0.911 [0.341, 0.421] 0.910"


def test_interval_of_played_episodes_does_not_stand_beside_an_exact_value() -> None:
    played = Scores(500, 308, 308, 0.38, (0.34, 0.42), 0.38, (0.34, 0.42), 1.0, 5.0)
    text = shown([replace(EVALUATION, optimal_score=0.379)], ({"optimal": played},))
    assert row(text, "optimal") == "optimal (exact) 0.380 [0.340, 0.420] 0.379 1.000"


@pytest.mark.parametrize("width", [80, 120])
def test_notes(width: int) -> None:
    text = flat(shown([EVALUATION], width=width))
    assert "valid actions 99.8 %, mean length 5.20 steps; ended by goal 451, hole 29, step limit 20" in text
    assert "308 distinct, seeds 0 to 4023; of the test part" in text
    assert "detects a difference of 0.037 in success" in text
    assert "temperature 0.5, top_p 1.0; training: temperature 1.25" in text
    assert "apples 1.250" in text
    assert "warning" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_fits_and_carries_no_colour(width: int) -> None:
    text = shown([EVALUATION, replace(EVALUATION, checkpoint="checkpoint-20")], width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "…" not in text  # nothing was cut


@pytest.mark.parametrize("width", [20, 40])
def test_a_narrow_terminal_loses_nothing(width: int) -> None:
    text = shown([EVALUATION], width=width)
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    if width == 40:
        assert {"0.902", "0.900", "[0.871,", "0.924]", "0.899", "0.912"} <= set(text.split())


def test_split_any_is_not_held_out() -> None:
    text = flat(shown([replace(EVALUATION, split="any", overlap_with_training=0.631)]))
    assert "308 distinct, seeds 0 to 4023; not held out (all that the game draws)" in text
    assert "63.1 % of the starts and 12.5 % of all decisions read as in training" in text
    assert "for more episodes from all starts as the game draws them" in text


def test_the_table_says_which_question_its_intervals_answer_and_what_was_seen_in_training() -> None:
    text = flat(shown([EVALUATION]))
    assert "of 95 %, for more episodes from starts of the test part as the game draws them" in text
    assert "0.0 % of the starts and 12.5 % of all decisions read as in training" in text
    unknown = replace(EVALUATION, overlap_with_training=None, overlap_of_decisions=None)
    assert "not known, or prompts were shown in another way in training" in flat(shown([unknown]))
    assert "trained on" not in flat(shown([replace(unknown, policy="random")]))


def test_a_mixture_tells_of_which_games_nothing_is_held_out() -> None:
    text = flat(shown([replace(EVALUATION, not_held_out=("taxi", "blackjack"))]))
    assert "of the test part, but of taxi and blackjack none is held out" in text


def test_starts_that_read_alike_are_told() -> None:
    assert "308 distinct, 12 as they read" in flat(shown([replace(EVALUATION, distinct_initial_texts=12)]))


def test_below_random_is_a_warning() -> None:
    text = flat(shown([replace(EVALUATION, mean_total_reward=0.002)]))
    assert "warning: checkpoint-60 plays below random: mean total reward 0.002 < 0.010" in text


def test_no_normalised_score_has_its_reason() -> None:
    reason = "the score of optimal play is unknown"
    text = shown([replace(EVALUATION, optimal_score=None, normalized_score=None, normalized_reason=reason)])
    assert reason in flat(text)
    assert "optimal (" not in text
    assert row(text, "base") == "base - 0.381 -"


def test_checkpoints_of_one_run_share_a_table_and_equal_notes() -> None:
    text = shown([replace(EVALUATION, checkpoint="checkpoint-20", success_rate=0.6), EVALUATION])
    assert text.count("optimal (exact)") == 1
    assert text.count("distinct") == 1
    assert row(text, "checkpoint-20") == "checkpoint-20 0.600 [0.873, 0.925] 0.900 [0.871, 0.924] 0.899"


def test_other_games_get_their_own_table() -> None:
    assert shown([EVALUATION, replace(EVALUATION, env="snake_8")]).count("optimal (exact)") == 2


def test_random_player_is_not_shown_twice() -> None:
    random = replace(EVALUATION, policy="random", checkpoint=None, mean_total_reward=0.01, base_score=None)
    text = shown([random])
    assert "random, as played" in text
    assert sum(line.strip().startswith("random") for line in text.splitlines()) == 1


def test_same_sampling_as_in_training_says_so() -> None:
    same = replace(EVALUATION, training_sampling=EVALUATION.sampling)
    assert "temperature 0.5, top_p 1.0; training: the same" in flat(shown([same]))


def test_no_spread_detects_nothing() -> None:
    assert "unknown: all episodes score alike, or fewer than six differ from those of the base" in flat(
        shown([replace(EVALUATION, smallest_detectable_difference=None)])
    )


def test_names_are_no_markup() -> None:
    assert "[red]lake[/red]" in shown([replace(EVALUATION, env="[red]lake[/red]", checkpoint="[bold]x")])
    assert "[bold]x" in shown([replace(EVALUATION, checkpoint="[bold]x")])


def test_references_belong_to_evaluations() -> None:
    with pytest.raises(ValueError, match="1 evaluations, but 2 references"):
        render([EVALUATION], [{}, {}])
