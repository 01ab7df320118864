"""A server that speaks what TRL speaks with vLLM's: it answers by the seed of each request, and takes weights.

The model is a real one, of transformers. Weights come over gloo, where vLLM has NCCL, which needs GPUs: that alone is
ours on the other side, too (`weights_over_gloo`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

_PATIENCE = timedelta(seconds=300)
OVER_GLOO = "from support.vllm_server import weights_over_gloo\nweights_over_gloo()\n"
"""For `train_on_ranks`, planted in every rank."""


@dataclass
class Server:
    """Its model is changed by what is pushed."""

    model: Any
    stalls: str = ""
    """The path that is not answered any more."""
    stalls_after: int = 0
    """So many requests for it are answered before."""
    refuses: str = ""
    """The path that is answered with status 400."""
    slow: float = 0.0
    """Seconds that a push takes at least."""
    asked: list[str] = field(default_factory=list)
    """The paths, in the order in which they came."""
    seeds: list[int] = field(default_factory=list)
    too_early: int = 0
    """Requests for an answer that came before a push was over."""
    url: str = ""
    _pushing: bool = False
    _group: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _computing: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def open(self) -> Iterator[Server]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply({})

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self.reply(json.loads(self.rfile.read(length) or b"{}"))

            def reply(self, body: dict[str, Any]) -> None:
                path = self.path.partition("?")[0]
                if server.lets(path):
                    refused = path == server.refuses
                    answer = json.dumps({"error": "no"} if refused else server.answers(path, body)).encode()
                    self.send_response(400 if refused else 200)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        class Many(ThreadingHTTPServer):
            request_queue_size = 256

        http = Many(("127.0.0.1", 0), Handler)
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{http.server_address[1]}"
        try:
            yield self
        finally:
            self._closed.set()
            http.shutdown()
            http.server_close()

    def lets(self, path: str) -> bool:
        with self._lock:
            self.asked.append(path)
            stalled = path == self.stalls and self.asked.count(path) > self.stalls_after
        return not (stalled and self._closed.wait())

    def answers(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/v1/models":
            return {"data": [{"id": "served"}]}
        if path == "/server_info":
            return {"vllm_config": {"weight_transfer_config": {"backend": "nccl"}}}
        if path == "/get_world_size":
            return {"world_size": 1}
        if path == "/init_weight_transfer_engine":
            told = body["init_info"]
            self._group = joined(told, rank=told["rank_offset"])
        elif path == "/start_weight_update":
            self._pushing = True
            self._closed.wait(self.slow)
        elif path == "/update_weights":
            self._take(body["update_info"])
        elif path == "/finish_weight_update":
            self._pushing = False
        elif path == "/reset_prefix_cache":
            return {"success": True}
        elif path == "/v1/completions":
            return {"choices": [self._choice(prompt, body) for prompt in body["prompt"]]}
        return {}

    def _take(self, told: dict[str, Any]) -> None:
        wanted = dict(self.model.named_parameters())
        assert set(told["names"]) == set(wanted), set(told["names"]) ^ set(wanted)
        for name, kind, shape in zip(told["names"], told["dtype_names"], told["shapes"], strict=True):
            weights = torch.empty(shape, dtype=getattr(torch, kind))
            broadcast(self._group, weights)
            wanted[name].data.copy_(weights)

    @torch.no_grad()
    def _choice(self, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        self.too_early += self._pushing
        self.seeds.append(body["seed"])
        rng = torch.Generator().manual_seed(body["seed"] % 2**63)
        ids, logprobs = list(prompt), []
        with self._computing:
            while len(logprobs) < body["max_tokens"] and (not logprobs or ids[-1] not in body["stop_token_ids"]):
                logits = self.model(input_ids=torch.tensor([ids])).logits[0, -1]
                warm = torch.log_softmax(logits / (body["temperature"] or 1.0), dim=-1)
                drawn = torch.multinomial(warm.double().exp(), 1, generator=rng)
                ids.append(int(drawn if body["temperature"] else logits.argmax()))
                logprobs.append(float(warm[ids[-1]]))
        said = ids[len(prompt) :]
        tokens = [f"token_id:{token}" for token in said]
        told = [{token: value} for token, value in zip(tokens, logprobs, strict=True)]
        return {
            "prompt_token_ids": prompt,
            "token_ids": said,
            "logprobs": {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": told},
        }


def weights_over_gloo() -> None:
    """In this process, TRL's client sends weights over gloo, and takes vLLM for installed."""
    from trl.generation import vllm_client, vllm_generation

    client: Any = vllm_client
    client.is_vllm_available = vllm_generation.is_vllm_available = lambda *_, **__: True
    client.get_ip = lambda: "127.0.0.1"
    client._HAS_STATEFUL_TRAINER_ENGINE = client._HAS_RESET_PREFIX_CACHE_SUCCESS = True
    client.open_trainer_endpoint = lambda told: SimpleNamespace(gloo=joined(told, rank=0), group=SimpleNamespace())
    client.packed_nccl_broadcast_producer = _send
    join = client.VLLMClient.init_communicator
    client.VLLMClient.init_communicator = lambda self, device: join(self, device="cuda")  # it refuses others


def _send(*, iterator: Iterator[tuple[str, torch.Tensor]], group: Any, src: int, post_iter_func: Any) -> None:
    assert src == 0
    for item in iterator:
        broadcast(group.gloo, post_iter_func(item))


def joined(told: dict[str, Any], rank: int) -> Any:
    """The group over which weights go."""
    size = told["world_size"]
    store = dist.TCPStore(told["master_address"], told["master_port"], size, is_master=rank == 0, timeout=_PATIENCE)
    return dist.ProcessGroupGloo(store, rank, size, _PATIENCE)  # type: ignore[attr-defined]


def broadcast(group: Any, weights: torch.Tensor) -> None:
    """From the trainer."""
    options = dist.BroadcastOptions()
    options.rootRank = 0
    group.broadcast([weights.detach().contiguous()], options).wait()
