"""How much memory a run takes, part by part and phase by phase, from shapes alone.

Knows which tensors a decoder, TRL's head, an optimizer and the sampling loop keep, and when. Knows nothing about
games, configs or devices. All figures are bytes.

Per token and layer autograd keeps what the backward pass reads: both norms' inputs (and, where their weights are
trained, their normalised values), the inputs of the matrices, queries, keys, values and output of the attention, and
four vectors of the feed-forward network. `tests/test_memory_plan.py`
compares that with what torch says it saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgrpo_cli.models.packing import most_tokens

from .architecture import Architecture
from .workload import Batch

TILE_TOKENS, TILE_WIDTH = 4096, 32768
"""TRL's head makes logits tile by tile: so many tokens, so many entries of the vocabulary."""
_FULL, _HALF = 4, 2
_PROCESS = 70 * 10**6  # what a run of `tiny` takes beside its own parts: kernels' buffers, tables, a figure
_LARGEST_KEPT = 32 * 2**20  # glibc gives larger blocks back to the system, and keeps what it can of smaller ones
_TENSORS_A_LAYER = 14  # that autograd keeps
_SCATTERED, _SCATTERED_BESIDE_ADAPTERS = 0.2, 0.6  # of such blocks, lost between them, as measured (experiments/plan)
_CPU_TILES = 7  # float32 tiles alive at once in the head's backward pass without Triton
_SAMPLING = 28  # bytes for each logit while a token is drawn: scores, log-probabilities, a float64 distribution
_QUANTIZED = {"4bit": 0.5, "8bit": 1.0}


