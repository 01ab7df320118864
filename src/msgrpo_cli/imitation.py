"""The recipe of the embedded bases: a small Llama that imitates a player of the train part of the state space.

Knows how `tiny` and `tiny_random` were made: tokenizer, architecture, imitated players. Knows nothing about
MS-GRPO. They are stand-ins for pretraining, no more. `python -m msgrpo_cli.imitation NAME DIR` makes one again,
bit for bit on one machine with the same number of threads.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .games.frozenlake import FrozenLake
from .seeding import generator, seed_from
from .split import start_seeds

_SPECIAL = ["<pad>", "<unk>", "<system>", "<user>", "<assistant>", "<end>"]
_CELLS = ["P", ".", "O", "G"]
_WORDS = ["<action>", "</action>", "\n", "left", "down", "right", "up", "slippery", *_CELLS]
_PAIRS = [first + second for first in _CELLS for second in _CELLS]
_CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
_ACTIONS = FrozenLake.actions
_SLIPPERY_SHARE = 0.2


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer: one token per cell, tag, action and line break."""
    vocabulary = {token: index for index, token in enumerate([*_SPECIAL, *_WORDS, *_PAIRS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|</?\w+>|[^\s<]+"), behavior="removed", invert=True)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\n", "\n")])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        extra_special_tokens=["<system>", "<user>", "<assistant>"],
        padding_side="left",
        model_max_length=256,
    )
    wrapped.chat_template = _CHAT_TEMPLATE
    return wrapped


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int, hidden: int = 96, layers: int = 4) -> LlamaForCausalLM:
    """A Llama of under 0.45 million float32 parameters, with random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 8 * 8,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        attention_dropout=0.0,
    )
    return LlamaForCausalLM(config)


def blundering_player(game: FrozenLake) -> np.ndarray:
    """Action probabilities (4,) of a player that errs systematically, so that a lower temperature is no cure.

    With probability 0.6 it goes right (down at the right edge) whatever lies there, with 0.3 along a shortest
    safe path, with 0.1 anywhere.
    """
    probabilities = np.full(len(_ACTIONS), 0.1 / len(_ACTIONS))
    at_right_edge = game.cell % game.size == game.size - 1
    probabilities[_ACTIONS.index("down" if at_right_edge else "right")] += 0.6
    moves = game.shortest_moves() or list(_ACTIONS)
    for move in moves:
        probabilities[_ACTIONS.index(move)] += 0.3 / len(moves)
    return probabilities


def uniform_player(game: FrozenLake) -> np.ndarray:
    """Action probabilities (4,) of a player that knows only the names of the actions."""
    return np.full(len(_ACTIONS), 1.0 / len(_ACTIONS))


PLAYERS = {"tiny": blundering_player, "tiny_random": uniform_player}


def demonstrations(player: object, seed: int) -> Iterator[tuple[str, str]]:
    """Endless (observation, action) pairs: a map of the train part, a safe cell of it, a move of the player."""
    rng = generator(("imitation", seed))
    lakes = [FrozenLake(slippery=False), FrozenLake(slippery=True)]
    seeds = (seed_from(("imitation", seed, index)) for index in count())
    plain = FrozenLake()
    for start in start_seeds(plain, "train", seeds):
        game = lakes[int(rng.random() < _SLIPPERY_SHARE)]
        game.reset(seed=start)
        tiles = "".join(game.board)
        game.cell = int(rng.choice([cell for cell, tile in enumerate(tiles) if tile in "SF"]))
        action = rng.choice(len(_ACTIONS), p=player(game))  # type: ignore[operator]
        yield game.describe("compact"), _ACTIONS[action]


def imitate(name: str, batches: int = 1500, batch_size: int = 256, peak: float = 3e-3, seed: int = 0, hidden=96, layers=4, verbose=True):
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed, hidden, layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=batches, pct_start=0.1)
    pairs = demonstrations(PLAYERS[name], seed)
    for batch in range(batches):
        chosen = [next(pairs) for _ in range(batch_size)]
        prompts = [tokenizer.apply_chat_template([{"role": "user", "content": o}], add_generation_prompt=True, tokenize=False) for o, _ in chosen]
        full = tokenizer([p + f"<action>{a}</action><end>" for p, (_, a) in zip(prompts, chosen)], padding=True, return_tensors="pt", add_special_tokens=False)
        labels = full["input_ids"].clone()
        labels[:, :-4] = -100
        loss = model(**full, labels=labels).loss
        optimizer.zero_grad(); loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(); schedule.step()
        if verbose and batch % 50 == 0: print(batch, f"{loss.item()*4:.4f}", flush=True)
    return model, tokenizer
