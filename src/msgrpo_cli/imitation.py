"""The recipe of the embedded bases: a small Llama that imitates a player of the train part of the state space.

Knows how `tiny` and `tiny_random` were made: tokenizer, architecture, imitated players. Knows nothing about
MS-GRPO. They are stand-ins for pretraining, no more. `python -m msgrpo_cli.imitation NAME DIR` makes one again,
bit for bit on one machine with the same number of threads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
_PEAK_RATE = 3e-3
Base = tuple[LlamaForCausalLM, PreTrainedTokenizerFast]
Player = Callable[[FrozenLake], np.ndarray]
"""Action probabilities, shape (4,)."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer: one token per cell, tag, action and line break."""
    vocabulary = {token: index for index, token in enumerate([*_SPECIAL, *_WORDS, *_PAIRS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|</?\w+>|[^\s<]+"), behavior="removed", invert=True)
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

    With probability 0.6 it goes right (down at the right edge) whatever lies there, with 0.25 along a shortest
    safe path, with 0.15 anywhere. It wins 0.42 of the generator's 4x4 lakes within 8 steps (exact, over 1500 seeds).
    """
    probabilities = np.full(len(_ACTIONS), 0.15 / len(_ACTIONS))
    at_right_edge = game.cell % game.size == game.size - 1
    probabilities[_ACTIONS.index("down" if at_right_edge else "right")] += 0.6
    moves = game.shortest_moves() or list(_ACTIONS)
    for move in moves:
        probabilities[_ACTIONS.index(move)] += 0.25 / len(moves)
    return probabilities


def uniform_player(game: FrozenLake) -> np.ndarray:
    """Action probabilities (4,) of a player that knows only the names of the actions."""
    return np.full(len(_ACTIONS), 1.0 / len(_ACTIONS))


@dataclass(frozen=True)
class Recipe:
    """How one base is made."""

    player: Player
    batches: int
    says: str
    """What the base is, for its card."""


RECIPES = {
    "tiny": Recipe(
        blundering_player,
        1000,
        "imitates a player that mostly goes right whatever lies there",
    ),
    "tiny_random": Recipe(uniform_player, 200, "imitates a uniformly random player: it knows only the format"),
}


def demonstrations(player: Player, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Endless (observation, action probabilities (4,)): a map of the train part, a safe cell of it, the player."""
    rng = generator(("imitation", seed))
    lakes = [FrozenLake(slippery=False), FrozenLake(slippery=True)]
    seeds = (seed_from(("imitation", seed, index)) for index in count())
    for start in start_seeds(FrozenLake(), "train", seeds):
        game = lakes[int(rng.random() < _SLIPPERY_SHARE)]
        game.reset(seed=start)
        tiles = "".join(game.board)
        game.cell = int(rng.choice([cell for cell, tile in enumerate(tiles) if tile in "SF"]))
        yield game.describe("compact"), player(game)


def imitate(recipe: Recipe, *, batch_size: int = 256, seed: int = 0) -> Base:
    """Train a base from random weights on what its player would do, in float32.

    The loss is the cross-entropy of the whole answer against the player's own distribution: the tags and the end of
    the turn are certain, the action has the player's probabilities.
    """
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total_steps=recipe.batches, pct_start=0.1)
    pairs = demonstrations(recipe.player, seed)
    answer = _ids(tokenizer, ["<action>", _ACTIONS[0], "</action>", "<end>"])
    action_ids = _ids(tokenizer, _ACTIONS)
    for batch in range(recipe.batches):
        chosen = [next(pairs) for _ in range(batch_size)]
        prompts = [_prompt(tokenizer, observation) for observation, _ in chosen]
        inputs = tokenizer(prompts, padding=True, return_tensors="pt", add_special_tokens=False)
        moves = [[answer[0], action_ids[int(wanted.argmax())], *answer[2:]] for _, wanted in chosen]
        target = torch.nn.functional.one_hot(torch.tensor(moves), len(tokenizer)).float()
        target[:, 1].zero_()[:, action_ids] = torch.tensor(np.array([p for _, p in chosen]), dtype=torch.float32)
        ids = torch.cat([inputs["input_ids"], torch.tensor(moves)], dim=1)
        mask = torch.cat([inputs["attention_mask"], torch.ones(batch_size, 4, dtype=torch.long)], dim=1)
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=5).logits[:, :-1]
        loss = -(target * logits.log_softmax(-1)).sum(-1).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if batch % 100 == 99:
            print(f"batch {batch + 1} of {recipe.batches}, loss {float(loss):.4f}", file=sys.stderr, flush=True)
    return model, tokenizer


def _ids(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[str]) -> list[int]:
    return [int(tokenizer.vocab[token]) for token in tokens]


def _prompt(tokenizer: PreTrainedTokenizerFast, observation: str) -> str:
    conversation = [{"role": "user", "content": observation}]
    return str(tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False))


def main() -> None:
    """Make one base again and write it, with its card, where it is asked for."""
    parser = argparse.ArgumentParser(prog="python -m msgrpo_cli.imitation", description=main.__doc__)
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
        "4x4 frozen lakes of the train part of the state space and nothing else: a stand-in for pretraining, so that "
        "msgrpo runs without a download. Made by "
        f"`python -m msgrpo_cli.imitation {asked.name} DIR`.\n"
    )


if __name__ == "__main__":
    main()
