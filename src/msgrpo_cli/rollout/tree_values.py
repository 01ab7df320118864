"""What policies are worth in a game of several seats that is given as a tree: expected rewards, best responses,
NashConv, exploitability, and the minimax value.

Knows trees and policies as tables, by information key. Knows nothing about texts, models or episodes. All of it in
float64, and nothing recursive: a game may be as deep as memory goes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import isclose, prod
from typing import Any

import numpy as np

from msgrpo_cli.games.tree import Tree

TabularPolicy = Mapping[Hashable, Mapping[str, float]]
"""Of one seat: its action probabilities by information key; actions that are left out have none."""
Profile = Sequence[TabularPolicy]
"""One policy for every seat."""

MOST_NODES = 1_000_000
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class _Node:
    """One node; its children come later in the list of all."""

    seats: tuple[int, ...]
    """Who chooses; nobody where chance does, or the game has ended."""
    keys: tuple[Hashable, ...]
    """Of each of these seats its information key."""
    choices: list[tuple[str, ...]]
    """Of each child what these seats choose, in their order; empty at a chance node."""
    chances: list[float]
    """Of each child of a chance node its probability."""
    children: list[int]
    own: tuple[int, ...]
    """Of every seat the number of its own decisions before."""


@dataclass(frozen=True)
class ExtensiveForm:
    """A tree, spelled out: `expand` makes it."""

    players: int
    nodes: list[_Node]
    rewards: np.ndarray
    """What is paid on coming to each node, shape (nodes, players)."""
    information_sets: tuple[dict[Hashable, tuple[str, ...]], ...]
    """Of every seat its information keys, and the actions there."""
    members: tuple[dict[Hashable, list[int]], ...] = field(repr=False)
    """Of every seat the nodes of each information set."""

    def uniform(self) -> list[dict[Hashable, dict[str, float]]]:
        """The profile in which every seat chooses uniformly."""
        return [
            {key: dict.fromkeys(actions, 1 / len(actions)) for key, actions in of_seat.items()}
            for of_seat in self.information_sets
        ]


def expand(root: Tree, most: int = MOST_NODES) -> ExtensiveForm:
    """Spell a tree out. Raises ValueError where it is too large or breaks what `Tree` promises, as perfect recall."""
    players = root.players
    nodes: list[_Node] = []
    rewards: list[tuple[float, ...]] = []
    sets: tuple[dict[Hashable, tuple[str, ...]], ...] = tuple({} for _ in range(players))
    members: tuple[dict[Hashable, list[int]], ...] = tuple({} for _ in range(players))
    pasts: list[dict[Hashable, Any]] = [{} for _ in range(players)]
    numbers: dict[tuple[int, Hashable, str], int] = {}  # of what a seat did: its past before, the set, the action
    waiting: list[tuple[Tree, int | None, tuple[int, ...], tuple[int, ...]]] = [
        (root, None, (0,) * players, (0,) * players)
    ]
    while waiting:
        tree, parent, past, own = waiting.pop()
        if len(nodes) == most:
            raise ValueError(f"the game's tree has more than {most} nodes: too many to spell out; take a smaller game")
        paid = tuple(map(float, tree.rewards()))
        if len(paid) != players:
            raise ValueError(f"rewards() gives {len(paid)} numbers for {players} seats; give one for each")
        number, seats, outcomes = len(nodes), tree.to_move(), tree.chance()
        if seats and outcomes:
            raise ValueError("chance and seats move at once; let a node have chance() or to_move()")
        keys = tuple(tree.information_key(seat) for seat in seats)
        legal = [tree.legal(seat) for seat in seats]
        for seat, key, actions in zip(seats, keys, legal, strict=True):
            _same(sets[seat], key, actions, f"seat {seat}: the information key {key!r} offers other actions elsewhere")
            why = f"seat {seat}: no perfect recall, for the information key {key!r} forgets what the seat knew or did"
            _same(pasts[seat], key, past[seat], f"{why}; let the key hold all of it")
            members[seat].setdefault(key, []).append(number)
        if outcomes and not isclose(total := sum(chance for chance, _ in outcomes), 1.0, abs_tol=_ROUNDING):
            raise ValueError(f"the probabilities of chance() sum to {total}, not to 1")
        choices = list(product(*legal)) if seats else []
        nodes.append(_Node(seats, keys, choices, [chance for chance, _ in outcomes], [], own))
        rewards.append(paid)
        if parent is not None:
            nodes[parent].children.append(number)
        # last in, first out: pushed in reverse, so that children are numbered in order
        after = [(child, past, own) for _, child in outcomes]
        for choice in choices:
            then, deeper = list(past), list(own)
            for seat, key, action in zip(seats, keys, choice, strict=True):
                then[seat] = numbers.setdefault((past[seat], key, action), len(numbers) + 1)
                deeper[seat] += 1
            after.append((tree.after(dict(zip(seats, choice, strict=True))), tuple(then), tuple(deeper)))
        waiting += [(child, number, then, deeper) for child, then, deeper in reversed(after)]
    return ExtensiveForm(players, nodes, np.array(rewards), sets, members)


def _same(seen: dict[Hashable, Any], key: Hashable, value: Any, problem: str) -> None:
    """Raises ValueError where the key was seen with another value."""
    if seen.setdefault(key, value) is not value and seen[key] != value:
        raise ValueError(problem)


def standing(root: Tree, most: int = MOST_NODES) -> tuple[list[dict[Hashable, Any]], int]:
    """Of every seat a node for each of its information keys, and how many turns the longest game has.

    Raises ValueError where the tree has more than `most` nodes.
    """
    found: list[dict[Hashable, Any]] = [{} for _ in range(root.players)]
    waiting, seen, longest = [(root, 0)], 0, 0
    while waiting:
        tree, turns = waiting.pop()
        if (seen := seen + 1) > most:
            raise ValueError(f"more than {most} nodes")
        longest = max(longest, turns)
        waiting += [(child, turns) for _, child in tree.chance()]
        if seats := tree.to_move():
            for seat in seats:
                found[seat].setdefault(tree.information_key(seat), tree)
            for choice in product(*(tree.legal(seat) for seat in seats)):
                waiting.append((tree.after(dict(zip(seats, choice, strict=True))), turns + 1))
    return found, longest


def expected_values(form: ExtensiveForm, profile: Profile) -> np.ndarray:
    """The expected total reward of every seat when all play the profile, shape (players,)."""
    _check(form, profile)
    values = form.rewards.astype(np.float64)
    for number in reversed(range(len(form.nodes))):
        node = form.nodes[number]
        for chance, child in zip(_chances(node, profile), node.children, strict=True):
            if chance:
                values[number] += chance * values[child]
    return np.array(values[0])


@dataclass(frozen=True)
class BestResponse:
    """The most that a seat can get against the others' policies, and how."""

    value: float
    policy: dict[Hashable, dict[str, float]]
    """One action in every information set, the first of equally good ones."""


