"""How long an update takes, from operations, bytes and fixed costs.

Knows what a decoder computes for a token, and what share of a device's peak is expected. Knows nothing about games,
configs or memory. Times are seconds.

The efficiencies on a GPU are expectations and were not measured here; those on a CPU were (experiments/plan).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .architecture import Architecture
from .hardware import Hardware
from .shares import longest_share, most
from .workload import ExpectedPlay


@dataclass(frozen=True)
class Efficiency:
    """What a kind of device really gives."""

    training: float
    """Share of the peak in forward and backward passes."""
    reading: float
    """Share of the peak while prompts are read."""
    bandwidth: float
    """Share of the bandwidth while answers are decoded, token by token."""
    layer: float
    """Least seconds of one layer in one forward pass, however little it computes."""
    decision: float
    """Seconds of one decision outside the model: game, text, tokens."""
    row: float
    """Seconds of one training row outside the model."""
    game: float
    """Seconds of one step of a reference player in an evaluation."""


EFFICIENCIES = {
    "cuda": Efficiency(0.40, 0.50, 0.60, 4e-4, 2e-4, 1e-4, 5e-5),
    "mps": Efficiency(0.30, 0.40, 0.50, 6e-4, 2e-4, 1e-4, 5e-5),
    "cpu": Efficiency(0.80, 0.80, 1.00, 3e-4, 8e-5, 3.5e-5, 5e-5),
}
_NARROW = 64
"""A model this wide reaches half of its device's share, one twice as wide two thirds: small tensors take the rest."""
_BACKWARD = 2  # times the forward pass: gradients of inputs and of weights
_HEAD = 4  # TRL's head computes its logits again on the way back


@dataclass(frozen=True)
class TimeQuestion:
    """What decides the time of a run."""

    shape: Architecture
    hardware: Hardware
    """Of one process."""
    half: bool
    """Matrices are multiplied in half precision."""
    weight_bytes: int
    adapter: bool
    checkpointing: bool
    shared: bool
    reference: bool
    play: ExpectedPlay
    live: int
    """Episodes that one process plays at once."""
    passes: int
    """Times that an update's rows are trained on."""
    rounds: int
    """Decisions of the longest episode: as often prompts are read anew."""
    evaluation_episodes: int
    evaluations: int
    """Of a whole run, base and best checkpoint on the test part among them."""
    updates: int
    groups: int = 1
    """Of an update's episodes, which are dealt out whole."""
    processes: int = 1


@dataclass(frozen=True)
class TimePlan:
    """Seconds of a run's parts."""

    rollout: float
    """Of one update."""
    training: float
    """Of one update."""
    evaluation: float
    """Of one evaluation: sampled and greedy play, and the reference players."""
    hours: float
    """Of the whole run."""

    @property
    def update(self) -> float:
        return self.rollout + self.training


def time_plan(asked: TimeQuestion) -> TimePlan:
    """Seconds of an update and an evaluation, and hours of the run: of the process that has most to do."""
    play, count = asked.play, asked.processes
    rollout = _playing(asked, play.decisions * longest_share(asked.groups, count), asked.live)
    real = EFFICIENCIES[asked.hardware.kind]
    passes = 1 + _BACKWARD + (1 if asked.checkpointing else 0)
    fixed = play.micro_batches * asked.shape.layers * real.layer * passes
    shared = _training_operations(asked) / (_reached(asked) * real.training) + play.rows * real.row
    training = shared * longest_share(play.rows, count) + fixed
    steps = asked.evaluation_episodes * play.decisions / (play.decisions_at_most / asked.rounds)
    starts = asked.evaluation_episodes
    own = _playing(asked, steps * longest_share(starts, count), min(asked.live, most(starts, count)))
    evaluation = 2 * own + 2 * steps * real.game  # the reference players play in the first process alone
    whole = asked.updates * (rollout + training) + asked.evaluations * evaluation
    return TimePlan(rollout, training, evaluation, whole / 3600)


def forward_operations(shape: Architecture, tokens: float, context: float) -> float:
    """Floating-point operations of the layers for so many tokens, each seeing `context` tokens on average."""
    return tokens * (2 * shape.in_layers + 4 * shape.layers * shape.queries * context)


def _reached(asked: TimeQuestion) -> float:
    """Floating-point operations a second that this model could reach at most."""
    width = asked.shape.hidden
    return asked.hardware.speed(half=asked.half) * width / (width + _NARROW)


def _training_operations(asked: TimeQuestion) -> float:
    play, shape = asked.play, asked.shape
    prompt = play.prompt_tokens
    answer = play.expected_answer
    answers = play.rows * answer * (play.distinct_rows if asked.shared else 1.0)
    tokens = play.rows * (play.read_a_row if asked.shared else prompt) + answers
    times = 1 + _BACKWARD + (1 if asked.checkpointing else 0) - (1 if asked.adapter else 0)
    layers = forward_operations(shape, tokens, (prompt + answer) / 2) * times
    scored = answers if asked.shared or asked.hardware.kind == "cuda" else tokens
    head = scored * 2 * shape.embedding * _HEAD
    extra = forward_operations(shape, tokens, prompt / 2) if asked.reference else 0.0
    return asked.passes * (layers + head) + extra


def _playing(asked: TimeQuestion, decisions: float, live: int) -> float:
    """Reading the prompts of every round, then decoding token by token."""
    play, shape, device = asked.play, asked.shape, asked.hardware
    real, speed = EFFICIENCIES[device.kind], _reached(asked)
    rounds = max(1.0, math.ceil(max(decisions / live, min(asked.rounds, decisions))))
    batch = decisions / rounds * (play.distinct_share if play.actions_alone else 1.0)  # equal beginnings are read once
    prompt, answer = play.prompt_tokens, play.expected_answer
    prompts = decisions * play.distinct_share
    read = decisions * prompt * play.read_share
    reading = forward_operations(shape, read, prompt / 2) + prompts * 2 * shape.embedding
    seconds = max(reading / (speed * real.reading), rounds * shape.layers * real.layer)
    size = 2 if asked.half else 4
    decoding = forward_operations(shape, batch, prompt + answer / 2) + batch * 2 * shape.embedding
    touched = 3 + 2 * shape.heads / shape.kv_heads  # grown by copying, spread over the query heads, read
    cache = batch * (prompt + answer / 2) * 2 * shape.keys * shape.layers * size * touched
    moved = (shape.in_layers + shape.embedding) * min(size, asked.weight_bytes) + cache
    token = max(
        decoding / (speed * real.reading), moved / (device.bandwidth * real.bandwidth), shape.layers * real.layer
    )
    return seconds + rounds * (answer - 1) * token + decisions * real.decision
