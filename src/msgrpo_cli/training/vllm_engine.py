"""TRL's VLLMGeneration as several ranks need it: started, given weights, and asked over HTTP by whichever rank.

Knows TRL's class and its client. Knows nothing about prompts, games or when weights have changed.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import requests
from requests.adapters import HTTPAdapter
from transformers import PreTrainedModel
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration
from urllib3.exceptions import ReadTimeoutError
from urllib3.util.retry import Retry

from msgrpo_cli.common.text import one_line
from msgrpo_cli.errors import RunError
from msgrpo_cli.models.adapters import policy_of

from .parallel.sharding import is_shared_out, part_again

AT_ONCE = 64  # requests that the client keeps connections for
_CONNECTED = 10.0  # seconds in which a connection is there
RETRIES = 5  # where a connection breaks; half a minute in all
_FSDP2 = 2  # TRL's word for weights that it gathers one by one


class Engine(VLLMGeneration):
    """The changes: every rank has a client of the server, the first alone joins the group over which weights go; and
    weights that are shared out are gathered one by one, though it was not accelerate that shared them out."""

    def _init_vllm(self) -> None:
        if self.mode != "server":
            super()._init_vllm()  # type: ignore[no-untyped-call]
            return
        url = self.server_base_url or f"http://{self.server_host}:{self.server_port}"
        self.vllm_client = Client(url, self.group_port, self.server_timeout)
        if self.accelerator.is_main_process:
            self.vllm_client.init_communicator(device=self.accelerator.device)

    def push(self, model: Any) -> None:
        """Give vLLM the weights of `model`; all ranks do at once. On a server they have arrived when the first rank
        returns."""
        if model is not self.model:
            self.model, self._weight_metadata = model, None
        inner = policy_of(model)
        self._dist.fsdp_version = _FSDP2 if is_shared_out(inner) else None
        part_again(inner)  # TRL gathers parts
        self.sync_weights()  # type: ignore[no-untyped-call]


class Client(VLLMClient):
    """The change: no answer is waited for longer than `patience` seconds. Raises RunError where none came, where the
    server is gone, or where it refuses."""

    def __init__(self, url: str, group_port: int, patience: float) -> None:
        self._patience = patience
        super().__init__(base_url=url, group_port=group_port)

    def check_server(self, total_timeout: float = 0.0, retry_interval: float = 2.0) -> None:
        """TRL calls this before anything else is asked."""
        retries = _Retries(
            total=RETRIES,
            status=min(3, RETRIES),
            backoff_factor=1,
            status_forcelist=[500, 502, 503],
            allowed_methods=["GET", "POST"],
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retries, pool_maxsize=AT_ONCE))
        self.session.trust_env = False  # no proxies
        vars(self.session)["request"] = partial(self._request, self.session.request)

    def _request(self, request: Any, method: str, url: str, **settings: Any) -> Any:
        try:
            timeout = (min(_CONNECTED, self._patience), self._patience)
            answer = request(method, url, timeout=timeout, **settings)
        except requests.RequestException as error:
            late = isinstance(error, requests.ReadTimeout)
            why = f"no answer within trainer.vllm_server_timeout={self._patience:g} s" if late else one_line(error)
            raise RunError(f"the vLLM server failed at {url}: {why}") from error
        if answer.status_code != 200 and not url.endswith("/server_info"):  # for which TRL has words of its own
            said = one_line(answer.text)
            raise RunError(f"the vLLM server failed at {url}: HTTP status {answer.status_code} {said}")
        return answer


class _Retries(Retry):
    """The change: an answer that does not come in time is not asked for again."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Self:
        if isinstance(error, ReadTimeoutError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


def whole_model(trained: Any, model: PreTrainedModel) -> Any:
    """What TRL must push for `model`: of a model with an adapter the one that knows how to merge it."""
    return trained if policy_of(trained) is model else model