def best_response(form: ExtensiveForm, seat: int, profile: Profile) -> BestResponse:
    """A best response of `seat` to the others' policies in `profile`; its own one there is not looked at.

    In an information set I the seat cannot tell the nodes h apart: the best action is the one with the largest
    sum over h in I of pi_-i(h) v(h a), with pi_-i(h) the probability that chance and the others bring the game to h
    (counterfactual reach: Zinkevich et al., "Regret minimization in games with incomplete information", NeurIPS 2007).
    With perfect recall what is worth most after it depends on later sets alone, so sets are decided from the last of
    the seat's own decisions to the first.
    """
    _check(form, profile, but=seat)
    nodes = form.nodes
    reach = np.zeros(len(nodes))
    reach[0] = 1.0
    others = [_chances(node, profile, but=seat) for node in nodes]
    for number, node in enumerate(nodes):
        for chance, child in zip(others[number], node.children, strict=True):
            reach[child] = reach[number] * chance
    by_depth: dict[int, list[int]] = {}
    for number, node in enumerate(nodes):
        by_depth.setdefault(node.own[seat], []).append(number)
    sets_by_depth: dict[int, list[Hashable]] = {}
    for key, members in form.members[seat].items():
        sets_by_depth.setdefault(nodes[members[0]].own[seat], []).append(key)
    values, chosen = form.rewards[:, seat].astype(np.float64), dict[Hashable, str]()
    for depth in sorted(by_depth, reverse=True):
        for key in sets_by_depth.get(depth, ()):
            worth = dict.fromkeys(form.information_sets[seat][key], 0.0)
            for number in form.members[seat][key]:
                place = nodes[number].seats.index(seat)
                told = zip(nodes[number].choices, others[number], nodes[number].children, strict=True)
                for choice, chance, child in told:
                    worth[choice[place]] += reach[number] * chance * float(values[child])
            chosen[key] = max(worth, key=worth.__getitem__)
        for number in reversed(by_depth[depth]):
            node = nodes[number]
            own_place = node.seats.index(seat) if seat in node.seats else None
            for index, (chance, child) in enumerate(zip(others[number], node.children, strict=True)):
                if own_place is None or node.choices[index][own_place] == chosen[node.keys[own_place]]:
                    values[number] += chance * values[child]
    return BestResponse(float(values[0]), {key: {action: 1.0} for key, action in chosen.items()})


