"""vLLM itself, on a CPU: in the training process, and as a server. `make vllm-test` makes the environment for it.

What needs a GPU, TRL's push of weights to a server over NCCL, is refused here, and that is tested.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")
pytestmark = pytest.mark.slow

import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from trl.generation.vllm_client import VLLMClient  # noqa: E402

from msgrpo_cli import evaluate  # noqa: E402
from msgrpo_cli.config.compose import compose  # noqa: E402
from msgrpo_cli.games.registry import make_game  # noqa: E402
from msgrpo_cli.models.embedded import make_model, make_tokenizer  # noqa: E402
from msgrpo_cli.models.factory import at_temperature, language_agent  # noqa: E402
from msgrpo_cli.models.generation import Sampling  # noqa: E402
from msgrpo_cli.models.loading import load_model  # noqa: E402
from msgrpo_cli.rollout.play import Decision  # noqa: E402
from msgrpo_cli.training import vllm as vllm_generator  # noqa: E402
from msgrpo_cli.training.vllm import request_settings  # noqa: E402
from support.model_server import listening  # noqa: E402
from support.ranks import train_on_ranks  # noqa: E402
from support.smollm2 import fetch_or_skip  # noqa: E402

PATIENCE = 900.0
SMALL = [
    "env=frozenlake", "engine=vllm_colocate", "model.init=pretrained", "model.dtype=float32", "prompt=action_only",
    "prompt.observation=compact", "prompt.answer_prefix=<action>", "rollout=short", "rollout.max_new_tokens=4",
    "rollout.max_prompt_tokens=100", "trainer=small", "trainer.learning_rate=0.01", "algo.groups_per_update=2",
    "algo.group_size=8", "max_updates=3", "eval.every=0", "eval.episodes=4",
]  # fmt: skip
TOKENS = "the log-probabilities under which vLLM drew, against those of training, on average over tokens"


def environment(**more: str) -> dict[str, str]:
    known = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    return {**os.environ, **known, **more}


def trained(folder: Path, *overrides: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """`msgrpo train` in a process of its own, for one process has one vLLM; `before`: a fault that is planted."""
    program = f"import sys\n{before}\nfrom msgrpo_cli.cli.app import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, "train", *overrides],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip


def updates(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "train"]


@pytest.fixture(name="small", scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like the embedded ones, with heads as wide as vLLM wants them on a CPU; it has seen what actions are."""
    folder, tokenizer = tmp_path_factory.mktemp("small"), make_tokenizer()
    model, rng = make_model(tokenizer, seed=0, hidden=128, layers=2), torch.Generator().manual_seed(0)
    begin, close, end, *actions = tokenizer.convert_tokens_to_ids(
        ["<action>", "</action>", "<end>", "left", "down", "right", "up"]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        before = torch.randint(len(tokenizer), (32, 20), generator=rng)
        chosen = torch.tensor(actions)[torch.randint(4, (32, 1), generator=rng)]
        ids = torch.cat([before, torch.tensor([[begin]]).repeat(32, 1), chosen, torch.tensor([[close, end]] * 32)], 1)
        labels = ids.masked_fill(torch.arange(ids.shape[1]) < 21, -100)
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(name="smollm2", scope="module")
def _smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real model, unpacked: vLLM would read the GGUF file by itself."""
    fetch_or_skip()
    folder = tmp_path_factory.mktemp("smollm2")
    for part in load_model(compose("train", ["model=smollm2-135m-gguf"]).model, 0):
        part.save_pretrained(folder)
    return folder


def test_weights_are_fresh_after_every_update_and_answers_repeat(small: Path, tmp_path: Path) -> None:
    for name in ("first", "again"):
        done = trained(tmp_path, *SMALL, f"model.path={small}", f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
    rows = updates(tmp_path / "first")
    assert [row["update"] for row in rows] == [1, 2, 3]
    assert sum(row["grad_norm"] or 0 for row in rows) > 0
    assert all(0 < row["logprob_gap_mean"] < 0.05 for row in rows if not row["skipped"]), TOKENS
    first, again = ((tmp_path / name / "episodes.jsonl").read_bytes() for name in ("first", "again"))
    assert first == again, "seeds belong to the decisions"
    said = {step["completion"] for line in first.splitlines() for step in json.loads(line)["steps"]}
    assert len(said) > 2, "and are not the same for all"


STALE = (
    "from trl.generation.vllm_generation import VLLMGeneration as G\n"
    "push, pushes = G.sync_weights, []\n"
    "G.sync_weights = lambda self: pushes.append(1) or (push(self) if len(pushes) == 1 else None)\n"
)


def test_a_push_that_is_left_out_ends_the_run(small: Path, tmp_path: Path) -> None:
    done = trained(
        tmp_path, *SMALL, f"model.path={small}", "engine.mean_logprob_gap=0.05", "hydra.run.dir=run", before=STALE
    )
    assert done.returncode == 1, done.stderr
    assert "log-prob" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(updates(tmp_path / "run")) < 3


def test_an_adapter_is_pushed_merged(small: Path, tmp_path: Path) -> None:
    done = trained(
        tmp_path, *SMALL, f"model.path={small}", "lora.enabled=true", "lora.r=8", "trainer.learning_rate=0.05",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [row for row in updates(tmp_path / "run") if not row["skipped"]]
    assert rows and all(row["logprob_gap_mean"] < 0.05 for row in rows), TOKENS


TWO = ["parallel.processes=2", "algo.groups_per_update=3"]
ADAPTER = ["lora.enabled=true", "lora.r=8", "trainer.learning_rate=0.05"]


def said(run: Path, update: int) -> list[str]:
    """What was answered in an update, decision by decision."""
    episodes = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    return [step["completion"] for episode in episodes if episode["update"] == update for step in episode["steps"]]


@pytest.fixture(name="by_one", scope="module")
def _by_one(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("by-one")
    done = trained(folder, *SMALL, "algo.groups_per_update=3", f"model.path={small}", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_with_an_engine_each_play_what_one_plays(
    parallel: str, small: Path, by_one: Path, tmp_path: Path
) -> None:
    done = trained(tmp_path, *SMALL, *TWO, f"parallel={parallel}", f"model.path={small}", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert json.loads((run / "run.json").read_text())["processes"] == 2
    ours, theirs = updates(run), updates(by_one)
    assert all(0 < row["logprob_gap_mean"] < 0.05 for row in ours if not row["skipped"]), TOKENS
    for name in ("base", "best"):
        scores = [json.loads((place / "eval" / f"{name}.json").read_text()) for place in (run, by_one)]
        assert scores[0]["greedy_mean_total_reward"] == pytest.approx(scores[1]["greedy_mean_total_reward"])
    assert said(run, 1) == said(by_one, 1)
    assert ours[0]["grad_norm"] == pytest.approx(theirs[0]["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_an_adapter_is_pushed_merged_though_a_rank_has_no_group(parallel: str, small: Path, tmp_path: Path) -> None:
    done = trained(
        tmp_path, *SMALL, *ADAPTER, *TWO, "algo.groups_per_update=1", "algo.group_size=16", f"parallel={parallel}",
        f"model.path={small}", "hydra.run.dir=run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [row for row in updates(tmp_path / "run") if not row["skipped"]]
    assert rows and all(row["logprob_gap_mean"] < 0.05 for row in rows), TOKENS


def test_a_push_that_is_left_out_by_two_ranks_ends_the_run(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    given = [*SMALL, *TWO, "parallel=ddp", f"model.path={small}", "engine.mean_logprob_gap=0.05"]
    told = train_on_ranks(2, tmp_path, {"run": given}, planted=STALE)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed", told
    assert "log-prob" in record["error"]


def test_two_ranks_answer_together(small: Path, by_one: Path, tmp_path: Path) -> None:
    """vLLM's tensor parallel groups: each has half of every matrix, and both play the same."""
    done = trained(
        tmp_path, *SMALL, *TWO, "parallel=ddp", "trainer.vllm_tensor_parallel_size=2", f"model.path={small}",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = updates(tmp_path / "run")
    assert all(0 < row["logprob_gap_mean"] < 0.05 for row in rows if not row["skipped"]), TOKENS
    assert len(said(tmp_path / "run", 1)) == len(said(by_one, 1))


def test_a_server_cannot_be_trained_with_here(small: Path, tmp_path: Path) -> None:
    with vllm_serve(small, tmp_path / "server.txt") as url:
        given = f"trainer.vllm_server_base_url={url}"
        done = trained(tmp_path, *SMALL, f"model.path={small}", "engine=vllm_server", given, "hydra.run.dir=run")
    assert done.returncode == 2, done.stderr
    assert "needs a CUDA GPU" in done.stderr
    assert not (tmp_path / "run").exists()


def vllm_serve(model: Path, log: Path, tokens: int = 200) -> AbstractContextManager[str]:
    """What `vllm serve` starts, with the settings that TRL's client asks for; yields its address."""
    # vllm-cpu 0.31's own command asks for the version of a package vllm, which it is not
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    settings = ["--dtype", "float32", "--enforce-eager", "--max-model-len", str(tokens), "--max-num-seqs", "32"]
    wanted = ["--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1"]
    return listening([*command, *settings, *wanted], log, environment())


def test_a_server_answers_by_the_seed_of_each_decision(small: Path, tmp_path: Path) -> None:
    """As `engine=vllm_server` asks it, but for the weights."""
    prompts = [[7, 8, 9, 10 + number % 3] for number in range(24)]
    settings = [request_settings((0, number), Sampling(max_new_tokens=6), [5]) for number in range(24)]
    with vllm_serve(small, tmp_path / "server.txt") as url:
        engine: Any = type("Engine", (), {"vllm_client": VLLMClient(base_url=url, connection_timeout=60.0)})
        found = vllm_generator._ask_server(engine, prompts, settings)
        again = vllm_generator._ask_server(engine, prompts[::-1], settings[::-1])[::-1]
        with pytest.raises(RuntimeError, match="VLLM_SERVER_DEV_MODE"):
            engine.vllm_client.init_communicator(device="cpu")
    assert [ids for ids, _ in found] == [ids for ids, _ in again]
    assert len({tuple(ids) for ids, _ in found}) > 3
    model = AutoModelForCausalLM.from_pretrained(small)
    for prompt, (ids, logprobs) in zip(prompts, found, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0]
        wanted = torch.log_softmax(logits, dim=-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(ids)[:, None])[:, 0]
        assert logprobs == pytest.approx(wanted.tolist(), abs=1e-4)


REAL = [
    "env.size=3", "env.max_steps=4", "prompt=action_only", "prompt.observation=compact", "prompt.examples=3",
    "rollout=short", "rollout.max_prompt_tokens=400", "rollout.max_new_tokens=8", "eval.episodes=4",
]  # fmt: skip


def test_the_real_model_learns_with_vllm_in_its_process(smollm2: Path, tmp_path: Path) -> None:
    done = trained(
        tmp_path, *REAL, "engine=vllm_colocate", "model=smollm2-135m", f"model.path={smollm2}", "trainer=small",
        "trainer.learning_rate=1e-5", "algo.groups_per_update=2", "algo.group_size=4", "max_updates=2", "eval.every=0",
        "engine.mean_logprob_gap=0.2", "hydra.run.dir=run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = updates(tmp_path / "run")
    assert len(rows) == 2 and any(row["grad_norm"] for row in rows)
    of_both = [row["logprob_gap_mean"] for row in rows if not row["skipped"]]
    assert all(gap < 0.2 for gap in of_both), f"{TOKENS}; vLLM computes in bfloat16, training does not: {of_both}"
    base = json.loads((tmp_path / "run" / "eval" / "base.json").read_text())
    assert base["valid_action_rate"] > 0.2


def test_greedy_answers_behind_a_server_are_those_of_here(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = ["model=smollm2-135m", *REAL, f"model.path={smollm2}", "eval.temperature=0", "eval.episodes=24"]
    with vllm_serve(smollm2, tmp_path / "server.txt", 500) as url:
        evaluate(None, "policy=api", *shown, f"api.base_url={url}/v1")
    [file] = tmp_path.glob("outputs/api/*/answers.jsonl")
    answers = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({line["observation"] for line in answers}) >= 4
    config = compose("train", [*shown, "env=frozenlake"])
    policy, game = at_temperature(language_agent(config, *load_model(config.model, 0)), 0.0), make_game(config.env)
    for line in answers:
        [said] = policy.act([Decision(game, line["observation"], (0,))])
        assert line["answer"]["text"] == said.text
