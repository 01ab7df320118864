"""Several ranks and one server that speaks vLLM's protocol: who asks, who pushes, and what happens where it stalls.

vLLM itself is not run here: `tests/end_to_end/test_vllm.py` does.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from trl.generation import vllm_client

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import RunError
from msgrpo_cli.models.loading import load_model
from msgrpo_cli.training import vllm_engine
from msgrpo_cli.training.vllm_engine import Client
from support import pushing_ranks
from support.ranks import started, train_on_ranks
from support.vllm_server import OVER_GLOO, Server

SMALL = (
    "experiment=smoke",
    "engine=vllm_server",
    "max_updates=2",
    "algo.groups_per_update=3",
    "algo.group_size=8",
    "eval.every=0",
    "eval.episodes=2",
    "engine.max_logprob_gap=1e-3",
    "engine.mean_logprob_gap=1e-4",
    "trainer.vllm_importance_sampling_correction=false",
)
ADAPTER = ("lora.enabled=true", "lora.r=4", "trainer.learning_rate=0.01")
SLOW_PUSH = 0.5  # seconds, in which whoever does not wait has asked many times


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@contextmanager
def serving(**settings: Any) -> Iterator[Server]:
    """The untrained model of `SMALL`."""
    model, _ = load_model(compose("train", SMALL).model, 0)
    with Server(model.eval(), **settings).open() as server:
        yield server


def served_by(server: Server) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [*SMALL, f"trainer.vllm_server_base_url={server.url}", f"trainer.vllm_group_port={port}"]


def trained(count: int, folder: Path, server: Server, *overrides: str, planted: str = "") -> str:
    folder.mkdir()
    return train_on_ranks(count, folder, {"run": [*served_by(server), *overrides]}, planted=OVER_GLOO + planted)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"stalls": "/v1/completions"}, "no answer within trainer.vllm_server_timeout=0.3 s"),
        ({"refuses": "/v1/completions"}, 'HTTP status 400 {"error": "no"}'),
    ],
)
def test_what_a_server_does_is_told_with_its_place(
    settings: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_client, "is_vllm_available", lambda: True)
    with serving(**settings) as server:
        client = Client(server.url, 0, 0.3)
        with pytest.raises(RunError) as caught:
            client.generate([[3, 4]], generation_kwargs={"seed": 1, "stop_token_ids": [5]})
        assert str(caught.value) == f"the vLLM server failed at {server.url}/v1/completions: {told}"
        assert server.asked.count("/v1/completions") == 1


def test_a_server_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_client, "is_vllm_available", lambda: True)
    monkeypatch.setattr(vllm_engine, "RETRIES", 0)
    with serving() as server:
        client = Client(server.url, 0, 5.0)
        client.session.close()
    with pytest.raises(RunError, match=rf"failed at {server.url}/v1/completions: .*Connection refused"):
        client.generate([[3, 4]], generation_kwargs={"seed": 1, "stop_token_ids": [5]})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "one"
    with serving() as server:
        said = trained(1, folder, server)
    assert (folder / "run" / "episodes.jsonl").exists(), said[-3000:]
    return folder / "run"


class Served(NamedTuple):
    """A run, and the server that answered it."""

    run: Path
    server: Server
    said: str


@pytest.fixture(scope="module")
def of_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    """Runs that have a server each, by two ranks that are started once."""
    folder = tmp_path_factory.mktemp("two")
    servers: dict[str, Server] = {}
    runs: dict[str, list[str]] = {}
    with ExitStack() as open_servers:
        for parallel in ("ddp", "fsdp"):
            adapted = f"{parallel} with an adapter"
            servers[parallel] = open_servers.enter_context(serving(slow=SLOW_PUSH))
            servers[adapted] = open_servers.enter_context(serving())
            runs[parallel] = [*served_by(servers[parallel]), f"parallel={parallel}"]
            runs[adapted] = [*served_by(servers[adapted]), f"parallel={parallel}", *ADAPTER]
        said = train_on_ranks(2, folder, runs, planted=OVER_GLOO)
    return {name: Served(folder / name, server, said) for name, server in servers.items()}


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_and_one_server_train_as_one(parallel: str, alone: Path, of_two_ranks: dict[str, Served]) -> None:
    run, server, said = of_two_ranks[parallel]
    assert (run / "run.json").exists() and json.loads((run / "run.json").read_text())["status"] == "done", said[-3000:]
    assert server.asked.count("/init_weight_transfer_engine") == 1, "the first rank alone"
    assert server.asked.count("/v1/models") == 2, "every rank asks by itself"
    pushes = server.asked.count("/update_weights")
    assert pushes == server.asked.count("/reset_prefix_cache") == 3, "the base, the second update, the best"
    assert server.too_early == 0
    assert (run / "episodes.jsonl").read_bytes() == (alone / "episodes.jsonl").read_bytes()
    ours, theirs = lines(run / "metrics.jsonl"), lines(alone / "metrics.jsonl")
    for name in ("mean_total_reward", "greedy_mean_total_reward", "loss", "grad_norm"):
        given = [[row[name] for row in rows if row.get(name) is not None] for rows in (ours, theirs)]
        assert len(given[0]) == len(given[1]) == 2, name
        assert given[0] == pytest.approx(given[1], rel=2e-4, abs=1e-6), name
    assert all(0 < row["logprob_gap_max"] < 1e-4 for row in ours if row["kind"] == "train")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_an_adapter_is_merged_before_it_is_pushed_by_two_ranks(parallel: str, of_two_ranks: dict[str, Served]) -> None:
    run, _, said = of_two_ranks[f"{parallel} with an adapter"]
    assert (run / "run.json").exists() and json.loads((run / "run.json").read_text())["status"] == "done", said[-3000:]
    rows = [row for row in lines(run / "metrics.jsonl") if row["kind"] == "train" and not row["skipped"]]
    assert rows[0]["grad_norm"] > 0 and len(rows) == 2
    assert all(row["logprob_gap_max"] < 1e-4 for row in rows), "the second update's answers are those of the adapter"


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, torch.Tensor]]]:
    """What each of two ranks that share out the weights would push."""
    folder = tmp_path_factory.mktemp("pushing")
    said = started(2, str(pushing_ranks.__file__), str(folder))
    files = sorted(folder.glob("rank-*.pt"))
    assert len(files) == 2, said[-3000:]
    return [torch.load(file) for file in files]


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [False, True])
def test_of_weights_that_are_shared_out_the_whole_is_pushed(
    adapter: bool, by_two: list[dict[str, dict[str, torch.Tensor]]]
) -> None:
    model = pushing_ranks.trained(adapter=adapter)
    with torch.no_grad():
        logits = model(torch.tensor([[3, 14, 15, 4]])).logits
    whole = pushing_ranks.pushed(model)
    assert whole.keys() == dict(pushing_ranks.trained(adapter=False).named_parameters()).keys()
    for found in by_two:
        there = found[f"adapter={adapter}"]
        assert there.keys() == whole.keys()
        assert all(torch.allclose(there[name], weights, atol=1e-6) for name, weights in whole.items())
        after = found[f"adapter={adapter}, logits"][""]
        assert torch.allclose(after, logits, atol=1e-5), "the adapter is taken out again"


@pytest.mark.slow
def test_a_push_that_is_left_out_by_the_first_rank_ends_the_run(tmp_path: Path) -> None:
    stale = (
        "from msgrpo_cli.training.vllm_engine import Engine\n"
        "push, pushes = Engine.push, []\n"
        "Engine.push = lambda self, model: pushes.append(1) or (push(self, model) if len(pushes) == 1 else None)\n"
    )
    with serving() as server:
        said = trained(2, tmp_path / "two", server, *ADAPTER[:2], "trainer.learning_rate=0.1", planted=stale)
    record = json.loads((tmp_path / "two" / "run" / "run.json").read_text())
    assert record["status"] == "failed", said[-3000:]
    assert "update 2" in record["error"] and "log-prob" in record["error"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "after"),
    [("/server_info", 0), ("/v1/completions", 40), ("/start_weight_update", 1)],
    ids=["as it is joined", "as it is asked", "as it is given weights"],
)
def test_a_server_that_stalls_is_named_within_its_time(path: str, after: int, tmp_path: Path) -> None:
    with serving(stalls=path, stalls_after=after) as server:
        said = trained(2, tmp_path / "two", server, "trainer.vllm_server_timeout=20")
        place = f"the vLLM server failed at {server.url}{path}"
    record = json.loads((tmp_path / "two" / "run" / "run.json").read_text())
    assert record["status"] == "failed", said[-3000:]
    assert f"{place}: no answer within trainer.vllm_server_timeout=20 s" in record["error"]
    assert server.asked.count(path) <= after + 2 * 64, "and is not asked again"
