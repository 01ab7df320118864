"""Log-probabilities of training rows where every beginning of a prompt and its answer is computed once.

Knows padded token tensors and the cache of a transformers model. Knows nothing about rewards, losses or games.
Shape suffixes: N rows, A distinct answers (pairs of prompt and completion), T tokens.

Rows of one update repeat: episodes of a group pass through the same states and give the same answers there; prompts
begin alike, and so do the answers to one of them. What the backbone reads of an answer is a *text*: its prompt and its
tokens but the last. The distinct texts are read level by level through a cache, or as a tree behind a mask; the head
reads each place where a token is predicted once for every token that follows there; the results are dealt out to the
rows. Gradients add up on the way back: loss and gradient are those of separate rows, up to rounding.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import DynamicCache, PreTrainedModel

from msgrpo_cli.models.beginnings import Level, Tokens, common_of, plan
from msgrpo_cli.models.caches import cache_name, has_plain_cache
from msgrpo_cli.models.common_beginning import CommonBeginning, behind, length_of, sees_common
from msgrpo_cli.models.dropout import active_dropout
from msgrpo_cli.models.kept_beginnings import KeptBeginnings
from msgrpo_cli.models.level_reading import pass_of, places_in, positions_of, read_levels
from msgrpo_cli.models.packing import Packed, most_tokens, pack

_NOTHING = -1  # stands where a row is padded
_TAKE_MASKS = ("eager", "sdpa", "flex_attention")
_COPIED = 0.01
"""What handing one token's keys and values to one more row costs, forwards and backwards, in tokens.

With the cost of attention (a token that sees L others: 1 + L / 6 d) it sorts what single runs on one core took, seconds
packed over those by levels: d = 576, answers of 6 tokens behind 231 that all begin with, 0.76; d = 512, answers of 60,
1.16; d = 96, full texts of Frozen Lake 0.83, compact ones 1.29, full texts of Snake 1.01."""


@dataclass(frozen=True)
class Sharing:
    """How one trainer computes what repeats once."""

    hidden: int
    """Width of the model."""
    a_pass: int
    """Tokens that a further pass over it costs by itself."""
    levels: bool = True
    """Level by level, through a cache."""
    packed: int | None = None
    """In sequences of so many tokens behind a mask; where both can be, whichever costs less."""
    apart: bool = False
    """By levels, what all begin with is seen by every row without being copied for it."""

    @classmethod
    def of(cls, model: PreTrainedModel, *, checkpointing: bool) -> Sharing | None:
        """None where rows stay separate: caches that forget, attention that takes no mask of its own (ALiBi makes its
        biases of a plain one), and dropout, which separate rows would draw each for itself.

        Where activations are checkpointed no cache is kept. What packing costs on an accelerator is not known.
        """
        config = model.config
        takes_masks = config._attn_implementation in _TAKE_MASKS and not getattr(config, "alibi", False)
        if not has_plain_cache(model) or (checkpointing and not takes_masks) or active_dropout(model):
            return None
        hidden, packs = config.get_text_config().hidden_size, checkpointing or model.device.type == "cpu"
        packed = most_tokens(hidden) if packs and takes_masks else None
        return cls(hidden, pass_of(model), not checkpointing, packed, not checkpointing and sees_common(model))

    def work(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_width: int) -> tuple[int, int]:
        """How many tokens one pass over padded rows reads, padding included, and how many of them are padding."""
        reading = self._reading(SharedRows.of(input_ids, attention_mask, completion_width))
        return reading.read, reading.padding

    def logprobs(
        self,
        model: PreTrainedModel,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        completion_width: int,
        *,
        entropy: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Log-probabilities (nats) of the completions' tokens, shape (N, T), 0 where padded, and their entropies.

        `model` carries TRL's fused head (`add_fused_lm_head`).
        """
        rows = SharedRows.of(input_ids, attention_mask, completion_width)
        reading = self._reading(rows)
        predicted = _Predicted.of(rows, reading.places, input_ids.device)
        output = reading.output(model, predicted)
        logprobs = predicted.dealt_out(output.log_probs, completion_width)
        return logprobs, predicted.dealt_out(output.entropy, completion_width) if entropy else None

    def _reading(self, rows: SharedRows) -> _Levels | _Sequences:
        return self._cheapest(tuple(rows.texts), tuple(rows.beginnings))

    @lru_cache(maxsize=64)  # noqa: B019 - it holds a few numbers; a micro-batch is asked for its work, then read
    def _cheapest(self, texts: Sequence[Tokens], beginnings: Sequence[int]) -> _Levels | _Sequences:
        ways: list[_Levels | _Sequences] = []
        if self.levels:
            ways.append(_Levels.of(plan(texts, repeating=beginnings, a_pass=self.a_pass), apart=self.apart))
        if self.packed is not None:
            ways.append(_Sequences(pack(texts, self.packed)))
        return min(ways, key=self._cost)

    def _cost(self, way: _Levels | _Sequences) -> float:
        """In tokens of a pass without attention; a rule of thumb, see `_COPIED`."""
        of_passes = (self.a_pass + read * (1 + seen / (6 * self.hidden)) for read, seen in way.passes)
        return sum(of_passes, _COPIED * way.copied)


