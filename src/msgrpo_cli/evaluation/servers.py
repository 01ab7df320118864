"""Models behind a server that play in one evaluation, on the seat that is scored or on another, and what they cost.

Knows configs, kept answers and who sits on a seat by its name. Knows nothing about scores or how a server is spoken to.
Imports nothing heavy before one is asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgrpo_cli.common.numbers import counted
from msgrpo_cli.config.prompt import prompt_of
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.config.schema_selfplay import SERVED
from msgrpo_cli.rollout.play import Policy

from .api_answers import KeptAnswers, kept_answers
from .opponents import seated_player

if TYPE_CHECKING:
    from .api_policy import ApiPolicy


@dataclass
class Servers:
    """Asked with the prompt, sampling and `api` section of one config; every answer is kept."""

    config: RunConfig
    _held: ExitStack
    _kept: dict[Path, KeptAnswers] = field(default_factory=dict)
    _asked: dict[str, ApiPolicy] = field(default_factory=dict)

    def policy(self, model: str, name: str, on_answer: Callable[[int], None] = lambda answers: None) -> ApiPolicy:
        """The model that the server calls `model`; `name` is that of the folder of its answers."""
        from msgrpo_cli.models.factory import sampling_of

        from .api_policy import ApiPolicy
        from .api_server import retries_told

        if not self._kept:
            self._held.enter_context(retries_told())
        config = self.config
        assert config.api is not None
        folder = Path("outputs") / "api" / f"{name}-{config.env.name}"
        if config.api.answers is not None:
            folder = Path(config.api.answers).expanduser()
        if folder not in self._kept:
            self._kept[folder] = self._held.enter_context(kept_answers(folder))
        kept, sampling = self._kept[folder], sampling_of(config.rollout)
        if config.eval.temperature is not None:
            sampling = replace(sampling, temperature=config.eval.temperature)
        policy = ApiPolicy(model, prompt_of(config), sampling, config.api, kept, on_answer=on_answer)
        said = f"{config.env.name}: asking {policy.usage.base_url} for {model}\nanswers are kept in {kept.path}"
        print(said, file=sys.stderr)
        return policy

    def player(self, name: str) -> Policy:
        """Who sits on a seat by this name, a model of the server among them."""
        if not name.startswith(SERVED):
            return seated_player(name)
        if name not in self._asked:
            model = name.removeprefix(SERVED)
            self._asked[name] = self.policy(model, model.replace("/", "-"))
        return self._asked[name]

    def say_usage(self) -> None:
        """What the models on seats were asked, on stderr."""
        for name, policy in self._asked.items():
            usage = policy.usage
            tokens = "tokens unknown"
            if usage.prompt_tokens is not None and usage.completion_tokens is not None:
                tokens = f"{usage.prompt_tokens} prompt tokens, {usage.completion_tokens} answer tokens"
            cost = "cost unknown" if usage.cost_usd is None else f"{usage.cost_usd:.4f} US dollars"
            answered = f", {usage.kept} of them answered before" if usage.kept else ""
            print(f"{name}: {counted(usage.requests, 'request')}{answered}, {tokens}, {cost}", file=sys.stderr)


@contextmanager
def asking(config: RunConfig) -> Iterator[Servers]:
    """Whoever plays in one evaluation; their answers are held until its end."""
    with ExitStack() as held:
        servers = Servers(config, held)
        try:
            yield servers
        finally:
            servers.say_usage()
