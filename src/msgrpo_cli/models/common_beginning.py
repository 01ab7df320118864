"""What all rows of a batch begin with: read once, and seen by every row without being copied for it.

Knows the attention and the caches of transformers. Knows nothing about how a reading is planned, nor what is read.

A row of a cache holds the keys and values of all tokens before it. Where rows begin alike, with worked examples or long
rules, most of these are the same numbers again: to copy them for every row, and to spread them over the query heads,
takes longer than the tokens that a row adds. Here a cache holds what stands behind the common beginning, and attention
looks at two sets of keys: those of the beginning, for the queries of all rows at once, and each row's own. One softmax
goes over both, so that the outcome is that of one set, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from .beginnings import Tokens
from .caches import cache_name, has_plain_cache, held

_NAME = "common_beginning"
_KINDS = ("sdpa", "eager")
_PROBE = (3, 4)  # tokens of the beginning and behind it
_APART, _APART_IN_HALF = 1e-4, 0.05  # of the largest number
_OF_BEGINNING = 0.01  # of what the beginning does: a trained model blows up rounding, but does not leave it out


@dataclass(frozen=True)
class CommonBeginning:
    """A beginning that was read."""

    token_ids: Tokens
    layers: Sequence[tuple[torch.Tensor, torch.Tensor]]
    """Keys and values, each of shape (1, heads, tokens, width)."""

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(one.numel() * one.element_size() for pair in self.layers for one in pair)

    @classmethod
    def of(cls, token_ids: Tokens, cache: DynamicCache) -> CommonBeginning:
        """What a pass over these tokens, and nothing else, left in a cache."""
        pairs = [held(layer) for layer in cache.layers]
        if None in pairs:
            raise LookupError("a layer keeps no keys and values of its own")
        return cls(token_ids, [pair for pair in pairs if pair is not None])


def read_common(model: PreTrainedModel, token_ids: Tokens, known: CommonBeginning | None = None) -> CommonBeginning:
    """Read it, or take it from one that begins with it."""
    length = len(token_ids)
    if known is not None and known.token_ids[:length] == token_ids:
        layers = [(keys[:, :, :length], values[:, :, :length]) for keys, values in known.layers]
        return CommonBeginning(token_ids, layers)
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([token_ids], device=model.device)
    places = torch.arange(length, device=model.device)[None]
    model.base_model(input_ids=ids, position_ids=places, use_cache=True, **{cache_name(model): cache})
    return CommonBeginning.of(token_ids, cache)


_SEEN: ContextVar[CommonBeginning] = ContextVar("the beginning that all rows see")


@contextmanager
def behind(model: PreTrainedModel, common: CommonBeginning | None) -> Iterator[None]:
    """Within this, every row that `model` reads stands behind `common`; its positions are the caller's to tell."""
    if common is None:
        yield
        return
    config = model.config.get_text_config()
    before, token = config._attn_implementation, _SEEN.set(common)
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _SEEN.reset(token)


def length_of(common: CommonBeginning | None) -> int:
    """In tokens."""
    return 0 if common is None else len(common.token_ids)


def sees_common(model: PreTrainedModel) -> bool:
    """Whether this model reads behind a common beginning what it reads with it; tried once.

    It does where all its layers hand their queries to transformers' attention and see all tokens before them. Only on a
    CPU: what it would gain on an accelerator, where copies are quick, was not measured.
    """
    if model not in _TRIED:
        _TRIED[model] = model.device.type == "cpu" and has_plain_cache(model) and _reads_the_same(model)
    return _TRIED[model]


_TRIED: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def _reads_the_same(model: PreTrainedModel) -> bool:
    config = model.config.get_text_config()
    if config._attn_implementation not in _KINDS or getattr(config, "alibi", False):
        return False
    body, (first, rest) = model.base_model, _PROBE
    ids = torch.arange(1, 1 + first + rest)[None] % config.vocab_size
    places = torch.arange(first + rest)[None]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            whole = body(input_ids=ids, position_ids=places).last_hidden_state[:, first:]
            alone = body(input_ids=ids[:, first:], position_ids=places[:, first:]).last_hidden_state
            with behind(model, read_common(model, tuple(ids[0, :first].tolist()))):
                two = ids[:, first:].repeat(2, 1), places[:, first:].repeat(2, 1)
                apart = body(input_ids=two[0], position_ids=two[1], attention_mask=torch.ones_like(two[0]))
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return False  # of whatever has no such layers, positions or caches
    finally:
        model.train(was_training)
    exact = whole.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    largest, off = whole.abs().max(), (apart.last_hidden_state - whole).abs().max()
    near = (
        torch.maximum(_APART * largest, _OF_BEGINNING * (alone - whole).abs().max())
        if exact
        else _APART_IN_HALF * largest
    )
    return bool(off <= near)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: object,
) -> tuple[torch.Tensor, None]:
    """Attention to the common beginning and to the row's own tokens; shapes are those of transformers' interface.

    Raises ValueError for what it does not know: whatever else would change the weights.
    """
    unknown = [name for name in ("softcap", "position_bias", "s_aux") if others.get(name) is not None]
    if unknown or dropout:
        raise ValueError(f"attention behind a common beginning knows no {unknown or 'dropout'}")
    keys, values = _SEEN.get().layers[int(module.layer_idx)]  # type: ignore[arg-type]
    (rows, heads, length, width), groups, own = query.shape, key.shape[1], key.shape[2]
    spread = heads // groups  # query heads that share keys
    query = query.reshape(rows, groups, spread * length, width) * (width**-0.5 if scaling is None else scaling)
    of_all = query.transpose(0, 1).reshape(groups, rows * spread * length, width)
    to_common = (of_all @ keys[0].transpose(-1, -2)).view(groups, rows, spread * length, -1).transpose(0, 1)
    to_own = (query @ key.transpose(-1, -2)).view(rows, groups, spread, length, own)
    if (hidden := _hidden(attention_mask, length, own, query.device)) is not None:
        to_own = to_own.masked_fill(hidden, torch.finfo(to_own.dtype).min)
    scores = torch.cat([to_common, to_own.flatten(2, 3)], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    of_common, of_own = weights.split([keys.shape[2], own], dim=-1)
    from_common = of_common.transpose(0, 1).reshape(groups, rows * spread * length, -1) @ values[0]
    output = from_common.view(groups, rows, spread * length, width).transpose(0, 1) + of_own @ value
    return output.reshape(rows, heads, length, width).transpose(1, 2), None


def _hidden(mask: torch.Tensor | None, length: int, own: int, device: torch.device) -> torch.Tensor | None:
    """What the row's tokens do not see of their own, to be laid over (rows, groups, spread, tokens, own)."""
    if mask is not None:
        return ~mask[:, :, None]
    if length == 1:
        return None
    return torch.ones(length, own, dtype=torch.bool, device=device).triu(1 + own - length)


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
