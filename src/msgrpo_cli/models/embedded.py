"""The recipe of the embedded bases: a small Llama that imitates players of the train part of the state space.

Knows how `tiny`, `tiny_random` and the `large` of an experiment were made: tokenizer, architecture, training. Knows
nothing about MS-GRPO, nor how any game is played. They are stand-ins for pretraining, no more.
`python -m msgrpo_cli.models.embedded NAME DIR` makes one again, bit for bit on one machine with equally many threads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .demonstrations import BLUNDERING, SHARES, Demonstration, Player, demonstrations, game_of, uniform_player
from .seated_players import KUHN, SEATED, TIC_TAC_TOE

_SPECIAL = ["<pad>", "<unk>", "<system>", "<user>", "<assistant>", "<end>"]
_CELLS = ["P", ".", "O", "G"]
_WORDS = ["<action>", "</action>", "\n", "left", "down", "right", "up", "slippery", *_CELLS]
_PAIRS = [first + second for first in _CELLS for second in _CELLS]
_NUMBERS = [str(number) for number in range(22)]
_OFFSETS = [f"{offset:+d}" for offset in range(-19, 20)]
_SNAKE = ["you", "other", "apple", "poison", "banana"]
_TAXI = ["passenger", "to", "north", "south", "east", "west", "pickup", "dropoff"]
_BLACKJACK = ["dealer", "ace", "hit", "stick"]
_GUESSES = ["<", ">", "="]
_SOKOBAN = ["#", "$", "@", "*", "+", "o"]
_MINESWEEPER = ["x", *"abcde", *(f"{column}{row}" for row in range(1, 6) for column in "abcde")]
_SINGLE = [
    *(*_WORDS, *_PAIRS, *_NUMBERS, *_OFFSETS),
    *(*_SNAKE, *_TAXI, *_BLACKJACK, *_GUESSES, *_SOKOBAN, *_MINESWEEPER),
]
_KUHN = ["pass", "bet", *(card + moves for card in "012" for moves in ("", "p", "b", "pb"))]
_TIC_TAC_TOE = [
    *("".join(row) for row in product(".xo", repeat=3)),
    *(f"{mark}({row},{column})" for mark in "xo" for row in range(3) for column in range(3)),
]
_SEATED = ["<action>", "</action>", "\n", *_KUHN, *_TIC_TAC_TOE]
_CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
Base = tuple[LlamaForCausalLM, PreTrainedTokenizerFast]


def make_tokenizer(words: Sequence[str] = _SINGLE) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: one token per word, number, cell, tag, action and line break."""
    vocabulary = {token: index for index, token in enumerate([*_SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|</?\w+>|<|[^\s<]+"), behavior="removed", invert=True)
    tokenizer.decoder = decoders.Fuse()
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
    """A Llama with random float32 weights; by default of under 0.45 million parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 31 // 12,
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


@dataclass(frozen=True)
class Recipe:
    """How one base is made."""

    players: Mapping[str, Player]
    """By the game's name in `conf/env`; uniform play of the games that are not there."""
    batches: int
    says: str
    """What the base is, for its card."""
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    """Of every batch, by game."""
    hidden: int = 96
    layers: int = 4
    peak_rate: float = 3e-3
    words: Sequence[str] = field(default_factory=lambda: _SINGLE)


RECIPES = {
    "tiny": Recipe(
        BLUNDERING,
        2000,
        "imitates players that err systematically: on frozen lakes it mostly goes right whatever lies there, in Snake, "
        "too, at the cliff it mostly turns down two columns too early. Of the other games that msgrpo ships it knows "
        "the words and plays uniformly",
    ),
    "tiny_random": Recipe({}, 400, "imitates a uniformly random player of the games that msgrpo ships"),
    "tiny_seats": Recipe(
        SEATED,
        1000,
        "imitates, on every seat, players that err systematically: in tic-tac-toe it mostly takes the first free cell, "
        "in Kuhn poker it mostly bets whatever it holds. It knows no other game",
        shares={TIC_TAC_TOE: 0.9, KUHN: 0.1},
        words=_SEATED,
    ),
    "large": Recipe(
        BLUNDERING,
        800,  # 20 minutes of one core
        "is 24 times as large as tiny and imitates the same player of Frozen Lake, from the same share of a batch, for "
        "as long as 20 minutes of one core last; it knows no other game",
        shares={"frozenlake": SHARES["frozenlake"]},
        hidden=336,
        layers=8,
        peak_rate=1e-3,
    ),
}
"""The first three ship with the package; `large` is made where `experiments/small_and_large` wants it."""


@dataclass(frozen=True)
class _Lesson:
    """One game, as a base sees it."""

    states: Iterator[Demonstration]
    action_ids: list[int]
    size: int
    """States per batch."""


def imitate(recipe: Recipe, *, batch_size: int = 256, seed: int = 0) -> Base:
    """Train a base from random weights on what its players would do, in float32.

    The loss is the cross-entropy of the whole answer against the player's own distribution: the tags and the end of
    the turn are certain, the action has the player's probabilities. Every batch holds its games by their shares.
    """
    tokenizer = make_tokenizer(recipe.words)
    model = make_model(tokenizer, seed, recipe.hidden, recipe.layers)
    peak = recipe.peak_rate
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=recipe.batches, pct_start=0.1)
    lessons = [
        _Lesson(
            demonstrations(name, recipe.players.get(name, uniform_player), seed),
            _ids(tokenizer, game_of(name).actions or ()),
            max(1, round(share * batch_size)),
        )
        for name, share in recipe.shares.items()
    ]
    for batch in range(recipe.batches):
        optimizer.zero_grad()
        total = 0.0
        for lesson in lessons:
            loss = _summed_loss(model, tokenizer, lesson) / batch_size
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if batch % 100 == 99:
            print(f"batch {batch + 1} of {recipe.batches}, loss {total:.4f}", file=sys.stderr, flush=True)
    return model, tokenizer


def _summed_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, lesson: _Lesson) -> torch.Tensor:
    """Of one game's states in a batch: the cross-entropy of their answers."""
    chosen = list(islice(lesson.states, lesson.size))
    prompts = [_prompt(tokenizer, observation) for observation, _ in chosen]
    inputs = tokenizer(prompts, padding=True, return_tensors="pt", add_special_tokens=False)
    opened, closed, end = _ids(tokenizer, ["<action>", "</action>", "<end>"])
    moves = [[opened, lesson.action_ids[int(wanted.argmax())], closed, end] for _, wanted in chosen]
    target = torch.nn.functional.one_hot(torch.tensor(moves), len(tokenizer)).float()
    target[:, 1] = 0.0
    target[:, 1, lesson.action_ids] = torch.tensor(np.array([p for _, p in chosen]), dtype=torch.float32)
    ids = torch.cat([inputs["input_ids"], torch.tensor(moves)], dim=1)
    mask = torch.cat([inputs["attention_mask"], torch.ones(len(chosen), 4, dtype=torch.long)], dim=1)
    logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=5).logits[:, :-1]
    loss: torch.Tensor = -(target * logits.log_softmax(-1)).sum()
    return loss


def _ids(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[str]) -> list[int]:
    return [int(tokenizer.vocab[token]) for token in tokens]


def _prompt(tokenizer: PreTrainedTokenizerFast, observation: str) -> str:
    conversation = [{"role": "user", "content": observation}]
    return str(tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False))


def main() -> None:
    """Make one base again and write it, with its card, where it is asked for."""
    parser = argparse.ArgumentParser(prog="python -m msgrpo_cli.models.embedded", description=main.__doc__)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("directory", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)  # sums in another order give other last bits
    recipe = RECIPES[asked.name]
    model, tokenizer = imitate(recipe)
    model.save_pretrained(asked.directory)
    tokenizer.save_pretrained(asked.directory)
    (asked.directory / "README.md").write_text(
        f"# {asked.name}\n\nA Llama of {model.num_parameters():,} float32 parameters that {recipe.says}. It has seen "
        "play from starts of the train part and nothing else (in Sokoban, where levels are held out, from starts of "
        "all levels, played uniformly): a stand-in for pretraining, so that msgrpo runs without a download. Made by "
        f"`python -m msgrpo_cli.models.embedded {asked.name} DIR`.\n"
    )


if __name__ == "__main__":
    main()
