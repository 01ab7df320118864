"""What policies are worth in a game of several seats that is given as a tree: expected rewards, best responses,
NashConv, exploitability, and the minimax value.

Knows trees and policies as tables, by information key. Knows nothing about texts, models or episodes. All of it in
float64, and nothing recursive: a game may be as deep as memory goes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
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
    """Of every seat the number of its own decisions before, on the longest way here."""


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
    places: tuple[dict[Hashable, Any], ...] = field(repr=False)
    """Of every seat one node of the tree for each information set."""
    turns: int
    """How many the longest game has."""

    def uniform(self) -> list[dict[Hashable, dict[str, float]]]:
        """The profile in which every seat chooses uniformly."""
        return [
            {key: dict.fromkeys(actions, 1 / len(actions)) for key, actions in of_seat.items()}
            for of_seat in self.information_sets
        ]


def expand(root: Tree, most: int = MOST_NODES) -> ExtensiveForm:
    """Spell a tree out, a game of perfect information by its states, so that ways to one state meet there.

    Raises ValueError where it is too large or breaks what `Tree` promises, as perfect recall.
    """
    players, by_state = root.players, root.perfect_information
    sets: tuple[dict[Hashable, tuple[str, ...]], ...] = tuple({} for _ in range(players))
    pasts: list[dict[Hashable, Any]] = [{} for _ in range(players)]
    numbers: dict[tuple[int, Hashable, str], int] = {}  # of what a seat did: its past before, the set, the action
    found = [_Found(root, _paid_on_coming(root))]
    known: dict[Hashable, int] = {root.state_key() if by_state else 0: 0}
    waiting: list[tuple[int, tuple[int, ...]]] = [(0, (0,) * players)]
    while waiting:
        number, past = waiting.pop()
        here = found[number]
        tree, seats, outcomes = here.tree, here.tree.to_move(), here.tree.chance()
        if seats and outcomes:
            raise ValueError("chance and seats move at once; let a node have chance() or to_move()")
        if outcomes and not isclose(total := sum(chance for chance, _ in outcomes), 1.0, abs_tol=_ROUNDING):
            raise ValueError(f"the probabilities of chance() sum to {total}, not to 1")
        here.seats, here.keys = seats, tuple(tree.information_key(seat) for seat in seats)
        legal = [tree.legal(seat) for seat in seats]
        for seat, key, actions in zip(seats, here.keys, legal, strict=True):
            _same(sets[seat], key, actions, f"seat {seat}: the information key {key!r} offers other actions elsewhere")
            if by_state:
                why = f"no perfect information, for {key!r} stands for two states; let the key tell them apart"
            else:
                why = f"no perfect recall, for {key!r} forgets what the seat knew or did; let the key hold all of it"
            _same(pasts[seat], key, number if by_state else past[seat], f"seat {seat}: {why}")
        here.choices, here.chances = list(product(*legal)) if seats else [], [chance for chance, _ in outcomes]
        for child, then in [(child, past) for _, child in outcomes] or _after_choices(here, past, numbers):
            state, paid = child.state_key() if by_state else len(found), _paid_on_coming(child)
            if state not in known:
                if len(found) == most:
                    raise ValueError(
                        f"the game's tree has more than {most} nodes: too many to spell out; take a smaller game"
                    )
                known[state] = len(found)
                waiting.append((len(found), then))
                found.append(_Found(child, paid))
            elif found[known[state]].paid != paid:
                raise ValueError(f"the state {state!r} pays by the way to it; let state_key tell the ways apart")
            here.children.append(known[state])
    return _in_order(found, players, sets)


@dataclass
class _Found:
    """A node as it is come upon, whose children may be numbered before it."""

    tree: Tree
    paid: tuple[float, ...]
    seats: tuple[int, ...] = ()
    keys: tuple[Hashable, ...] = ()
    choices: list[tuple[str, ...]] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    children: list[int] = field(default_factory=list)


def _after_choices(
    here: _Found, past: tuple[int, ...], numbers: dict[tuple[int, Hashable, str], int]
) -> Iterator[tuple[Tree, tuple[int, ...]]]:
    """What follows each choice, and what the seats then have done."""
    for choice in here.choices:
        then = list(past)
        for seat, key, action in zip(here.seats, here.keys, choice, strict=True):
            then[seat] = numbers.setdefault((past[seat], key, action), len(numbers) + 1)
        yield here.tree.after(dict(zip(here.seats, choice, strict=True))), tuple(then)


def _paid_on_coming(tree: Tree) -> tuple[float, ...]:
    paid = tuple(map(float, tree.rewards()))
    if len(paid) != tree.players:
        raise ValueError(f"rewards() gives {len(paid)} numbers for {tree.players} seats; give one for each")
    return paid


def _in_order(
    found: Sequence[_Found], players: int, sets: tuple[dict[Hashable, tuple[str, ...]], ...]
) -> ExtensiveForm:
    """Every node before all that may follow it (Kahn 1962). Raises ValueError where a game comes back to a state."""
    parents = [0] * len(found)
    for node in found:
        for child in node.children:
            parents[child] += 1
    own, turns = [(0,) * players] * len(found), [0] * len(found)
    order, ready = list[int](), [0]
    while ready:
        number = ready.pop()
        order.append(number)
        node = found[number]
        deeper = tuple(count + (seat in node.seats) for seat, count in enumerate(own[number]))
        for child in reversed(node.children):
            own[child] = tuple(map(max, own[child], deeper))
            turns[child] = max(turns[child], turns[number] + bool(node.seats))
            parents[child] -= 1
            if not parents[child]:
                ready.append(child)
    if len(order) < len(found):
        raise ValueError("the game comes back to a state, so it is no finite tree; count its moves in state_key")
    place = {number: index for index, number in enumerate(order)}
    members: tuple[dict[Hashable, list[int]], ...] = tuple({} for _ in range(players))
    places: tuple[dict[Hashable, Tree], ...] = tuple({} for _ in range(players))
    nodes = []
    for index, number in enumerate(order):
        node = found[number]
        for seat, key in zip(node.seats, node.keys, strict=True):
            members[seat].setdefault(key, []).append(index)
            places[seat].setdefault(key, node.tree)
        children = [place[child] for child in node.children]
        nodes.append(_Node(node.seats, node.keys, node.choices, node.chances, children, own[number]))
    rewards = np.array([found[number].paid for number in order])
    return ExtensiveForm(players, nodes, rewards, sets, members, places, max(turns))


def _same(seen: dict[Hashable, Any], key: Hashable, value: Any, problem: str) -> None:
    """Raises ValueError where the key was seen with another value."""
    if seen.setdefault(key, value) is not value and seen[key] != value:
        raise ValueError(problem)


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
            reach[child] += reach[number] * chance
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


def minimax(form: ExtensiveForm) -> float:
    """What the first of two seats gets from a zero-sum game of perfect information that both play perfectly.

    v(s) = what is paid on coming to s, and max, or min where the second seat moves, of v over what follows, and the
    mean at chance (Shannon 1950; with chance Michie's expectimax, 1966). Raises ValueError for a game of another kind.
    """
    if form.players != 2:
        raise ValueError(f"minimax is of 2 seats, not of {form.players}")
    for seat, of_seat in enumerate(form.members):
        if any(len(nodes) > 1 for nodes in of_seat.values()):
            raise ValueError(
                f"seat {seat} cannot tell two states apart: a game of imperfect information; take nash_conv"
            )
    if any(len(node.seats) > 1 for node in form.nodes):
        raise ValueError("both seats choose at once: a game of imperfect information has no minimax value of this kind")
    if not np.allclose(form.rewards.sum(axis=1), 0.0, rtol=0.0, atol=_ROUNDING):
        raise ValueError("what the seats are paid does not sum to zero: not a zero-sum game")
    values = form.rewards[:, 0].astype(np.float64)
    for number in reversed(range(len(form.nodes))):
        node = form.nodes[number]
        following = [float(values[child]) for child in node.children]
        if node.seats:
            values[number] += (max if node.seats == (0,) else min)(following)
        else:
            values[number] += sum(chance * one for chance, one in zip(node.chances, following, strict=True))
    return float(values[0])


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
