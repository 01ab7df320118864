"""Design (c) of peers.py, TRL's `environment_factory` with tool calls, beside our rollout: speed only.

Knows TRL's trainer and our games. The starts are ours; the model is as large as `tiny` and is taught in seconds to play
what `tiny` plays, in tool calls. Two dialects: `tools` is the Qwen 2.5 chat template as TRL ships it, a token for each
word; `short` is the cheapest that TRL takes: no tools in the prompt, and calls of as many tokens as our answers.
`use_transformers_continuous_batching` is left off: on one thread it was about 30 times slower.

Usage: python peer_tools.py [KEY=VALUE]...; prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import transformers
from datasets import Dataset
from packaging.version import Version
from peers import ROUNDS
from tool_model import DIALECTS, OVER, conversation, make_tokenizer, taught
from transformers import PreTrainedTokenizerFast, PrinterCallback, ProgressCallback
from trl import GRPOConfig, GRPOTrainer

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.models.factory import game_factory, language_agent
from msgrpo_cli.models.loading import load_model, quiet_libraries
from msgrpo_cli.models.shared_generation import generate_shared
from msgrpo_cli.rollout.collect import starts_of_update
from msgrpo_cli.training.bench.meter import machine, median, seconds_of
from msgrpo_cli.training.bench.rollout import play
from msgrpo_cli.training.settings import update_rules


class Lake:
    """Our game as TRL's environment: every public method but `reset` is a tool."""

    def __init__(self, config: RunConfig, on_reset: Callable[[], None] = lambda: None) -> None:
        self._on_reset, self._observation = on_reset, config.prompt.observation
        self._game: Any = game_factory(config.env, evaluation=False)()
        self.moves, self.over = 0, False

    def reset(self, **start: Any) -> str:
        self._on_reset()
        self._game.reset(seed=start["seed"])
        self.moves, self.over = 0, False
        return str(self._game.describe(self._observation))

    def move(self, direction: str) -> str:
        """Walk to a neighbouring cell.

        Args:
            direction: left, down, right or up.

        Returns:
            What lies there.
        """
        if self.over:
            return OVER
        _, _, terminated, truncated, _ = self._game.step(self._game.actions.index(direction))
        self.moves += 1
        self.over = terminated or truncated
        return OVER if self.over else str(self._game.describe(self._observation))


class Peer:
    """TRL's trainer, of which only the generation phase is timed: from the first reset to the first reward."""

    def __init__(self, config: RunConfig, model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
        rules = update_rules(config)
        starts = starts_of_update(game_factory(config.env, evaluation=False)(), rules, 1)
        self.config, self.lakes = config, list[Lake]()
        self.began: float | None = None
        self.seconds = 0.0
        rows = [
            {"prompt": [{"role": "user", "content": ""}], "seed": start.seed} for start in starts[:: rules.group_size]
        ]
        # An environment cannot end its episode: TRL goes on until an answer has no call, so the model is taught to say
        # nothing once it is over. The limits are for one that does not stop, which all the others would wait for.
        arguments = GRPOConfig(
            output_dir=tempfile.mkdtemp(prefix="peer-"), num_generations=rules.group_size,
            per_device_train_batch_size=len(starts), per_device_eval_batch_size=len(starts),
            max_tool_calling_iterations=config.env.max_steps, max_completion_length=900,
            generation_kwargs={"max_new_tokens": 12}, temperature=1.0, top_k=0, top_p=1.0, beta=0.0, use_cpu=True,
            bf16=False, gradient_checkpointing=False, report_to="none", disable_tqdm=True, seed=config.seed,
        )  # fmt: skip
        self.trainer = GRPOTrainer(
            model, reward_funcs=[self._reward], args=arguments, environment_factory=self._lake,
            train_dataset=Dataset.from_list(rows), eval_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        )  # fmt: skip
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.remove_callback(ProgressCallback)

    def play(self) -> float:
        """All episodes once; returns moves a second."""
        self.began = None
        self.trainer.evaluate()  # the generation phase of training, without the update
        return self.moves / self.seconds

    @property
    def moves(self) -> int:
        return sum(lake.moves for lake in self.lakes)

    def figures(self) -> dict[str, float]:
        """Of the last round."""
        episodes = len(self.lakes)
        tokens = self.trainer.state.log_history[-1]["eval_completions/mean_length"] * episodes
        return {
            "tokens_per_decision": tokens / self.moves,
            "decisions_per_episode": self.moves / episodes,
            "played_to_the_end": sum(lake.over for lake in self.lakes) / episodes,
        }

    def _lake(self) -> Lake:
        self.lakes.append(Lake(self.config, self._begin))
        return self.lakes[-1]

    def _begin(self) -> None:
        if self.began is None:
            self.began = time.perf_counter()

    def _reward(self, completions: list[Any], **_: Any) -> list[float | None]:
        self.seconds = time.perf_counter() - (self.began or 0.0)
        return [0.0] * len(completions)


def bench(config: RunConfig) -> dict[str, Any]:
    """Decisions a second of each, round by round."""
    model, tokenizer = load_model(config.model, config.seed)
    policy = language_agent(config, model, tokenizer, generate_shared)
    episodes = play(config, policy).episodes
    talks, tools = [conversation(episode) for episode in episodes], [Lake(config).move]
    peers = {}
    for name, dialect in DIALECTS.items():
        words = make_tokenizer(dialect, talks, tools)
        peers[name] = Peer(config, taught(model, words, talks, tools, config.seed), words)
    decisions = sum(len(episode.steps) for episode in episodes)
    designs: dict[str, Callable[[], float]] = {
        "ours": lambda: decisions / seconds_of(lambda: play(config, policy), model.device),
        **{name: peer.play for name, peer in peers.items()},
    }
    speed: dict[str, list[float]] = {name: [] for name in designs}
    for number in range(ROUNDS + 1):
        for name, design in designs.items():
            found = design()
            if number:  # the first warms up
                speed[name].append(found)
    tokens = sum(len(step.completion.token_ids) for episode in episodes for step in episode.steps)
    figures: dict[str, Any] = {f"{name}_decisions_per_second": median(values) for name, values in speed.items()}
    for name in peers:
        pairs = zip(speed["ours"], speed[name], strict=True)
        figures[f"ours_over_{name}"] = median([mine / theirs for mine, theirs in pairs])
    figures |= {"ours_tokens_per_decision": tokens / decisions, "ours_decisions_per_episode": decisions / len(episodes)}
    for name, peer in peers.items():
        figures |= {f"{name}_{figure}": value for figure, value in peer.figures().items()}
    return {**figures, "rounds": ROUNDS, "machine": machine(model.device)}


if __name__ == "__main__":
    quiet_libraries()
    if Version(transformers.__version__) < Version("5.13"):
        sys.exit("peer_tools.py: needs transformers 5.13, which reads tool calls without jmespath")
    print(json.dumps(bench(compose("train", sys.argv[1:]))))
