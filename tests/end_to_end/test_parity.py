"""Several processes play what one plays, and come to the same loss, gradient and weights, up to the order of sums."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from msgrpo_cli.config.compose import compose
from msgrpo_cli.training.train import train_job
from support.parity import CLOSE, assert_same_numbers, lines
from support.ranks import train_on_ranks
from support.zoo import ZOO

SMALL = (
    "experiment=smoke",
    "max_updates=2",
    "algo.groups_per_update=3",
    "algo.group_size=4",
    "eval.every=2",
    "eval.episodes=5",
)
WAYS = {
    "plain": (),
    "small micro-batches": ("trainer.per_device_train_batch_size=3",),
    "two steps, two passes": ("algo.optimizer_steps=2", "trainer.num_iterations=2"),
    "reference": ("trainer.beta=0.05",),
    "adapters, checkpointed": (
        "lora.enabled=true",
        "lora.r=4",
        "trainer.gradient_checkpointing=true",
        "trainer.beta=0.1",
    ),
    "separate rows": ("algo.share_prompts=false", "rollout.share_prompts=false"),
    "entropy": ("trainer.entropy_coef=0.1",),
    "quantile of entropy": (
        "trainer.top_entropy_quantile=0.5",
        "trainer.entropy_coef=0",
        "trainer.per_device_train_batch_size=5",
    ),
    "by episode": ("algo.length_normalization=episode",),
    "constant": ("algo.length_normalization=constant", "algo.credit=return_to_go"),
    "replayed groups": ("algo=dapo", "algo.groups_per_update=3", "algo.group_size=4"),
    "curriculum": (
        "curriculum.key=env.size",
        "curriculum.values=[3,4]",
        "curriculum.success=0.01",
        "curriculum.window=1",
    ),
    "mixture": ("env=mix", "rollout.max_prompt_tokens=256", "rollout.max_new_tokens=6"),
    "guarded": ("guard.grad_norm=0.01",),
    "few rows": ("algo.groups_per_update=1", "algo.sample_fraction=0.25", "env.size=3", "env.max_steps=4"),
    "uneven episodes": ("env=frozenlake_8x8", "algo.group_size=8"),
    "by step, two turns of history": (
        "algo.length_normalization=step",
        "prompt.history=2",
        "rollout.max_prompt_tokens=200",
    ),
}
OF_FOUR = ["plain", "two steps, two passes", "replayed groups", "few rows", "uneven episodes"]
SHARED_OUT = ["plain", "small micro-batches", "two steps, two passes", "reference", "separate rows"]
SHARED_OUT += ["adapters, checkpointed", "quantile of entropy"]
OF_ZOO = [
    "model=any", "env=guess_number", "prompt=action_only", "rollout.max_prompt_tokens=900", "rollout.max_new_tokens=6",
    "algo.groups_per_update=2", "algo.group_size=3", "algo.episode_sampling=all", "algo.invalid_action=random",
    "max_updates=2", "eval.every=0", "eval.episodes=2", "trainer.use_cpu=true", "trainer.learning_rate=1e-5",
    "trainer.gradient_checkpointing=false", "trainer.lr_scheduler_type=constant",
]  # fmt: skip
"""Of float32 sums in another order, relative; a wrong weight of one rank's share is off by tens of percent."""


