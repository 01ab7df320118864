"""Values of trees by hand: Kuhn poker and its equilibria, matching pennies, tic-tac-toe; and what is refused."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from msgrpo_cli.rollout.tree_values import best_response, expand, expected_values, exploitability, minimax, nash_conv
from support.trees import Corridor, Kuhn, Pennies, TicTacToe, kuhn_equilibrium


def test_kuhn_poker_under_uniform_play() -> None:
    """NashConv 11/12; the first seat wins 1/8 on average."""
    form = expand(Kuhn())
    assert len(form.nodes) == 1 + 6 * 9
    assert [len(of_seat) for of_seat in form.information_sets] == [6, 6]
    assert expected_values(form, form.uniform()) == pytest.approx([float(Fraction(1, 8)), -0.125], abs=1e-15)
    assert nash_conv(form, form.uniform()) == pytest.approx(float(Fraction(11, 12)), abs=1e-14)
    assert exploitability(form, form.uniform()) == pytest.approx(float(Fraction(11, 24)), abs=1e-14)
    assert best_response(form, 0, form.uniform()).value == pytest.approx(0.5, abs=1e-14)
    assert best_response(form, 1, form.uniform()).value == pytest.approx(float(Fraction(5, 12)), abs=1e-14)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1 / 3])
def test_the_equilibria_of_kuhn_poker(alpha: float) -> None:
    """Kuhn 1950: the first seat loses 1/18, and nobody gains by leaving."""
    form = expand(Kuhn())
    assert expected_values(form, kuhn_equilibrium(alpha)) == pytest.approx([-1 / 18, 1 / 18], abs=1e-15)
    assert nash_conv(form, kuhn_equilibrium(alpha)) == pytest.approx(0.0, abs=1e-15)
    timid = kuhn_equilibrium(alpha)
    timid[1] = {**timid[1], (1, "b"): {"p": 1.0}}  # never calls with the middle card: bluffs pay
    assert nash_conv(form, timid) > 0.05


def test_a_best_response_is_the_best_of_all_pure_policies() -> None:
    """64 of each seat, all of them tried, against a random policy of the other."""
    form, rng = expand(Kuhn()), np.random.default_rng(0)
    profile = [
        {key: dict(zip("pb", map(float, rng.dirichlet([1, 1])), strict=True)) for key in of_seat}
        for of_seat in form.information_sets
    ]
    for seat in (0, 1):
        keys = list(form.information_sets[seat])
        found = []
        for choice in product("pb", repeat=len(keys)):
            tried = list(profile)
            tried[seat] = {key: {action: 1.0} for key, action in zip(keys, choice, strict=True)}
            found.append(expected_values(form, tried)[seat])
        best = best_response(form, seat, profile)
        assert best.value == pytest.approx(max(found), abs=1e-14)
        tried = list(profile)
        tried[seat] = best.policy
        assert expected_values(form, tried)[seat] == pytest.approx(best.value, abs=1e-14)


def test_matching_pennies() -> None:
    """Who always shows heads loses 1 to a best response; who shows both alike cannot be beaten."""
    form = expand(Pennies())
    assert nash_conv(form, form.uniform()) == 0.0
    always = [{(): {"heads": 1.0}}, {(): {"heads": 0.5, "tails": 0.5}}]
    assert expected_values(form, always).tolist() == [0.0, 0.0]
    assert best_response(form, 1, always).policy == {(): {"tails": 1.0}}
    assert nash_conv(form, always) == 1.0
    biased = [{(): {"heads": 0.75, "tails": 0.25}}, {(): {"heads": 0.25, "tails": 0.75}}]
    assert expected_values(form, biased).tolist() == [-0.25, 0.25]
    assert nash_conv(form, biased) == pytest.approx(0.5 + 0.25 + 0.5 - 0.25)


def test_tic_tac_toe_is_a_draw_and_a_fork_wins() -> None:
    assert minimax(expand(TicTacToe())) == 0.0
    assert minimax(expand(TicTacToe("xo......."))) == 1.0
    assert minimax(expand(TicTacToe("x...o...."))) == 0.0


def test_a_deep_game_is_no_trouble() -> None:
    """5000 moves; going on pays, so both do to the end: an even number of steps cancels out."""
    game = Corridor(5000)
    assert minimax(expand(game)) == 0.0
    assert minimax(expand(Corridor(5001))) == 1.0
    form = expand(game)
    assert (len(form.nodes), form.turns) == (10001, 5000)
    always = [{key: {"on": 1.0} for key in of_seat} for of_seat in form.information_sets]
    assert nash_conv(form, always) == 0.0


def test_what_is_no_such_game_or_policy_is_refused() -> None:
    form = expand(Kuhn())
    uniform = form.uniform()
    for profile, said in (
        (uniform[:1], "1 policies for 2 seats"),
        ([uniform[0], {}], "seat 1: its policy says nothing of the information key"),
        ([uniform[0], {key: {"p": 0.5} for key in uniform[1]}], "seat 1: .* are no probabilities"),
        ([{key: {"x": 1.0} for key in uniform[0]}, uniform[1]], "seat 0: 'x' is no action"),
    ):
        with pytest.raises(ValueError, match=said):
            expected_values(form, profile)
    with pytest.raises(ValueError, match="no perfect recall"):
        expand(Corridor(4, forgetful=True))
    with pytest.raises(ValueError, match="more than 9 nodes"):
        expand(Corridor(40), most=9)
    with pytest.raises(ValueError, match="cannot tell two states apart"):
        minimax(expand(Kuhn()))
    with pytest.raises(ValueError, match="choose at once"):
        minimax(expand(Pennies()))
