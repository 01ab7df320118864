"""What an update will probably play: the game itself, played without a model, its prompts counted in tokens.

Knows games, prompts, groups and how rows become micro-batches. Loads no weights; a tokenizer is handed in.

A stand-in answers in the model's place: uniformly over the actions for a trained model, with noise (so that
`algo.invalid_action` decides) for one with random weights. Answers differ from each other, unless the prompt asks for
an action and nothing else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from msgrpo_cli.algo.batching import Row, shared_out, step_rows, times_read
from msgrpo_cli.algo.episode_sampling import EPISODE_SAMPLINGS
from msgrpo_cli.config.prompt import prompt_of
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.config.seats import seats_counted
from msgrpo_cli.episode import Completion, Episode
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.models.beginnings import PASS, common_of, distinct_beginnings, plan
from msgrpo_cli.rollout.collect import UpdateRules, starts_of_update
from msgrpo_cli.rollout.play import Decision, PlayRules, play_episodes
from msgrpo_cli.rollout.players import RandomPlayer
from msgrpo_cli.rollout.prompt import Messages, PromptTemplate

Encode = Callable[[Messages], tuple[int, ...]]
"""A conversation as the token ids that the model reads."""

T = TypeVar("T")

MOST_EPISODES, _MOST_UPDATES = 512, 8
"""That are played. A larger update is taken to be like its part, of smaller ones several are played: memory is what the
largest of a run's micro-batches takes."""
_CHARACTERS = 3  # of one token, where no tokenizer is at hand
_ACTION = "action_only"  # the prompt that asks for nothing else
_FRAME = 6  # tokens that a chat template puts around a message
_NO_PASS_PAYS = 2**60


@dataclass(frozen=True)
class Batch:
    """One forward pass over distinct prompts and the answers to them."""

    prompts: int
    answers: int
    width: int
    """Tokens of the longest prompt."""
    beginnings: int
    """Tokens of the prompts, each without its last, that are read: where they begin alike, once."""
    padded: bool = False
    """Sequences of unlike lengths, which take a mask."""
    handed: int = 0
    """Tokens that the nodes of levels between the first and the last see, own ones with them, added up."""
    nodes: int = 0
    common: int = 0
    """Tokens that all begin with, where a CPU reads them apart."""
    looked_at: int = 0
    """Pairs of a token behind them and one that it may see, added up."""


@dataclass(frozen=True)
class ExpectedPlay:
    """An update as it was played by a stand-in."""

    decisions: float
    """Of one update; episodes are halfway between the stand-in's and the longest (see `lengthened`)."""
    decisions_at_most: int
    rows: float
    rows_at_most: int
    episode_length: float
    """Steps of the stand-in's episodes, on average."""
    prompt_tokens: float
    """On average over decisions."""
    longest_prompt: int
    measured: bool
    """Whether a tokenizer counted the prompts; else their average is guessed by their letters, and `longest_prompt` is
    the most that is allowed."""
    answer_tokens: int
    """As many as an answer may have."""
    expected_answer: float
    """Tokens of an answer on average: half of those where it is one action, else all of them."""
    actions_alone: bool
    """Answers to one prompt are often equal."""
    distinct_share: float
    """Distinct prompts among those that are answered together."""
    read_share: float
    """Tokens of prompts that are read before answers, among all."""
    micro: tuple[Batch, ...]
    """Micro-batches of the rows that were played, as `algo.batching.shared_out` cuts them for all processes."""
    single: bool
    """An optimizer step has one micro-batch alone in each process."""
    distinct_rows: float
    """Distinct pairs of prompt and answer among the rows."""
    micro_batches: int
    """How many an update has in one process, all passes together."""

    @property
    def read_a_row(self) -> float:
        """Tokens of prompts that a pass over the update reads for each of its rows."""
        answers = sum(batch.answers for batch in self.micro)
        return self.distinct_rows * sum(batch.beginnings for batch in self.micro) / answers


@dataclass
class _StandIn:
    """A policy without a model, that keeps what it was asked."""

    encode: Encode
    template: PromptTemplate
    noise: bool
    actions_alone: bool
    prompts: int = 0
    distinct: int = 0
    tokens: int = 0
    longest: int = 0
    read: int = 0
    """Tokens of which each beginning is read once a decision."""
    asked: set[tuple[int, ...]] = field(default_factory=set)
    _known: dict[Messages, tuple[int, ...]] = field(default_factory=dict)
    listed: bool = True
    _player: RandomPlayer = field(default_factory=RandomPlayer)

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        """One answer for each; no two are alike, unless they are actions and nothing else."""
        asked = [self._ids(self.template.messages(one.game, one.observation, one.history)) for one in decisions]
        spoken = self._player.act(decisions) if self.listed else [Completion("", None)] * len(asked)
        before = self.prompts
        self.prompts += len(asked)
        self.distinct += len(set(asked))
        self.read += distinct_beginnings(asked)
        self.asked |= set(asked)
        self.tokens += sum(map(len, asked))
        self.longest = max(self.longest, *map(len, asked))
        completions = []
        for number, (said, ids) in enumerate(zip(spoken, asked, strict=True)):
            answer = hash(said.action) if self.actions_alone else before + number
            completions.append(Completion(said.text, None if self.noise else said.action, ids, (answer,), (0.0,)))
        return completions

    def _ids(self, messages: Messages) -> tuple[int, ...]:
        if (known := self._known.get(messages)) is None:
            known = self._known[messages] = self.encode(messages)
        return known


