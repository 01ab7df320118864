"""Evaluations as a table for people: random < base < this checkpoint < optimal, and what stands behind the numbers.

Knows evaluations and rich. Knows nothing about episodes, models or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import PurePath
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from msgrpo_cli.common.numbers import NONE, counted, estimate, percent
from msgrpo_cli.common.statistics import normalized_score

from .scores import Evaluation, Scores

References = Mapping[str, Scores]
"""Scores of other players on the same starts, by rung: `random`, `base`, `greedy`, `optimal`; each may be missing."""

_SAME = 1e-9  # a rung this close to the evaluation of its own player would say the same thing twice
_PLAYERS = {
    "random": "random, as played",
    "optimal": "optimal, as played",
    "greedy": "heuristic player",
    "search": "search",
}


def render(evaluations: Sequence[Evaluation], references: Sequence[References] = ()) -> RenderableType:
    """One block for each game and set of starts; evaluations that share them (checkpoints of a run) share a table.

    `references`, one for each evaluation where given, adds success and intervals to the other rungs, of which an
    evaluation itself holds the mean total reward only. Raises ValueError where their number differs.
    """
    if references and len(references) != len(evaluations):
        raise ValueError(f"{len(evaluations)} evaluations, but {len(references)} references")
    pairs = list(zip(evaluations, references or [{}] * len(evaluations), strict=True))
    blocks: list[RenderableType] = []
    for _, members in groupby(pairs, key=lambda pair: _shared(pair[0])):
        together = list(members)
        blocks += [
            _table(together),
            _notes([evaluation for evaluation, _ in together]),
            *_warnings([evaluation for evaluation, _ in together]),
            Text(),
        ]
    return Group(*blocks[:-1])


def _shared(evaluation: Evaluation) -> tuple[object, ...]:
    """What evaluations must have in common to stand in one table."""
    e = evaluation
    return e.env, e.split, e.seeds, e.episodes, e.random_score, e.base_score, e.optimal_score


def _table(pairs: Sequence[tuple[Evaluation, References]]) -> Table:
    first, references = pairs[0]
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=Text(f"{first.env}: {first.episodes} episodes, intervals of 95 %"),
        title_justify="left",
        title_style="bold",
    )
    table.add_column("player", overflow="fold", min_width=6)
    for heading in ("success", "total reward", "normalised"):
        table.add_column(heading, justify="right", overflow="fold")
    _add_rung(table, "random", first, references, first.random_score, "random")
    _add_rung(table, "base", first, references, first.base_score, "base")
    for evaluation, others in pairs:
        _add_player(table, evaluation, others)
    best = "optimal (exact)" if first.optimal_is_exact else "best known"
    _add_rung(table, best, first, references, first.optimal_score, "optimal")
    return table


def _add_rung(
    table: Table, label: str, evaluation: Evaluation, references: References, reward: float | None, rung: str
) -> None:
    """A row for another player, unless its score is unknown or the evaluation already is about it."""
    if reward is None or (evaluation.policy == rung and abs(reward - evaluation.mean_total_reward) < _SAME):
        return
    seen = references.get(rung)
    interval = None
    if seen is not None and abs(seen.mean_total_reward - reward) < _SAME:
        interval = seen.mean_total_reward_ci95  # an exact expected value has none
    table.add_row(
        Text(label),
        estimate(seen.success_rate, seen.success_ci95) if seen else NONE,
        estimate(reward, interval),
        estimate(normalized_score(reward, evaluation.random_score, evaluation.optimal_score)[0]),
    )


def _add_player(table: Table, evaluation: Evaluation, references: References) -> None:
    table.add_row(
        Text(_name(evaluation), style="bold"),
        estimate(evaluation.success_rate, evaluation.success_ci95),
        estimate(evaluation.mean_total_reward, evaluation.mean_total_reward_ci95),
        estimate(evaluation.normalized_score),
    )
    reward = evaluation.greedy_mean_total_reward
    if reward is not None:
        seen = references.get("greedy")
        table.add_row(
            Text("  decoded greedily"),
            estimate(evaluation.greedy_success_rate, seen.success_ci95 if seen else None),
            estimate(reward, seen.mean_total_reward_ci95 if seen else None),
            estimate(normalized_score(reward, evaluation.random_score, evaluation.optimal_score)[0]),
        )


def _notes(evaluations: Sequence[Evaluation]) -> Table:
    """Compact lines; what holds for all of the evaluations stands once."""
    notes = Table.grid(padding=(0, 2))
    notes.add_column(no_wrap=True, style="dim")
    notes.add_column(overflow="fold")
    for heading, line in _NOTES:
        _add_note(notes, heading, [(_name(evaluation), line(evaluation)) for evaluation in evaluations])
    reasons = [(_name(evaluation), evaluation.normalized_reason or "") for evaluation in evaluations]
    _add_note(
        notes, "normalised", [(name, f"{reason}, so there is no such score") for name, reason in reasons if reason]
    )
    _add_note(notes, "server", [(_name(evaluation), _server(evaluation)) for evaluation in evaluations])
    _add_note(notes, "sampling", [(_name(evaluation), _sampling(evaluation)) for evaluation in evaluations])
    return notes


def _add_note(notes: Table, heading: str, lines: Sequence[tuple[str, str]]) -> None:
    lines = [(name, line) for name, line in lines if line]
    if len({line for _, line in lines}) == 1:
        lines = [("", lines[0][1])]
    for index, (name, line) in enumerate(lines):
        notes.add_row(heading if index == 0 else "", Text(f"{name}: {line}" if name else line))


def _play(evaluation: Evaluation) -> str:
    ends = ", ".join(f"{reason} {count}" for reason, count in evaluation.ends.items())
    valid = f"valid actions {percent(evaluation.valid_action_rate)}"
    if evaluation.illegal_action_rate is not None:
        valid += f", illegal {percent(evaluation.illegal_action_rate)}"
    return f"{valid}, mean length {evaluation.mean_length:.2f} steps; ended by {ends}"


def _game(evaluation: Evaluation) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in evaluation.game_metrics.items())


def _starts(evaluation: Evaluation) -> str:
    first, last = evaluation.seeds
    states, texts = evaluation.distinct_initial_states, evaluation.distinct_initial_texts
    distinct = f"{states} distinct" if states == texts else f"{states} distinct, {texts} as they read"
    part = "not held out (all that the game draws)" if evaluation.split == "any" else f"of the {evaluation.split} part"
    if evaluation.not_held_out:
        part += f", but of {' and '.join(evaluation.not_held_out)} none is held out"
    return f"{distinct}, seeds {first} to {last}; {part}"


def _seats(evaluation: Evaluation) -> str:
    """Who sat where, of several players."""
    return f"{', '.join(evaluation.seats)}; moved on by one from start to start" if evaluation.seats else ""


def _trained(evaluation: Evaluation) -> str:
    """How much of what was played was trained on."""
    starts, decisions = evaluation.overlap_with_training, evaluation.overlap_of_decisions
    if starts is None or decisions is None:
        return "" if evaluation.policy != "model" else "not known, or prompts were shown in another way in training"
    return f"{percent(starts)} of the starts and {percent(decisions)} of all decisions read as in training"


def _question(evaluation: Evaluation) -> str:
    where = "all starts" if evaluation.split == "any" else f"starts of the {evaluation.split} part"
    return f"of 95 %, for more episodes from {where} as the game draws them"


def _resolution(evaluation: Evaluation) -> str:
    smallest = evaluation.smallest_detectable_difference
    what = "total reward" if evaluation.success_rate is None else "success"
    if smallest is None:
        return "unknown: all episodes score alike, or fewer than six differ from those of the base"
    return f"detects a difference of {smallest:.3f} in {what} (power 0.80, two-sided level 0.05)"


_NOTES = (
    ("play", _play),
    ("game", _game),
    ("seats", _seats),
    ("starts", _starts),
    ("seen", _trained),
    ("intervals", _question),
    ("resolution", _resolution),
)


def _sampling(evaluation: Evaluation) -> str:
    """The settings of the evaluation, with those of training where they differ."""
    training = evaluation.training_sampling
    if not evaluation.sampling:
        return ""
    if training is None:
        return f"{_settings(evaluation.sampling)}; that of training unknown"
    sampling = evaluation.sampling
    other = {key: value for key, value in training.items() if key not in sampling or sampling[key] != value}
    return f"{_settings(evaluation.sampling)}; training: {_settings(other) or 'the same'}"


def _server(evaluation: Evaluation) -> str:
    """What was asked of a server, and what it cost."""
    if (usage := evaluation.usage) is None:
        return ""
    cost = "cost unknown" if usage["cost_usd"] is None else f"{usage['cost_usd']:.4f} US dollars"
    kept = f" ({usage['kept']} of them answered before)" if usage["kept"] else ""
    if kept and usage["cost_usd"] is not None:
        cost += f", {usage['cost_usd_now']:.4f} of them now"
    retries = f", {counted(usage['retries'], 'retry', 'retries')}" if usage["retries"] else ""
    counts = (usage["prompt_tokens"], usage["completion_tokens"])
    tokens = "tokens unknown" if None in counts else f"{counts[0]} prompt tokens, {counts[1]} answer tokens"
    by = f", answered by {', '.join(usage['answered_by'])}" if usage.get("answered_by") else ""
    return f"{usage['base_url']}; {counted(usage['requests'], 'request')}{kept}{retries}{by}, {tokens}, {cost}"


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {'none' if value is None else value}" for key, value in settings.items())


def _warnings(evaluations: Sequence[Evaluation]) -> list[Text]:
    asked = [evaluation for evaluation in evaluations if evaluation.usage is not None]
    return [
        *filter(None, map(_withheld, asked)),
        *filter(None, map(_unheard, asked)),
        *filter(None, map(_unheeded, asked)),
        *_below_random(evaluations),
    ]


def _withheld(evaluation: Evaluation) -> Text | None:
    """A content filter may answer in the model's place."""
    usage = evaluation.usage or {}
    if not usage.get("filtered"):
        return None
    text = (
        f"warning: the server's content filter refused {usage['filtered']} of {usage['requests']} answers of "
        f"{_name(evaluation)}: the score is not the model's alone"
    )
    return Text(text, style="bold yellow")