def weights(run: Path) -> dict[str, torch.Tensor]:
    last = max((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return load_file(next(last.glob("*model.safetensors")))


def far_apart(run: Path, other: Path) -> float:
    """The weights that two runs ended with, on average."""
    there = weights(other)
    return float(torch.cat([(found - there[name]).abs().flatten() for name, found in weights(run).items()]).mean())


def assert_alike(run: Path, alone: Path) -> None:
    assert_same_numbers(run, alone)
    assert far_apart(run, alone) < 1e-7  # Adam divides by what is next to nothing: single ones may be some 1e-5 apart


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same runs, by one process."""
    folder = tmp_path_factory.mktemp("alone")
    torch.set_num_threads(1)
    for name, overrides in WAYS.items():
        train_job(compose("train", [*SMALL, *overrides]), folder / name, command=["test"], overrides=[])
    return folder


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs of two processes, by two that are started once: coming up takes longer than several of them."""
    folder = tmp_path_factory.mktemp("by-two")
    runs = {
        **{name: [*SMALL, *way] for name, way in WAYS.items()},
        **{f"shared-out/{name}": [*SMALL, *WAYS[name], "parallel=fsdp"] for name in SHARED_OUT},
        **{f"forgetful/{name}": [*forgetful(name, folder), "parallel=fsdp"] for name in FORGETFUL},
    }
    for parallel in ("ddp", "fsdp"):
        runs |= going_on(parallel, "max_updates=1")
        runs[f"still/{parallel}"] = [*STILL, f"parallel={parallel}"]
    (folder / "said.txt").write_text(train_on_ranks(2, folder, runs, planted=WEIGHED))
    return folder


@pytest.fixture(scope="module")
def by_four(by_two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """And what two had begun."""
    ways = {name: [*SMALL, *WAYS[name]] for name in OF_FOUR}
    return gone_on(4, by_two, tmp_path_factory.mktemp("by-four"), ways)


@pytest.fixture(scope="module")
def by_one(by_two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two had begun."""
    return gone_on(1, by_two, tmp_path_factory.mktemp("by-one"), {})


def gone_on(count: int, begun: Path, folder: Path, more: dict[str, list[str]]) -> Path:
    runs = {**going_on("ddp", "max_updates=2"), **going_on("fsdp", "max_updates=2")}
    for name in runs:
        if (begun / name).exists():
            shutil.copytree(begun / name, folder / name)
    (folder / "said.txt").write_text(train_on_ranks(count, folder, {**more, **runs}))
    return folder


GOING_ON = {"plain": (), "adapters": WAYS["adapters, checkpointed"]}
STILL = [*SMALL, "eval.every=0", "max_updates=5", "save.every=1", "save.keep_last=9", "trainer.learning_rate=0"]
FORGETFUL = ("mistral", "gemma-3")


def going_on(parallel: str, *more: str) -> dict[str, list[str]]:
    return {
        f"going-on/{parallel}/{name}": [*SMALL, *way, "eval.every=0", f"parallel={parallel}", *more]
        for name, way in GOING_ON.items()
    }


def forgetful(name: str, folder: Path) -> list[str]:
    """A run of a model whose layers have sliding windows, which is made below the folder."""
    model = folder / "models" / name
    if not model.exists():
        ZOO[name].save(model)
    return [*OF_ZOO, f"model.path={model}"]


@pytest.mark.slow
def test_the_runs_are_what_their_names_say(alone: Path) -> None:
    few = [row["rows"] for row in trained(lines(alone / "few rows" / "metrics.jsonl"))]
    assert any(0 < rows < 4 for rows in few), "so one of four processes has none"
    uneven = lines(alone / "uneven episodes" / "episodes.jsonl")
    lengths = [len(line["steps"]) for line in uneven]
    assert max(lengths) >= 10 * min(lengths)


WEIGHED = """
import gc
from pathlib import Path

import torch
from msgrpo_cli.training import assembly

load = assembly.load_policy


def weighed(config, checkpoint, **more):
    gc.collect()
    held = [one for one in gc.get_objects() if isinstance(one, torch.nn.Parameter)]
    local = [one.to_local() if hasattr(one, "to_local") else one for one in held]
    with (Path(checkpoint).parents[1] / "held.txt").open("a") as file:
        print(len(held), sum(one.untyped_storage().nbytes() for one in local), file=file)
    return load(config, checkpoint, **more)


assembly.load_policy = weighed
"""
"""What a rank still has of weights as the best checkpoint is read, in `held.txt` of the run."""


@pytest.mark.slow
def test_what_is_trained_makes_room_for_the_best_checkpoint_on_every_rank(by_two: Path) -> None:
    for folder, ways in ((by_two, list(WAYS)), (by_two / "shared-out", SHARED_OUT)):
        for way in ways:
            held = [line.split() for line in (folder / way / "held.txt").read_text().splitlines()]
            assert len(held) == 2, way
            assert all(int(count) > 0 and int(size) == 0 for count, size in held), (way, held)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_as_one(way: str, alone: Path, by_two: Path) -> None:
    assert (by_two / way / "run.json").exists(), (by_two / "said.txt").read_text()[-3000:]
    assert_alike(by_two / way, alone / way)


@pytest.mark.slow
@pytest.mark.parametrize("way", OF_FOUR)
def test_four_processes_train_as_one_though_one_has_no_group(way: str, alone: Path, by_four: Path) -> None:
    assert (by_four / way / "run.json").exists(), (by_four / "said.txt").read_text()[-3000:]
    assert_alike(by_four / way, alone / way)


@pytest.mark.slow
@pytest.mark.parametrize("way", SHARED_OUT)
def test_two_processes_that_share_out_the_weights_train_as_one(way: str, alone: Path, by_two: Path) -> None:
    """Which share out the optimizer's numbers, too."""
    shared_out = by_two / "shared-out"
    assert (shared_out / way / "run.json").exists(), (by_two / "said.txt").read_text()[-3000:]
    assert_alike(shared_out / way, alone / way)
    last = shared_out / way / "checkpoints" / "checkpoint-2"
    parts = sorted(path.name for path in (last / "optimizer").iterdir())
    assert parts == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    assert not list(last.glob("optimizer.*"))


@pytest.mark.slow
def test_passes_around_the_wrapper_are_found_out(tmp_path: Path) -> None:
    """Without torch's wrapper no gradient is summed: every rank would go its own way in silence."""
    said = train_on_ranks(2, tmp_path, {"run": SMALL}, around_the_wrapper=True)
    assert "the processes have come to different weights" in said
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("count", ["by_one", "by_four"])
def test_another_number_of_processes_goes_on(
    count: str, parallel: str, alone: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(count)
    for name, straight in (("plain", alone / "plain"), ("adapters", alone / "adapters, checkpointed")):
        run = folder / "going-on" / parallel / name
        assert json.loads((run / "run.json").read_text())["status"] == "done", (folder / "said.txt").read_text()[-3000:]
        found, one = (trained(lines(each / "metrics.jsonl")) for each in (run, straight))
        assert [row["update"] for row in found] == [1, 2]
        assert (run / "episodes.jsonl").read_bytes() == (straight / "episodes.jsonl").read_bytes()
        for ours, theirs in zip(found, one, strict=True):
            assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=CLOSE)
        assert far_apart(run, straight) < 1e-7  # so the optimizer's numbers came along


def trained(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == "train"]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_the_cause_of_a_gap_is_looked_for(tmp_path: Path, parallel: str) -> None:
    """By the one rank that has the rows."""
    model = ZOO["gpt-2"].save(tmp_path / "model")
    noisy = [*OF_ZOO, f"model.path={model}", "trainer.disable_dropout=false", f"parallel={parallel}"]
    said = train_on_ranks(2, tmp_path, {"run": noisy})
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed", said[-3000:]
    assert "Likely cause: dropout is active in training and not in sampling (" in record["error"]


@pytest.mark.slow
def test_a_disk_that_is_slower_than_a_gradient_may_be_is_waited_for(tmp_path: Path) -> None:
    said = train_on_ranks(2, tmp_path, {"run": [*SMALL, "eval.every=0"]}, slow_disk=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "done", said[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_where_nothing_is_learnt_the_gap_stays_what_it_was(by_two: Path, parallel: str) -> None:
    """Weights that were sampled with, or trained from, at another moment than the other would show."""
    run = by_two / "still" / parallel
    assert run.exists(), (by_two / "said.txt").read_text()[-3000:]
    rows = trained(lines(run / "metrics.jsonl"))
    assert [row["update"] for row in rows] == [1, 2, 3, 4, 5]
    with_a_step = [row for row in rows if not row["skipped"]]
    assert len(with_a_step) > 1
    assert all(row["grad_norm"] > 0 and row["logprob_gap_max"] < 1e-5 for row in with_a_step)
    saved = [run / "checkpoints" / f"checkpoint-{number}" for number in (1, 5)]
    first, last = (load_file(each / "model.safetensors") for each in saved)
    assert all(torch.equal(first[name], last[name]) for name in first)


@pytest.mark.slow
def test_layers_that_forget_are_shared_out_too(by_two: Path, tmp_path: Path) -> None:
    """Sliding windows, in every layer and in some: no beginnings are shared, rows are read one by one."""
    for name in FORGETFUL:
        run, alone = by_two / "forgetful" / name, tmp_path / "alone" / name
        assert (run / "run.json").exists(), (by_two / "said.txt").read_text()[-3000:]
        train_job(compose("train", forgetful(name, by_two)), alone, command=["test"], overrides=[])
        assert_alike(run, alone)
        rows = trained(lines(run / "metrics.jsonl"))
        assert all(row["grad_norm"] > 0 and row["logprob_gap_max"] < 1e-4 for row in rows)