def by_letters(messages: Messages) -> tuple[int, ...]:
    """In place of a tokenizer: ids of about the right number, which begin alike where conversations do."""
    ids: list[int] = []
    for role, text in messages:
        ids += [hash(role)] * _FRAME
        ids += [hash(text[start : start + _CHARACTERS]) for start in range(0, len(text), _CHARACTERS)]
    return tuple(ids)


@dataclass(frozen=True)
class Sample:
    """Episodes that a stand-in played, and what it was asked."""

    updates: Sequence[Sequence[Episode]]
    members: int
    """Of every group."""
    measured: bool
    prompt_tokens: float
    longest_prompt: int
    distinct_share: float
    apart_share: float
    """Tokens of prompts of which each beginning is read once a decision, among all."""
    kept_share: float
    """The same where it is read once an update."""
    _known: dict[object, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, key: object, make: Callable[[], T]) -> T:
        """What `make` finds in this sample, which `key` decides: most of what advice tries leaves it as it is."""
        if key not in self._known:
            self._known[key] = make()
        return cast(T, self._known[key])

    @property
    def episode_length(self) -> float:
        """Steps, on average."""
        lengths = [len(episode.steps) for update in self.updates for episode in update]
        return sum(lengths) / len(lengths)


def play_sample(config: RunConfig, encode: Encode | None, most_episodes: int = MOST_EPISODES) -> Sample:
    """Play the groups of the first updates, or as many of those of the first as `most_episodes` allows."""
    algo = config.algo
    members = min(algo.group_size, most_episodes)
    groups = max(1, min(algo.groups_per_update, most_episodes // members))
    template = prompt_of(config)
    listed = make_game(config.env).lists_moves()  # else no answer of its is a move
    noise = config.model.init == "random" or not listed
    policy = _StandIn(encode or by_letters, template, noise, _actions_alone(config), listed=listed)
    updates = min(_MOST_UPDATES, config.max_updates, max(1, most_episodes // (groups * members)))
    game, seeds = make_game(config.env), UpdateRules(config.seed, groups, members)
    rules = PlayRules(
        env=config.env.name,
        observation=config.prompt.observation,
        invalid_action=algo.invalid_action,
        max_live_episodes=config.rollout.max_live_episodes,
        history=config.prompt.history,
    )
    played, kept = [], 0
    for update in range(1, updates + 1):
        policy.asked.clear()
        starts = starts_of_update(game, seeds, update)
        played.append(play_episodes(starts, lambda: make_game(config.env), policy, rules))
        kept += distinct_beginnings(policy.asked)
    return Sample(
        played,
        members,
        measured=encode is not None,
        prompt_tokens=policy.tokens / policy.prompts,
        longest_prompt=policy.longest,
        distinct_share=policy.distinct / policy.prompts,
        apart_share=policy.read / policy.tokens,
        kept_share=kept / policy.tokens,
    )


def expected_play(config: RunConfig, sample: Sample, cost_of_a_pass: int = PASS, processes: int = 1) -> ExpectedPlay:
    """A whole update like the sample, shared out among so many processes; a further pass over the model costs as much
    as so many tokens."""
    algo, rollout = config.algo, config.rollout
    length, (players, own, at_once) = sample.episode_length, seats_counted(config)
    expected = lengthened(length, at_once * config.env.max_steps, noise=config.model.init == "random")
    played, trained = algo.groups_per_update * algo.group_size, expected * own / players
    share = algo.fraction if EPISODE_SAMPLINGS[algo.episode_sampling].takes_a_share else 1.0
    drawn = max(1, math.floor(share * played + 0.5))
    longest = sample.longest_prompt if sample.measured else rollout.max_prompt_tokens
    drawn_from = (share, algo.share_prompts)
    distinct = sample.once(("distinct", *drawn_from), lambda: _distinct(sample, *drawn_from))
    step = drawn * trained * distinct / algo.optimizer_steps / processes
    most, width = max(1, int(config.trainer["per_device_train_batch_size"])), None if sample.measured else longest
    alone = _actions_alone(config)
    uneven = config.model.init != "random" and not algo.share_prompts  # random weights never end an answer early
    a_pass = cost_of_a_pass if algo.share_prompts else None
    cut = (min(most, math.ceil(step)), width, a_pass, uneven, processes, rollout.max_new_tokens)
    return ExpectedPlay(
        decisions=played * expected,
        decisions_at_most=played * at_once * config.env.max_steps,
        rows=drawn * trained,
        rows_at_most=drawn * own * config.env.max_steps,
        episode_length=length,
        prompt_tokens=min(sample.prompt_tokens, longest),
        longest_prompt=longest,
        measured=sample.measured,
        answer_tokens=rollout.max_new_tokens,
        expected_answer=max(1.0, rollout.max_new_tokens / 2) if alone else rollout.max_new_tokens,
        actions_alone=alone,
        distinct_share=sample.distinct_share if rollout.share_prompts else 1.0,
        read_share=_read_share(config, sample),
        distinct_rows=distinct,
        micro=sample.once(
            ("micro", share, *cut),
            lambda: tuple(batch for rows in _trained(sample, share) for batch in _micro_batches(rows, *cut)),
        ),
        single=step <= most,
        micro_batches=max(1, math.ceil(step / most)) * algo.optimizer_steps * int(config.trainer["num_iterations"]),
    )


def _actions_alone(config: RunConfig) -> bool:
    return config.prompt.name == _ACTION and config.model.init != "random"


def _read_share(config: RunConfig, sample: Sample) -> float:
    if not config.rollout.share_prompts:
        return 1.0
    return sample.kept_share if config.rollout.prefix_memory else sample.apart_share


def _micro_batches(
    rows: Sequence[Row],
    most: int,
    width: int | None,
    a_pass: int | None,
    uneven: bool,
    processes: int,
    answer_tokens: int,
) -> tuple[Batch, ...]:
    """The cut of the rows that were played; one that too few were played to fill is filled with their like.

    `a_pass`: None where rows are read apart.
    """
    batches, shared = [], a_pass is not None
    few = times_read(rows, shared=shared) < most * processes
    of_each = shared_out(np.arange(len(rows)), rows, most, shared=shared, ranks=processes)
    for numbers in filter(None, itertools.chain.from_iterable(of_each)):
        cut = [rows[number] for number in numbers]
        pairs = [(row.prompt_ids, row.completion_ids[:1] * (answer_tokens - 1)) for row in cut]
        pairs = list(dict.fromkeys(pairs)) if shared else pairs
        prompts, answers = {prompt for prompt, _ in pairs} if shared else pairs, times_read(cut, shared=shared)
        lengths = {len(prompt) for prompt, _ in pairs}
        padded = uneven or len(lengths) > 1
        levels = plan(
            [prompt + answer for prompt, answer in pairs],
            repeating=[len(prompt) - 1 for prompt, _ in pairs],
            a_pass=_NO_PASS_PAYS if a_pass is None else a_pass,
        )
        read = sum(level.read for level in levels) - answers * answer_tokens
        filled = most / answers if few else 1.0
        longer = width / max(lengths) if width else 1.0
        batches.append(
            Batch(
                math.ceil(len(prompts) * filled),
                math.ceil(answers * filled),
                width or max(lengths),
                math.ceil(read * filled * longer),
                padded,
                math.ceil(sum(level.seen for level in levels[1:-1]) * filled * longer),
                math.ceil(sum(len(level.segments) for level in levels[1:-1]) * filled),
                common_of(levels),
                math.ceil(sum(level.width * level.seen for level in levels[1:]) * filled * longer),
            )
        )
    return tuple(batches)


def lengthened(length: float, longest: int, *, noise: bool) -> float:
    """Steps of an episode while a model is trained: halfway from uniform play to the longest.

    Recorded runs lie there (experiments/plan); of random weights nothing is expected.
    """
    return length if noise else (length + longest) / 2


def _distinct(sample: Sample, share: float, shared: bool) -> float:
    """How many of the sample's rows the model reads, of each."""
    of_updates = _trained(sample, share)
    return sum(times_read(rows, shared=shared) for rows in of_updates) / sum(map(len, of_updates))


def _trained(sample: Sample, share: float) -> list[list[Row]]:
    """Of each update the rows of the first episodes of every group; which ones are drawn is chance."""
    kept, members = max(1, math.floor(share * sample.members + 0.5)), sample.members
    return sample.once(
        ("rows", share),
        lambda: [
            step_rows([(one, np.ones(len(one.steps))) for number, one in enumerate(update) if number % members < kept])
            for update in sample.updates
        ],
    )