@dataclass(frozen=True)
class MemoryQuestion:
    """What decides the memory of a run."""

    shape: Architecture
    weight_bytes: int
    """Of one stored weight."""
    autocast: bool
    """Matrices are multiplied in half precision while weights are kept in full."""
    adapter: int | None
    """Parameters of the adapters, where they alone are trained."""
    adapter_targets: int
    """Matrices of a layer that have an adapter, times its rank."""
    quantization: str | None
    optimizer_numbers: int
    """Kept for each trained parameter."""
    steps: int
    """Optimizer steps of the run: the optimizer's numbers exist after the first."""
    checkpointing: bool
    shared: bool
    """Equal prompts are read once in training."""
    reference: bool
    """A second model for the KL term."""
    on_cpu: bool
    micro: Sequence[Batch]
    """Micro-batches such as there will be; the largest counts."""
    single: bool
    """An optimizer step has one micro-batch alone."""
    live: int
    """Answers that grow at once."""
    prompts: int
    """Distinct prompts among those that are read together when an answer begins."""
    longest_prompt: int
    answer_tokens: int
    in_process: bool = True
    """Answers are sampled by the model that is trained, and not by vLLM."""
    engine: int = 0
    """Bytes that vLLM takes of the same device."""
    several: bool = False
    """Processes, which sum their gradients in buckets that torch keeps beside them."""
    parts: int = 1
    """Processes among which weights, gradients and the optimizer's numbers are shared out."""
    gathered_bytes: int = _FULL
    """Of one weight that is gathered from them."""
    seated: int = 0
    """Further models that sit on seats of a game of several players, such as earlier checkpoints."""

    @property
    def half(self) -> bool:
        """Whether matrices are multiplied in two bytes."""
        return self.autocast or self.weight_bytes == _HALF

    @property
    def shared_out(self) -> bool:
        return self.parts > 1

    @property
    def packed(self) -> bool:
        """Whether what begins alike is trained on in one sequence, behind a mask."""
        return self.shared and (self.checkpointing or self.shared_out)

    @property
    def trained(self) -> int:
        return self.shape.parameters if self.adapter is None else self.adapter

    @property
    def trained_bytes(self) -> int:
        """Of one trained weight; peft keeps adapters in float32."""
        return self.weight_bytes if self.adapter is None else _HALF if self.quantization else _FULL


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of every part, and of the parts that each phase holds at once."""

    parts: Mapping[str, int]
    phases: Mapping[str, int]

    @property
    def total(self) -> int:
        """Of the phase that takes most."""
        return max(self.phases.values())


def memory_plan(asked: MemoryQuestion) -> MemoryPlan:
    """Parts and phases.

    Parts that are never held at once do not add up: answers are sampled before activations exist, and gradients are
    given back before the next answers; the buckets in which several processes sum them stay. At the end of a run the
    best checkpoint is read from disk in place of all that was trained.

    Of weights that are shared out a process has its part, and whole ones before they are shared out, of a reference,
    gathered while answers are sampled, and of the best checkpoint. The first process gathers them in the memory of the
    CPU where it saves.
    """
    stored = _stored(asked)
    whole = stored + (0 if asked.adapter is None else asked.adapter * asked.trained_bytes)
    weights = whole / asked.parts
    gradients = asked.trained * asked.trained_bytes / asked.parts
    optimizer = asked.optimizer_numbers * gradients
    copies = asked.shape.parameters * _HALF if asked.autocast and asked.weight_bytes == _FULL else 0
    cached = copies if asked.adapter is None else 0  # autocast keeps those of trained weights while answers are sampled
    recomputed = asked.adapter is not None and asked.checkpointing  # then they are saved for one layer at a time
    saved = copies / asked.shape.layers if recomputed else copies
    in_half = asked.shared_out and asked.gathered_bytes == _HALF  # then there is nothing to make copies of
    gathered, passing = _gathered(asked), _passing(asked)
    reference = stored if asked.reference else 0
    head = max(_head(asked, batch) for batch in asked.micro)
    kept = max(_activations(asked, batch) for batch in asked.micro)
    both = max(_activations(asked, batch) + _head(asked, batch) for batch in asked.micro)
    cache = _cache(asked) if asked.in_process else 0
    sampling = _sampling(asked) if asked.in_process else 0
    embedding = asked.shape.embedding * _FULL if asked.adapter is None else 0
    after_first = optimizer if asked.steps > 1 else 0
    process = _PROCESS if asked.on_cpu else 0
    buckets = gradients if asked.several else 0
    seated = asked.seated * whole
    base = weights + reference + asked.engine + process + buckets + seated
    small = min(kept, asked.shape.layers * _TENSORS_A_LAYER * _LARGEST_KEPT) if asked.on_cpu else 0.0
    scattered = small * (_SCATTERED if asked.adapter is None else _SCATTERED_BESIDE_ADAPTERS)
    # with a single micro-batch gradients come as activations go
    growing = embedding + (max(both, gradients) if asked.single else gradients + both)
    phases = {
        "rollout": base + after_first + gathered + (0 if in_half else cached) + cache + sampling,
        "update": base + after_first + passing + (0 if in_half else saved) + growing + scattered,
        "optimizer step": base + gradients + optimizer + _stepping(asked, gradients),
        "final evaluation": asked.engine + process + seated + whole + cached + cache + sampling,
    }
    if asked.shared_out:
        matrix = (
            asked.shape.embedding * asked.weight_bytes
        )  # every process gathers one at a time: as sent, and as it is
        phases["loading"] = base - weights + whole
        phases["saving"] = base + optimizer + 2 * matrix + (whole if asked.on_cpu else 0)
    parts = {
        "weights": weights,
        "gathered": gathered,
        "gathered_in_training": passing,
        "half_precision_copies": copies,
        "gradients": gradients + embedding,
        "buckets": buckets,
        "optimizer": optimizer,
        "activations": kept,
        "logits": max(head, _logits(asked) if asked.in_process else 0),
        "kv_cache": cache,
        "reference": reference,
        "best_checkpoint": whole,
        "seated": seated,
        "saved_weights": whole if asked.shared_out and asked.on_cpu else 0,
        "engine": asked.engine,
        "process": process,
        "malloc": scattered,
    }
    return MemoryPlan({name: round(size) for name, size in parts.items()}, {k: round(v) for k, v in phases.items()})


def _gathered(asked: MemoryQuestion) -> float:
    """All weights, while answers are sampled, beside the part that the process has."""
    weights = asked.shape.parameters + (asked.adapter or 0)
    return float(weights * asked.gathered_bytes) if asked.shared_out else 0.0


def _passing(asked: MemoryQuestion) -> float:
    """While a micro-batch is trained on: what lies around the layers, the layer that is computed, and the next; whole
    gradients of what lies around them, and of one layer, which are being summed."""
    if not asked.shared_out:
        return 0.0
    layer, size = asked.shape.in_layers / asked.shape.layers, asked.gathered_bytes
    around = asked.shape.parameters - asked.shape.in_layers
    gradients = around * size + layer * (size + _FULL) if asked.adapter is None else 0.0
    return (around + 2 * layer) * size + gradients


def activation_bytes(asked: MemoryQuestion) -> float:
    """What one layer keeps of one token for the backward pass, its keys and values left out."""
    shape = asked.shape
    size = _HALF if asked.half else _FULL
    inner = 3 * size * shape.inner
    attention = 2 * size * shape.queries + _FULL * shape.heads
    norms = 2 * _FULL * shape.hidden
    if asked.adapter is not None and asked.weight_bytes == _HALF and not asked.autocast:
        inputs = _FULL * (5 * shape.hidden + shape.queries + shape.inner)  # one in float32 for every adapter
        return norms + inputs + attention + inner + _FULL * asked.adapter_targets
    if asked.adapter is None:
        norms += 2 * (_FULL if asked.autocast else size) * shape.hidden
    casts = 5 if asked.autocast else 2  # autocast keeps one input for every matrix
    inputs = size * (casts * shape.hidden + shape.inner)
    return norms + inputs + attention + inner + size * asked.adapter_targets


def _keys(asked: MemoryQuestion, *, spread: bool) -> float:
    """Keys and values of one token in one layer: spread over all query heads where attention is given a mask."""
    return 2.0 * (_HALF if asked.half else _FULL) * (asked.shape.queries if spread else asked.shape.keys)


def _activations(asked: MemoryQuestion, batch: Batch) -> float:
    shape, layer = asked.shape, activation_bytes(asked)
    stream = _FULL if asked.autocast or not asked.half else _HALF
    answers = batch.answers * asked.answer_tokens
    tokens, mask = float(batch.answers * (batch.width + asked.answer_tokens)), 0.0
    if asked.packed:
        tokens = batch.beginnings + answers
        width = min(tokens, max(most_tokens(shape.hidden), batch.width + asked.answer_tokens))
        mask = tokens * width * (1 + stream)
    if asked.checkpointing:
        once = tokens * (layer + _keys(asked, spread=True))  # of the layer that is computed again
        return tokens * stream * shape.hidden * (shape.layers + 2) + once + mask
    if asked.packed:
        keys = tokens * _keys(asked, spread=True)
    elif asked.shared and asked.on_cpu and batch.common:
        tokens = batch.beginnings + answers
        # the weights of attention, and a copy of them; its keys and values are those of the cache
        seen = batch.answers * (batch.width + asked.answer_tokens) + batch.handed
        seen -= (batch.answers + batch.nodes) * batch.common
        keys = seen * _keys(asked, spread=False) + 2 * _FULL * shape.heads * batch.looked_at
    elif asked.shared:
        tokens = batch.beginnings + answers  # a prompt's last token goes with each answer
        seen = batch.answers * (batch.width + asked.answer_tokens)  # every answer has its prompt's, too
        seen += batch.handed
        keys = batch.beginnings * _keys(asked, spread=batch.padded) + seen * _keys(asked, spread=True)
    else:
        keys = tokens * _keys(asked, spread=batch.padded)
    return shape.layers * (tokens * layer + keys) + tokens * stream * shape.hidden * 2 + mask


def _head(asked: MemoryQuestion, batch: Batch) -> float:
    """TRL's chunked head in its backward pass: tiles of logits, and the gradient of what it read."""
    shape = asked.shape
    tokens = batch.answers * asked.answer_tokens
    if asked.on_cpu and not asked.shared:
        tokens = batch.answers * (batch.width + asked.answer_tokens)  # without Triton every position is scored
    rows, width = min(tokens, TILE_TOKENS), min(shape.vocabulary, TILE_WIDTH)
    if asked.on_cpu:
        tile = rows * width * _FULL * _CPU_TILES
    else:
        tile = rows * TILE_WIDTH * (_HALF if asked.half else _FULL) + width * shape.hidden * _HALF
    return float(tile + 2 * tokens * shape.hidden * _FULL)