def told_positions(model: torch.nn.Module, inner: PreTrainedModel) -> Callable[..., Any]:
    """The model, told the position of every token behind padding, where it takes them: not every one counts by itself.

    `inner` is the same model without what is wrapped around it.
    """
    if "position_ids" not in inspect.signature(type(inner).forward).parameters:
        return model

    def forward(*, attention_mask: torch.Tensor, **others: Any) -> Any:
        return model(attention_mask=attention_mask, position_ids=positions_of(attention_mask), **others)

    return forward


@dataclass(frozen=True)
class SharedRows:
    """Rows cut into what is distinct in them."""

    texts: list[Tokens]
    """What the backbone reads: a prompt and an answer to it, but for the answer's last token."""
    beginnings: list[int]
    """How many of the tokens of each text are its prompt's, the last not counted: they stand before all answers."""
    answers: list[tuple[int, Tokens]]
    """Of each distinct answer the number of its text, and its tokens."""
    answer_N: list[int]
    """Number of each row's answer."""

    @classmethod
    def of(cls, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_width: int) -> SharedRows:
        """From prompts padded on the left and completions padded on the right, side by side, shape (N, T)."""
        token_NT = input_ids.masked_fill(attention_mask == 0, _NOTHING).cpu().numpy()
        kinds = {row.tobytes(): row for row in token_NT}
        number_of = {kind: number for number, kind in enumerate(kinds)}
        texts: dict[Tokens, int] = {}
        answers: list[tuple[int, Tokens]] = []
        beginnings: list[int] = []
        for row in kinds.values():
            whole = tuple(row[row != _NOTHING].tolist())
            length = int((row[-completion_width:] != _NOTHING).sum())
            beginning = len(whole) - length - 1
            if whole[:-1] not in texts:
                texts[whole[:-1]] = len(texts)
                beginnings.append(beginning)
            answers.append((texts[whole[:-1]], whole[beginning + 1 :]))
        return cls(list(texts), beginnings, answers, [number_of[row.tobytes()] for row in token_NT])


@dataclass(frozen=True)
class _Predicted:
    """Where the tokens of the answers are predicted, each token that follows at a place once."""

    place_T: torch.Tensor
    token_T: torch.Tensor
    answer_NT: torch.Tensor
    """Of each token of each row the number of its prediction; 0 where there is none."""
    there_NT: torch.Tensor

    @classmethod
    def of(cls, rows: SharedRows, places: Sequence[Sequence[int]], device: torch.device) -> _Predicted:
        """`places`: of each text where its tokens stand among all that are read."""
        predictions: dict[tuple[int, int], int] = {}
        numbers = [
            [
                predictions.setdefault(pair, len(predictions))
                for pair in zip(places[text][len(places[text]) - len(answer) :], answer, strict=True)
            ]
            for text, answer in rows.answers
        ]
        width = max(map(len, numbers))
        number_AT = torch.tensor([[*own, *[_NOTHING] * (width - len(own))] for own in numbers])
        number_NT = number_AT[rows.answer_N].to(device)
        place_T, token_T = torch.tensor(list(predictions), device=device).reshape(-1, 2).T
        return cls(place_T, token_T, number_NT.clamp(min=0), number_NT != _NOTHING)

    def dealt_out(self, value_1T: torch.Tensor, width: int) -> torch.Tensor:
        """The rows' values, shape (N, `width`), 0 where padded."""
        value_NT = value_1T[0].index_select(0, self.answer_NT.flatten()).view_as(self.answer_NT) * self.there_NT
        return torch.nn.functional.pad(value_NT, (0, width - value_NT.shape[1]))

    def any_from(self, first: int, behind: int) -> bool:
        """Whether anything is predicted in these places."""
        return bool(((self.place_T >= first) & (self.place_T < behind)).any())

    def output(self, model: PreTrainedModel, before: Sequence[torch.Tensor], inputs: dict[str, Any]) -> Any:
        """What the head says, a sequence of predictions; `before`: hidden states read earlier, each (tokens, width)."""
        with _read_by_the_head(model, before, self.place_T):
            return model(**inputs, shift_labels=self.token_T[None], fused_lm_head=True)


@contextmanager
def _read_by_the_head(model: PreTrainedModel, before: Sequence[torch.Tensor], places: torch.Tensor) -> Iterator[None]:
    """The head reads these places alone, of what was read before and what the backbone reads now, one behind another:
    as one sequence, in this order."""

    def gathered(module: torch.nn.Module, given: Any, output: Any) -> None:
        hidden = torch.cat([*before, output.last_hidden_state.flatten(0, 1)])
        output.last_hidden_state = hidden.index_select(0, places)[None]

    hook = model.base_model.register_forward_hook(gathered)
    try:
        yield
    finally:
        hook.remove()


