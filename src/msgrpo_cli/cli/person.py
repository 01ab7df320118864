"""A person plays in the terminal, reading what the model reads, and ends on the ladder.

Knows terminals, games and reference players. Knows nothing about models or training.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Sequence

import typer
from rich.console import Console
from rich.table import Table

from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.episode import SELF, Completion, Start, pairs
from msgrpo_cli.evaluation.servers import asking
from msgrpo_cli.games.core import KnownDynamics, TextMediatedStochasticGame, is_illegal
from msgrpo_cli.games.guard import blaming
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.games.seats import SeatView
from msgrpo_cli.rollout.play import Decision, PlayRules, Policy, play_episodes
from msgrpo_cli.rollout.players import ExactPlayer, players_of
from msgrpo_cli.rollout.prompt import PromptTemplate
from msgrpo_cli.rollout.seating import SeatedPolicy, against_random

_ARROWS = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left"}
_ARROWS |= {key.replace("[", "O"): action for key, action in _ARROWS.items()}
_BACKSPACE, _END = ("\x7f", "\b"), ("\x03", "\x04")
_LEAVING = ("quit", "exit")
_TIMES = 100  # a reference player plays the same start so often


class Left(Exception):
    """The person went away."""


class Person:
    """A policy that asks; what is no legal move is asked again."""

    def __init__(self, config: RunConfig, ask: Callable[[Sequence[str]], str]) -> None:
        self._template = PromptTemplate(config.prompt.system, config.prompt.user)
        self._ask = ask

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        """One decision at a time, for there is one person."""
        return [self._decide(decision) for decision in decisions]

    def _decide(self, decision: Decision) -> Completion:
        messages = self._template.messages(decision.game, decision.observation, decision.history)
        first = decision.key[-1] == 0
        if isinstance(decision.game, SeatView):
            print(f"You are player {decision.game.player} of {decision.game.players}.")
        print("\n\n".join(text for role, text in messages if first or role != "system"))
        game, moves = decision.game, decision.game.legal()
        while True:
            text = self._ask(moves)
            action = self._meant(game, text)
            if text.strip().lower() in _LEAVING and (action is None or (game.actions is None and action not in moves)):
                raise Left
            with blaming(type(game).__name__, "at the decision {}", decision.key):
                illegal = is_illegal(game, action)
            if action is not None and not illegal:
                print()
                return Completion(text=text, action=action)
            choose = f"; choose from {', '.join(moves)}" if moves else ""
            print(f"'{text}' is no {'move of this state' if illegal else 'action'}{choose}")

    @staticmethod
    def _meant(game: TextMediatedStochasticGame, text: str) -> str | None:
        word = text.strip().lower()
        if (said := game.parse(text)) is not None:
            return said
        if game.actions is None:
            return game.parse(f"<action>{text}</action>")
        begun = [move for move in game.legal() if word and move.startswith(word)]
        return word if word in game.actions else begun[0] if len(begun) == 1 else None


def play_in_terminal(config: RunConfig, seed: int | None = None) -> None:
    """Play one episode from a start of its own; raises KeyboardInterrupt where the person leaves by Ctrl-C."""
    chosen = secrets.randbelow(2**31) if seed is None else seed
    players = make_game(config.env).players
    seats = tuple(config.eval.seats or against_random(players)) if players > 1 else ()
    start = Start(chosen, 0, 0, ("play", chosen), seats)
    rules = PlayRules(config.env.name, config.prompt.observation, history=config.prompt.history)
    in_terminal = sys.stdin.isatty()
    if in_terminal:
        print("Arrow keys, or a typed action and Enter; quit or Ctrl-D leaves.\n")
    person = Person(config, _ask_keys if in_terminal else _ask_lines)
    with asking(config) as servers:
        policy = SeatedPolicy(person, servers.player) if seats else person
        try:
            [episode] = play_episodes([start], lambda: make_game(config.env, evaluation=True), policy, rules)
        except Left:
            print("the game is left unfinished")
            return
        print(f"ended by {episode.ended_by}")
        for seat, had in enumerate(episode.seats):
            print(f"player {seat}, {'you' if had.player == SELF else had.player}: total reward {had.total_reward:.3f}")
        if (own := pairs([episode])) and not config.eval.asks_server:  # it would be asked for all of these, too
            _ladder(config, start, sum(pair.total_reward for pair in own) / len(own), servers.player)


def _ladder(config: RunConfig, start: Start, reached: float, others: Callable[[str], Policy]) -> None:
    """What the reference players reach from the same start, beside the person; `others` sit on the other seats."""
    game = make_game(config.env, evaluation=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("player")
    table.add_column("total reward", justify="right")
    rows = [("you", reached)]
    starts = [Start(start.seed, number, 0, (*start.key, number), start.seats) for number in range(_TIMES)]
    for name, player in players_of(game).items():
        if name == "optimal":
            continue
        policy = SeatedPolicy(player, others) if start.seats else player
        episodes = pairs(play_episodes(starts, lambda: make_game(config.env, evaluation=True), policy, PlayRules()))
        mean = sum(episode.total_reward for episode in episodes) / max(1, len(episodes))
        rows.append((f"{name}, mean of {_TIMES}", mean))
    if isinstance(game, KnownDynamics):
        game.reset(seed=start.seed)
        hidden = ", mean over what is hidden" if game.hides else ""
        rows.append((f"optimal (exact{hidden})", ExactPlayer().value(game) or 0.0))
    for name, value in sorted(rows, key=lambda row: row[1]):
        table.add_row(name, f"{value:.3f}")
    Console().print(table)


def _ask_lines(actions: Sequence[str]) -> str:
    line = sys.stdin.readline()
    if not line:
        raise Left
    return line.strip()


def _ask_keys(actions: Sequence[str]) -> str:
    """An arrow key, where such an action exists, or a typed word; Ctrl-D leaves."""
    print(f"({', '.join(actions)}) > " if actions else "> ", end="", flush=True)
    typed = ""
    while True:
        key = typer.getchar()
        if _ARROWS.get(key) in actions:
            print(_ARROWS[key])
            return _ARROWS[key]
        if key in ("\r", "\n"):
            print()
            return typed
        if key == _END[1]:
            print()
            raise Left
        if key == _END[0]:
            raise KeyboardInterrupt
        if key in _BACKSPACE:
            print("\b \b" * bool(typed), end="", flush=True)
            typed = typed[:-1]
        elif key.isprintable():
            print(key, end="", flush=True)
            typed += key