def _cache(asked: MemoryQuestion) -> float:
    shape = asked.shape
    size = _HALF if asked.half else _FULL
    both = size + (_FULL if asked.autocast else size)  # rotated keys are in full precision under autocast
    tokens = asked.live * (asked.longest_prompt + asked.answer_tokens)
    spread = 2 * size * shape.queries  # of one layer at a time: once for every query head
    return tokens * shape.keys * both * (shape.layers + 1) + tokens * spread


def _sampling(asked: MemoryQuestion) -> float:
    """Reading the prompts, or drawing the tokens: whichever takes more."""
    shape = asked.shape
    size = _HALF if asked.half else _FULL
    reading = asked.prompts * asked.longest_prompt * (3 * size * shape.inner + 3 * _FULL * shape.hidden)
    return max(reading, _logits(asked))


def _logits(asked: MemoryQuestion) -> float:
    return float(asked.live * asked.shape.vocabulary * _SAMPLING)


def _stepping(asked: MemoryQuestion, gradients: float) -> float:
    """Beside the numbers that it keeps, the optimizer computes with copies: of all at once on an accelerator."""
    if not asked.on_cpu:
        return gradients
    largest = asked.shape.embedding if asked.adapter is None else 0
    return 2.0 * largest * asked.trained_bytes / asked.parts


def _stored(asked: MemoryQuestion) -> float:
    """The model's own weights."""
    shape = asked.shape
    if asked.quantization is None:
        return float(shape.parameters * asked.weight_bytes)
    outside = shape.parameters - shape.in_layers
    return shape.in_layers * _QUANTIZED[asked.quantization] * 1.06 + outside * asked.weight_bytes