@dataclass(frozen=True)
class _Levels:
    """Texts read level by level, each level from the cache of those before it."""

    levels: list[Level]
    common: int = 0  # tokens of the first level, where every later one stands behind it

    @classmethod
    def of(cls, levels: list[Level], *, apart: bool) -> _Levels:
        """With what all begin with `apart`, where there is such a beginning and it is worth it."""
        return cls(levels, common_of(levels) if apart else 0)

    @property
    def places(self) -> list[list[int]]:
        return places_in(self.levels)

    @property
    def read(self) -> int:
        return sum(level.read for level in self.levels)

    @property
    def padding(self) -> int:
        return self.read - sum(len(part) for level in self.levels for part in level.segments)

    @property
    def passes(self) -> list[tuple[int, int]]:
        """Of each the tokens that it reads, and how many each of them sees at most."""
        return [(level.read, level.width + max(map(len, level.beginnings))) for level in self.levels]

    @property
    def copied(self) -> int:
        """Tokens whose keys and values are handed to a row."""
        return sum(level.behind(self.common).handed for level in self.levels)

    def output(self, model: PreTrainedModel, predicted: _Predicted) -> Any:
        """What the head says of what is predicted, once all levels are read."""
        name, hidden, kept, levels = cache_name(model), list[torch.Tensor](), KeptBeginnings(model), self.levels

        def read(cache: DynamicCache, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> Any:
            positions = positions + length_of(kept.common)
            inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, name: cache}
            with behind(model, kept.common):
                if len(hidden) + 1 == len(self.levels):
                    return predicted.output(model, hidden, inputs)
                read_now = model.base_model(**inputs, use_cache=True).last_hidden_state.flatten(0, 1)
            first = sum(map(len, hidden))
            wanted = predicted.any_from(first, first + len(read_now))  # else nothing flows back
            hidden.append(read_now if wanted else read_now.detach())
            return None

        if self.common:
            first, *others = self.levels
            cache, _, _ = read_levels([first], kept, read, 0)
            kept.stand_behind(CommonBeginning.of(first.segments[0], cache))
            levels = [level.behind(self.common) for level in others]
        return read_levels(levels, kept, read, 0)[2]


@dataclass(frozen=True)
class _Sequences:
    """Texts packed into sequences, each token behind a mask that shows it the beginning that it continues.

    Needs no cache, so that activations may be checkpointed; the model's attention must take a mask of its own.
    """

    packed: list[Packed]

    @cached_property
    def width(self) -> int:
        return max(len(one.token_ids) for one in self.packed)

    @property
    def places(self) -> list[list[int]]:
        found = {
            text: [number * self.width + place for place in places]
            for number, one in enumerate(self.packed)
            for text, places in one.places.items()
        }
        return [found[text] for text in range(len(found))]

    @property
    def read(self) -> int:
        return len(self.packed) * self.width

    @property
    def padding(self) -> int:
        return self.read - sum(len(one.token_ids) for one in self.packed)

    @property
    def passes(self) -> list[tuple[int, int]]:
        """The one there is: the tokens that it reads, and how many each of them sees, seen or masked."""
        return [(self.read, self.width)]

    @property
    def copied(self) -> int:
        return 0

    def output(self, model: PreTrainedModel, predicted: _Predicted) -> Any:
        """What the head says of what is predicted, in one pass over all sequences."""
        device = predicted.place_T.device

        def padded(lists: Sequence[list[int]]) -> torch.Tensor:
            return torch.tensor([[*values, *[0] * (self.width - len(values))] for values in lists], device=device)

        inputs = {
            "input_ids": padded([one.token_ids for one in self.packed]),
            "attention_mask": _tree_mask(padded([one.behind for one in self.packed]), model),
            "position_ids": padded([one.positions for one in self.packed]),
        }
        return predicted.output(model, [], inputs)


def _tree_mask(behind_PT: torch.Tensor, model: PreTrainedModel) -> torch.Tensor | BlockMask:
    """Whom a token sees in sequences of which each token is seen up to the place before `behind`.

    Padding, which is behind nothing, sees itself: a token may not see nothing.
    """
    (count, width), device = behind_PT.shape, behind_PT.device

    def seen(number: Any, head: Any, query: Any, key: Any) -> Any:
        return ((key <= query) & (query < behind_PT[number, key])) | (key == query)

    if model.config._attn_implementation == "flex_attention":
        return create_block_mask(seen, count, None, width, width, device=device)
    place_T = torch.arange(width, device=device)
    mask = seen(torch.arange(count, device=device)[:, None, None], None, place_T[:, None], place_T)[:, None]
    if model.config._attn_implementation == "sdpa":
        return torch.as_tensor(mask)
    return torch.zeros_like(mask, dtype=model.dtype).masked_fill(~mask, torch.finfo(model.dtype).min)
