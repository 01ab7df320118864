"""Where the seconds of one update go, part by part, each without the parts inside it.

Knows which functions of the package and of TRL do what. Usage: python costs.py [KEY=VALUE]...; prints one JSON
object of shares: `rollout_*` sum to 1, `update_*` too.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgrpo_cli.models.generation
import msgrpo_cli.models.shared_generation
from msgrpo_cli.common.console import talk_on_stderr
from msgrpo_cli.config.compose import compose
from msgrpo_cli.models.factory import game_factory, language_agent
from msgrpo_cli.models.loading import initial_model, quiet_libraries
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.models.precision import device_for
from msgrpo_cli.models.shared_generation import single
from msgrpo_cli.rollout.prompt import PromptTemplate
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.training.bench.meter import machine
from msgrpo_cli.training.bench.rollout import play
from msgrpo_cli.training.settings import training_arguments
from msgrpo_cli.training.trainer import MSGRPOTrainer

UPDATES = 6  # the first is not counted


class Parts:
    """Seconds by name; what is inside another part is not counted twice."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inside = [0.0]

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            self._inside.append(0.0)
            try:
                return work(*arguments, **named)
            finally:
                whole = time.perf_counter() - began
                self.seconds[name] += whole - self._inside.pop()
                self._inside[-1] += whole

        return measured

    def time(self, name: str, owner: Any, function: str) -> None:
        setattr(owner, function, self.timed(name, getattr(owner, function)))

    def taken(self) -> dict[str, float]:
        """The shares so far; starts anew."""
        whole = sum(self.seconds.values())
        found = {name: seconds / whole for name, seconds in self.seconds.items()}
        self.seconds.clear()
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def main(overrides: list[str]) -> dict[str, Any]:
    quiet_libraries()
    config = compose("train", overrides).model_copy(update={"max_updates": UPDATES})
    parts = Parts()
    game = type(game_factory(config.env, evaluation=False)().unwrapped)
    parts.time("game_start", game, "reset")
    parts.time("game_step", game, "step")
    parts.time("describe", game, "describe")
    parts.time("prompt_and_tokens", PromptTemplate, "messages")
    parts.time("decode_and_parse", LanguageAgentPolicy, "_completion")
    for module in (msgrpo_cli.models.generation, msgrpo_cli.models.shared_generation):
        parts.time("draw", module, "draw")
        parts.time("keyed_numbers", module, "keyed_numbers")
    parts.time("tree", msgrpo_cli.models.shared_generation._Tree, "grow")
    parts.time("tokenize", LanguageAgentPolicy, "act")
    parts.time("scoring", MSGRPOTrainer, "_generate_and_score_completions")
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        device = device_for(config.trainer)
        model, tokenizer = initial_model(config, run)
        parts.time("model", model, "forward")
        play(config, language_agent(config, model, tokenizer, single(config)))
        parts.taken()
        whole_play = parts.timed("rest", play)
        for _ in range(UPDATES - 1):
            played = whole_play(config, language_agent(config, model, tokenizer, single(config)))
        rollout = parts.taken()
        trainer = MSGRPOTrainer(model, training_arguments(config, run, device), tokenizer, lambda update: played)
        parts.time("forward_and_loss", trainer, "compute_loss")
        parts.time("backward", trainer.accelerator, "backward")
        parts.time("gradient_norm", trainer, "_get_grad_norm")
        trainer.create_optimizer()
        parts.time("optimizer", trainer.optimizer, "step")
        step = parts.timed("rest", trainer.training_step)

        def counted(*arguments: Any, **named: Any) -> Any:
            if int(trainer.state.global_step) == 1:
                parts.taken()
            return step(*arguments, **named)

        trainer.training_step = counted
        trainer.train()
    return {
        **{f"rollout_{name}": share for name, share in rollout.items()},
        **{f"update_{name}": share for name, share in parts.taken().items()},
        "machine": machine(device),
    }


if __name__ == "__main__":
    with talk_on_stderr():  # TRL's trainer prints
        found = main(sys.argv[1:])
    print(json.dumps(found))
