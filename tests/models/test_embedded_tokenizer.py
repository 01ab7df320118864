"""The tokenizer of the embedded models: the same ids after saving and loading, short prompts, nothing unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from msgrpo_cli.config.compose import compose
from msgrpo_cli.games.core import TextMediatedStochasticGame
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.models.demonstrations import SHARES
from msgrpo_cli.models.embedded import RECIPES, make_tokenizer
from support.places import ROOT

SHIPPED = sorted(file.parent for file in (ROOT / "src/msgrpo_cli/assets").glob("*/tokenizer.json"))
UNKNOWN = 1


@pytest.fixture(name="loaded", scope="module")
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def conversation(game: TextMediatedStochasticGame) -> list[dict[str, str]]:
    return [{"role": "user", "content": game.describe("compact")}]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, game: TextMediatedStochasticGame) -> list[int]:
    encoded: Any = tokenizer.apply_chat_template(conversation(game), add_generation_prompt=True, return_dict=True)
    return list(encoded["input_ids"])


def lakes(size: int, slippery: bool) -> list[FrozenLake]:
    games = []
    for seed in range(20):
        game = FrozenLake(size=size, slippery=slippery)
        game.reset(seed=seed)
        game.cell = seed % size
        games.append(game)
    return games


def test_typed_in_ids(loaded: PreTrainedTokenizerBase) -> None:
    text = "<user>slippery\nP . O G\nP. .G OO GP<end><assistant><action>left</action><end>"
    ids = [3, 13, 8, 14, 15, 16, 17, 8, 19, 25, 28, 30, 5, 4, 6, 9, 7, 5]
    for tokenizer in (make_tokenizer(), loaded):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids
        assert tokenizer(text)["input_ids"] == ids, "nothing is put in front"
        assert tokenizer.convert_tokens_to_ids(["down", "right", "up"]) == [10, 11, 12]


def test_line_breaks_are_tokens_of_their_own(loaded: PreTrainedTokenizerBase) -> None:
    for tokenizer in (make_tokenizer(), loaded):
        assert tokenizer("P\n\n.\n")["input_ids"] == [14, 8, 8, 15, 8]


@pytest.mark.parametrize(("size", "longest"), [(4, 24), (8, 64)])
@pytest.mark.parametrize("slippery", [False, True])
def test_prompts_are_short_known_and_the_same_after_loading(
    loaded: PreTrainedTokenizerBase, size: int, longest: int, slippery: bool
) -> None:
    made = make_tokenizer()
    for game in lakes(size, slippery):
        ids = prompt_ids(made, game)
        assert len(ids) <= longest
        assert UNKNOWN not in ids
        assert ids == prompt_ids(loaded, game)


def test_boards_of_every_size_are_known() -> None:
    tokenizer = make_tokenizer()
    for size in range(2, 9):
        for slippery in (False, True):
            assert all(UNKNOWN not in prompt_ids(tokenizer, game) for game in lakes(size, slippery))


@pytest.mark.parametrize("name", [*SHARES, "frozenlake_8x8", "snake_8", "snake_6x6", "snake_poison"])
def test_what_the_games_say_is_known_and_their_actions_are_read_back(
    loaded: PreTrainedTokenizerBase, name: str
) -> None:
    game = make_game(compose("train", [f"env={name}"]).env)
    for seed in range(10):
        game.reset(seed=seed)
        ended = False
        while not ended:
            ids = prompt_ids(loaded, game)
            assert len(ids) <= 64 and UNKNOWN not in ids
            _, _, terminated, truncated, _ = game.step(int(game.np_random.integers(len(game.actions))))
            ended = terminated or truncated
    for action in game.actions:
        [token] = loaded(action, add_special_tokens=False)["input_ids"]
        assert token != UNKNOWN and game.parse(str(loaded.decode([6, token, 7]))) == action


def test_signs_of_comparison_are_words(loaded: PreTrainedTokenizerBase) -> None:
    assert loaded.tokenize("> 5 < 12 left 2") == [">", "5", "<", "12", "left", "2"]


def test_loaded_tokenizer_pads_left_and_ends_turns_as_the_made_one(loaded: PreTrainedTokenizerBase) -> None:
    made = make_tokenizer()
    assert loaded.padding_side == made.padding_side == "left"
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id) == (0, 5, UNKNOWN)
    assert sorted(loaded.all_special_ids) == sorted(made.all_special_ids) == [0, 1, 2, 3, 4, 5]
    assert len(loaded) == len(made) == 152
    assert loaded.chat_template == made.chat_template


def test_answers_decode_to_what_the_parser_reads(loaded: PreTrainedTokenizerBase) -> None:
    for tokenizer in (make_tokenizer(), loaded):
        for name, token in zip(FrozenLake.actions, (9, 10, 11, 12), strict=True):
            assert FrozenLake().parse(str(tokenizer.decode([6, token, 7]))) == name
        assert tokenizer.decode([14, 8, 15]) == "P\n."


def test_unknown_words_are_unknown(loaded: PreTrainedTokenizerBase) -> None:
    assert loaded("jump")["input_ids"] == [UNKNOWN]


@pytest.mark.parametrize("folder", SHIPPED, ids=[folder.name for folder in SHIPPED])
def test_shipped_tokenizers_are_made_by_the_recipe(folder: Path) -> None:
    shipped, made = AutoTokenizer.from_pretrained(folder), make_tokenizer(RECIPES[folder.name].words)
    assert shipped.get_vocab() == made.get_vocab()
    for game in (*lakes(4, True), *lakes(8, False)):
        assert prompt_ids(shipped, game) == prompt_ids(made, game)
