"""Games of several players: several processes play, draw and learn what one does, whoever sits on the seats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from msgrpo_cli.config.compose import compose
from msgrpo_cli.training.train import train_job
from support.parity import assert_same_numbers
from support.ranks import train_on_ranks
from support.two_player_games import write_games

SMALL = (
    "experiment=smoke", "env=meeting", "max_updates=3", "algo.groups_per_update=3", "algo.group_size=4",
    "algo.invalid_action=random", "eval.every=1", "eval.episodes=3", "save.every=1", "save.keep_last=9",
)  # fmt: skip
POOL = ("selfplay.seats=[self,pool]", "selfplay.every=1", "selfplay.pool=2", "selfplay.choose=score")
BROKEN = """
from msgrpo_cli.rollout.seating import Seating
drawn = Seating._drawn
Seating._drawn = lambda seating, key: drawn(seating, (*key, "of this rank")) if ranks.rank else drawn(seating, key)
"""


def assert_alike(run: Path, alone: Path, said: str) -> None:
    assert_same_numbers(run, alone, said)
    for name in ("best.episodes.jsonl", "base.episodes.jsonl"):
        assert (run / "eval" / name).read_bytes() == (alone / "eval" / name).read_bytes()
    pools = [sorted(path.name for path in (each / "pool").glob("*")) for each in (run, alone)]
    assert pools[0] == pools[1]
    for name in pools[0]:
        assert far_apart(*(each / "pool" / name for each in (run, alone))) < 1e-7
    assert far_apart(*(each / "checkpoints" / "checkpoint-3" for each in (run, alone))) < 1e-7


def far_apart(one: Path, other: Path) -> float:
    found, there = (load_file(next(each.glob("*model.safetensors"))) for each in (one, other))
    return float(torch.cat([(found[name] - there[name]).abs().flatten() for name in there]).mean())


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("games")
    write_games(folder)
    return folder


@pytest.fixture(scope="module")
def alone(games: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], Path]:
    """Overrides by name, and the runs of one process."""
    folder = tmp_path_factory.mktemp("alone")
    torch.set_num_threads(1)
    other = folder / "pool" / "checkpoints" / "checkpoint-1"
    ways = {
        "pool": [*SMALL, *POOL],
        "checkpoint": [*SMALL, f"selfplay.seats=[self,'{other}']", f"eval.seats=['{other}',self]"],
        "both": [*SMALL, "env=cards", "algo=dapo", "algo.groups_per_update=3", "algo.group_size=4"],
        "adapters": [*SMALL, *POOL, "lora.enabled=true", "lora.r=4"],
    }
    for name, overrides in ways.items():
        train_job(compose("train", overrides, [games]), folder / name, command=["test"], overrides=[])
    return ways, folder


WAYS = {"ddp": ("pool", "checkpoint", "both"), "fsdp": ("pool", "adapters")}


@pytest.mark.slow
@pytest.mark.parametrize("parallel", WAYS)
def test_two_processes_play_what_one_plays(
    parallel: str,
    alone: tuple[dict[str, list[str]], Path],
    games: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One run of the pool ends after an update, and goes on."""
    monkeypatch.setenv("MSGRPO_CONFIG_DIR", str(games))
    ways, straight = alone
    runs = {name: [*ways[name], f"parallel={parallel}"] for name in WAYS[parallel]}
    going_on = {"resumed": [*runs["pool"], "max_updates=1"], "./resumed": runs["pool"]}
    said = train_on_ranks(2, tmp_path, {**runs, **going_on})
    for name in runs:
        assert_alike(tmp_path / name, straight / name, said)
    assert_alike(tmp_path / "resumed", straight / "pool", said)


@pytest.mark.slow
def test_a_pool_that_each_rank_draws_from_for_itself_is_found_out(
    games: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSGRPO_CONFIG_DIR", str(games))
    said = train_on_ranks(2, tmp_path, {"run": [*SMALL, *POOL[:3], "eval.every=0", "parallel=ddp"]}, planted=BROKEN)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed", said[-3000:]
    assert "the processes have come to different games: member " in record["error"]
