"""The `api` section of a config: which server answers, how it is asked, and what its tokens cost.

Knows which values are sensible. Knows nothing about requests or games.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from .section import Count, NonNegative, Positive, Section

_OWNERS = {
    "model": "model.path",
    "messages": "prompt",
    "temperature": "eval.temperature",
    "max_tokens": "rollout.max_new_tokens",
    "max_completion_tokens": "rollout.max_new_tokens",
    "top_p": "rollout.top_p",
    "top_k": "rollout.top_k",
    "min_p": "rollout.min_p",
    "repetition_penalty": "rollout.repetition_penalty",
    "n": "eval.episodes: a request has one answer",
    "stream": "nobody: an answer is read whole",
}


class ApiConfig(Section):
    """An OpenAI-compatible server, asked by `policy=api`. The model's name there is `model.path`."""

    base_url: str | None
    """Usually ends in /v1; None: that of the variable OPENAI_BASE_URL, else OpenAI's own."""
    key_variable: str
    """The environment variable that holds the key; the key itself stands nowhere."""
    concurrency: Positive
    """Requests under way at the same time."""
    retries: Count
    """Of one request, with back-off that doubles up to 8 s, or as long as the server asks for."""
    timeout: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    """Seconds without a byte from the server after which a request counts as lost."""
    max_tokens_key: Literal["max_completion_tokens", "max_tokens"]
    """How the server calls the limit of an answer, `rollout.max_new_tokens`."""
    extra_body: dict[str, Any]
    """Further fields of a request, verbatim; none that another key sets."""
    input_price: NonNegative | None
    """US dollars for a million tokens of prompts; None: unknown."""
    output_price: NonNegative | None
    """US dollars for a million tokens of answers; None: unknown."""
    answers: str | None
    """Folder that keeps every answer, so that a broken evaluation goes on; None: one below outputs/api/."""

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise ValueError("must be an address such as http://localhost:8000/v1") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as http://localhost:8000/v1")
        if parts.query:
            raise ValueError("must be an address without a query; the key belongs in the variable api.key_variable")
        return url

    @model_validator(mode="after")
    def _both_prices(self) -> ApiConfig:
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("input_price and output_price belong together: give both, or none")
        return self

    @field_validator("extra_body")
    @classmethod
    def _nobody_else_s(cls, fields: dict[str, Any]) -> dict[str, Any]:
        for name in fields:
            if name in _OWNERS:
                raise ValueError(f"{name} belongs to {_OWNERS[name]}")
        return fields