def _unheard(evaluation: Evaluation) -> Text | None:
    """A server may answer without a word, or in words that no parser was made for."""
    usage = evaluation.usage or {}
    if usage["empty"]:
        said = (
            f"said nothing in {usage['empty']} of {usage['requests']} answers: a model that thinks first may need more "
            "rollout.max_new_tokens"
        )
    elif evaluation.valid_action_rate == 0.0 and not usage.get("filtered"):
        said = "named no action in any answer; what it said stands in the file of answers"
    else:
        return None
    return Text(f"warning: {_name(evaluation)} {said}", style="bold yellow")


def _unheeded(evaluation: Evaluation) -> Text | None:
    """A limit that is asked for need not be the one that a server keeps."""
    usage, asked = evaluation.usage or {}, evaluation.sampling.get("max_new_tokens")
    if usage.get("too_long"):
        said = f"has {usage['too_long']} of {usage['requests']} answers of more tokens, up to {usage['longest']}"
    elif usage.get("cut_early"):
        said = f"was cut at fewer tokens in {usage['cut_early']} of {usage['requests']} answers"
    else:
        return None
    text = f"warning: the server does not heed rollout.max_new_tokens={asked}: {_name(evaluation)} {said}"
    return Text(text, style="bold yellow")


def _below_random(evaluations: Sequence[Evaluation]) -> list[Text]:
    return [
        Text(
            f"warning: {_name(evaluation)} plays below random: mean total reward "
            f"{evaluation.mean_total_reward:.3f} < {evaluation.random_score:.3f}",
            style="bold yellow",
        )
        for evaluation in evaluations
        if evaluation.random_score is not None and evaluation.mean_total_reward < evaluation.random_score - _SAME
    ]


def _name(evaluation: Evaluation) -> str:
    if evaluation.usage is not None:
        return PurePath(evaluation.usage["model"]).name
    if evaluation.policy != "model":
        return _PLAYERS.get(evaluation.policy, evaluation.policy)
    return "this model" if evaluation.checkpoint is None else PurePath(evaluation.checkpoint).name