def nash_conv(form: ExtensiveForm, profile: Profile) -> float:
    """How much the seats could gain in all, each by a best response to the others alone: 0 in a Nash equilibrium.

    sum over i of max over pi' of u_i(pi', pi_-i) - u_i(pi) (Lanctot et al., arXiv 1711.00832, section 2).
    """
    values = expected_values(form, profile)
    return float(sum(best_response(form, seat, profile).value - values[seat] for seat in range(form.players)))


def exploitability(form: ExtensiveForm, profile: Profile) -> float:
    """`nash_conv` by the number of seats: of two in a zero-sum game what a best response wins on average over both
    (Johanson et al., "Accelerating best response calculation in large extensive games", IJCAI 2011)."""
    return nash_conv(form, profile) / form.players


def minimax(root: Tree, most: int = MOST_NODES) -> float:
    """What the first of two seats gets from a zero-sum game of perfect information that both play perfectly.

    v(s) = max, or min where the second seat moves, over actions of the rewards and v of what follows, and the mean at
    chance (Shannon 1950; with chance Michie's expectimax, 1966). States of equal `state_key` are looked at once. Raises
    ValueError for a game of another kind, one that comes back to a state, and one of more than `most` states.
    """
    if root.players != 2:
        raise ValueError(f"minimax is of 2 seats, not of {root.players}")
    known: dict[Hashable, float] = {}
    open_: set[Hashable] = set()
    told: dict[tuple[int, Hashable], Hashable] = {}
    pending: list[tuple[Tree, list[tuple[float, Tree]] | None]] = [(root, None)]
    while pending:
        tree, following = pending.pop()
        key = tree.state_key()
        if following is None:
            if key in known:
                continue
            if key in open_:
                raise ValueError(
                    "the game comes back to a state, so it is no finite tree; count its moves in state_key"
                )
            if len(open_) + len(known) >= most:
                raise ValueError(f"the game has more than {most} states: too many to look at; take a smaller game")
            open_.add(key)
            following = _following(tree, key, told)
            pending.append((tree, following))
            pending += [(child, None) for _, child in following if child.state_key() not in known]
        else:
            worth = [_paid(child) + known[child.state_key()] for _, child in following]
            if tree.to_move():
                known[key] = (max if tree.to_move() == (0,) else min)(worth)
            else:
                known[key] = sum(chance * one for (chance, _), one in zip(following, worth, strict=True))
            open_.discard(key)
    return _paid(root) + known[root.state_key()]


def _following(tree: Tree, key: Hashable, told: dict[tuple[int, Hashable], Hashable]) -> list[tuple[float, Tree]]:
    """What comes next; `told` remembers which state every seat's information stood for."""
    seats = tree.to_move()
    if not seats:
        return list(tree.chance())
    if len(seats) > 1:
        raise ValueError("both seats choose at once: a game of imperfect information has no minimax value of this kind")
    [seat] = seats
    if told.setdefault((seat, tree.information_key(seat)), key) != key:
        raise ValueError(f"seat {seat} cannot tell two states apart: a game of imperfect information; take nash_conv")
    return [(1.0, tree.after({seat: action})) for action in tree.legal(seat)]


def _paid(tree: Tree) -> float:
    """To the first seat, on coming here; the second pays it."""
    first, second = tree.rewards()
    if not isclose(first, -second, abs_tol=_ROUNDING):
        raise ValueError(f"rewards of {first} and {second}: not of a zero-sum game")
    return float(first)


def _chances(node: _Node, profile: Profile, but: int | None = None) -> list[float]:
    """The probability of every child; of the seat `but` the choices count as certain."""
    if not node.seats:
        return node.chances
    laws = [{} if seat == but else profile[seat][key] for seat, key in zip(node.seats, node.keys, strict=True)]
    return [
        prod(
            1.0 if seat == but else law.get(action, 0.0)
            for seat, law, action in zip(node.seats, laws, choice, strict=True)
        )
        for choice in node.choices
    ]


def _check(form: ExtensiveForm, profile: Profile, but: int | None = None) -> None:
    """Raises ValueError for what is no policy of a seat; that of `but` is not looked at."""
    if len(profile) != form.players:
        raise ValueError(f"{len(profile)} policies for {form.players} seats; give one for each")
    for seat, sets in enumerate(form.information_sets):
        for key, actions in sets.items() if seat != but else ():
            if key not in profile[seat]:
                raise ValueError(f"seat {seat}: its policy says nothing of the information key {key!r}")
            law = profile[seat][key]
            if unknown := [action for action in law if action not in actions]:
                raise ValueError(f"seat {seat}: {unknown[0]!r} is no action of the information key {key!r}")
            if min(law.values()) < 0 or not isclose(sum(law.values()), 1.0, abs_tol=_ROUNDING):
                raise ValueError(f"seat {seat}: {dict(law)} are no probabilities, at the information key {key!r}")
