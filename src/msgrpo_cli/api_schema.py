"""The `api` section of a config: which server answers, how it is asked, and what its tokens cost.

Knows which values are sensible. Knows nothing about requests or games.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from .credentials import names_a_secret
from .schema_types import Count, NonNegative, Positive, Section


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
    """Seconds until a request counts as lost."""
    max_tokens_key: Literal["max_completion_tokens", "max_tokens"]
    """How the server calls the limit of an answer, `rollout.max_new_tokens`."""
    extra_body: dict[str, Any]
    """Further fields of a request, verbatim."""
    input_price: NonNegative | None
    """US dollars for a million tokens of prompts; None: unknown."""
    output_price: NonNegative | None
    """US dollars for a million tokens of answers; None: unknown."""
    answers: str | None
    """File that keeps every answer, so that a broken evaluation goes on; None: below outputs/api/."""

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

    @field_validator("key_variable")
    @classmethod
    def _recognised(cls, name: str) -> str:
        if not names_a_secret(name):
            raise ValueError("must be the name of an environment variable that ends in _API_KEY or _TOKEN")
        return name
