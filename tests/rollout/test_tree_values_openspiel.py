"""NashConv of OpenSpiel's games against OpenSpiel's own, for random policies; minimax of its boards."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from msgrpo_cli.games.openspiel_table import OpenSpielTable, OpenSpielTree
from msgrpo_cli.rollout.tree_values import ExtensiveForm, expand, expected_values, exploitability, minimax, nash_conv

pyspiel = pytest.importorskip("pyspiel")


def theirs(name: str, table: OpenSpielTable, profile: list[dict[Hashable, dict[str, float]]]) -> Any:
    """The same policy as OpenSpiel takes it."""
    told = {}
    for seat, of_seat in enumerate(profile):
        numbers = {word: number for number, word in enumerate(table.words_of(seat))}
        for key, law in of_seat.items():
            told[key] = [(numbers[word], chance) for word, chance in law.items()]
    return pyspiel.load_game(name), pyspiel.TabularPolicy(told)


def random_profile(form: ExtensiveForm, seed: int) -> list[dict[Hashable, dict[str, float]]]:
    rng = np.random.default_rng(seed)
    return [
        {
            key: dict(zip(actions, map(float, rng.dirichlet([0.5] * len(actions))), strict=True))
            for key, actions in one.items()
        }
        for one in form.information_sets
    ]


@pytest.mark.parametrize(("name", "nodes"), [("kuhn_poker", 58), ("leduc_poker", 9457)])
def test_nash_conv_is_openspiel_s_own(name: str, nodes: int) -> None:
    table = OpenSpielTable(name)
    form = expand(table.tree())
    assert len(form.nodes) == nodes
    for profile in (form.uniform(), random_profile(form, 1), random_profile(form, 2)):
        game, policy = theirs(name, table, profile)
        assert nash_conv(form, profile) == pytest.approx(pyspiel.nash_conv(game, policy), abs=1e-10)
        assert exploitability(form, profile) == pytest.approx(pyspiel.exploitability(game, policy), abs=1e-10)
        wanted = pyspiel.expected_returns(game.new_initial_state(), policy, -1, True)
        assert expected_values(form, profile) == pytest.approx(wanted, abs=1e-12)


def test_seats_that_choose_at_once() -> None:
    """Rock, paper, scissors: uniform play is the equilibrium."""
    form = expand(OpenSpielTable("matrix_rps").tree())
    assert nash_conv(form, form.uniform()) == pytest.approx(0.0, abs=1e-15)


def test_minimax_of_a_board() -> None:
    tree: OpenSpielTree = OpenSpielTable("tic_tac_toe").tree()
    assert minimax(expand(tree)) == 0.0
    assert minimax(expand(tree.after({0: "x(0,0)"}).after({1: "o(0,1)"}))) == 1.0


def test_a_board_is_solved_by_its_states() -> None:
    """Tic-tac-toe has 5478 positions, on half a million ways; a tree that tells ways apart says the same."""
    board = expand(OpenSpielTable("tic_tac_toe").tree())
    assert (len(board.nodes), board.turns) == (5478, 9)
    begun = OpenSpielTable("tic_tac_toe").tree()
    for seat, word in enumerate(("x(0,0)", "o(0,1)", "x(2,2)")):
        begun = begun.after({seat % 2: word})
    laws: dict[str, dict[str, float]] = {}
    figures = []
    for form in (expand(begun), expand(replace(begun, perfect_information=False))):
        rng, profile = np.random.default_rng(0), []
        for of_seat in form.places:
            for node in sorted(of_seat.values(), key=lambda node: str(node.state)):
                actions = node.legal(*node.to_move())
                shares = map(float, rng.dirichlet([0.5] * len(actions)))
                laws.setdefault(str(node.state), dict(zip(actions, shares, strict=True)))
            profile.append({key: laws[str(node.state)] for key, node in of_seat.items()})
        figures.append([*expected_values(form, profile), nash_conv(form, profile), minimax(form), len(form.nodes)])
    (*by_state, few), (*by_way, many) = figures
    assert by_state == pytest.approx(by_way, abs=1e-12)
    assert many > 3 * few
