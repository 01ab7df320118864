"""Does the base read its state before any training? The probabilities of its moves on 60 cells of 4x4 lakes.

Knows the config, the policy's prompts and a model's logits. Usage: python moves.py [KEY=VALUE ...], such as
`env.look_around=true prompt.examples=32 rollout.max_prompt_tokens=3000`. Prints, of the four moves taken together: how
likely each move into a hole is, and each onto ice, where there is a hole beside; and how likely a shortest way is.
"""

from __future__ import annotations

import sys

import torch

from msgrpo_cli.config.compose import compose
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.models.factory import language_agent
from msgrpo_cli.models.loading import load_model
from msgrpo_cli.rollout.play import Decision

CELLS, SIZE = 60, 4


def main() -> None:
    config = compose("train", ["experiment=smollm2_frozenlake", "seed=101", f"env.size={SIZE}", *sys.argv[1:]])
    model, tokenizer = load_model(config.model, 0)
    policy, game = language_agent(config, model, tokenizer), make_game(config.env)
    assert isinstance(game, FrozenLake)
    first = [tokenizer.encode(action, add_special_tokens=False)[0] for action in game.actions]
    found: dict[str, list[float]] = {"valid": [], "shortest": [], "hole": [], "ice": []}
    seed = 0
    while len(found["valid"]) < CELLS:
        game.reset(seed=seed)
        for cell in range(SIZE**2):
            if (seed * 7 + cell) % 5 == 0 and game._tile(cell) not in "HG":
                game.cell = cell
                prompt = policy._prompt(Decision(game, game.describe(config.prompt.observation), (0,)))
                with torch.no_grad():
                    logits = model(input_ids=torch.tensor([prompt]), logits_to_keep=1).logits[0, -1]
                chances = torch.softmax(logits.float(), dim=-1)[first]
                found["valid"].append(float(chances.sum()))
                likely = dict(zip(game.actions, (chances / chances.sum()).tolist(), strict=True))
                found["shortest"].append(sum(likely[action] for action in game.shortest_moves()))
                tiles = ["" if at is None else game._tile(at) for at in game._neighbours()]
                if "H" in tiles:
                    found["hole"] += [likely[a] for a, tile in zip(game.actions, tiles, strict=True) if tile == "H"]
                    found["ice"] += [
                        likely[a] for a, tile in zip(game.actions, tiles, strict=True) if tile in ("S", "F")
                    ]
        seed += 1
    print({name: round(sum(values) / len(values), 3) for name, values in found.items()})


if __name__ == "__main__":
    main()
