"""Programs of another design on TRL's public interface, over the same game, model and starts.

(a) `history`: all episodes at once, the conversation grows with the episode, one training sequence per episode.
(b) `one_by_one`: the same, one episode after another, as examples often do.
(d) `states`: state-only rows, one `generate` per decision for all live episodes, nothing shared; that is this package
    with `rollout.share_prompts=false algo.share_prompts=false`.
(c), TRL's `environment_factory`, needs a model that calls tools: peer_tools.py.

Usage: python peers.py rollout|update|learn [KEY=VALUE]... ; prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from msgrpo_cli.common.seeding import generator
from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.episode import Start
from msgrpo_cli.models.factory import conversation_of, game_factory, language_agent
from msgrpo_cli.models.generation import generate
from msgrpo_cli.models.loading import ends_of, load_model, quiet_libraries
from msgrpo_cli.models.shared_generation import generate_shared
from msgrpo_cli.rollout.collect import starts_of_update
from msgrpo_cli.rollout.prompt import PromptTemplate
from msgrpo_cli.rollout.split import start_seeds
from msgrpo_cli.training.bench.learn import TARGET
from msgrpo_cli.training.bench.meter import machine, median
from msgrpo_cli.training.bench.rollout import play
from msgrpo_cli.training.settings import update_rules

ROUNDS = 5


@dataclass
class Conversation:
    """One episode as one sequence: what the game says is masked out."""

    game: Any
    prompt: list[int]
    completion: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reward: float = 0.0
    steps: int = 0


class Player:
    """Plays conversations with a model."""

    def __init__(self, config: RunConfig, model: Any, tokenizer: Any) -> None:
        self.config, self.model, self.tokenizer = config, model, tokenizer
        self.template = PromptTemplate(config.prompt.system, config.prompt.user)
        self.conversation = conversation_of(config, tokenizer, ends_of(model.generation_config))
        self.ends, self.pad = self.conversation.ends, self.conversation.pad_id

    def ids(self, game: Any, *, first: bool) -> list[int]:
        messages = self.template.messages(game, game.describe(self.config.prompt.observation))
        said = messages if first else tuple(message for message in messages if message[0] != "system")
        return list(self.conversation.prompt_ids(said))

    def play(self, starts: Sequence[Start]) -> list[Conversation]:
        """All episodes at once."""
        make = game_factory(self.config.env, evaluation=False)
        talks = []
        for start in starts:
            game = make()
            game.reset(seed=start.seed)
            game.np_random = generator((*start.key, "noise"))
            talks.append(Conversation(game, self.ids(game, first=True)))
        live = list(talks)
        while live:
            self._answer(live)
            live = [talk for talk in live if self._move(talk)]
        return talks

    def _answer(self, live: list[Conversation]) -> None:
        rows = [talk.prompt + talk.completion for talk in live]
        width = max(map(len, rows))
        ids = torch.tensor([[self.pad] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        self.model.eval()
        with torch.no_grad():
            out = self.model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=self.config.rollout.max_new_tokens, eos_token_id=self.ends, pad_token_id=self.pad,
                return_dict_in_generate=True, output_logits=True,
            )  # fmt: skip
        logprobs = torch.log_softmax(torch.stack(out.logits, 1).float(), -1)
        chosen = out.sequences[:, width:]
        found = logprobs.gather(-1, chosen[..., None]).squeeze(-1).tolist()
        for talk, tokens, logs in zip(live, chosen.tolist(), found, strict=True):
            length = next((i + 1 for i, token in enumerate(tokens) if token in self.ends), len(tokens))
            talk.completion += tokens[:length]
            talk.mask += [1] * length
            talk.logprobs += logs[:length]
            self.said = tokens[:length]
            talk.answer = tokens[:length]  # type: ignore[attr-defined]

    def _move(self, talk: Conversation) -> bool:
        tokens = [token for token in talk.answer if token not in self.ends]  # type: ignore[attr-defined]
        action = talk.game.parse(self.tokenizer.decode(tokens))
        if action is None:
            talk.reward -= self.config.algo.format_penalty
            action = talk.game.actions[0]
        _, reward, terminated, truncated, _ = talk.game.step(talk.game.actions.index(action))
        talk.reward += float(reward)
        talk.steps += 1
        if terminated or truncated:
            return False
        said = self.ids(talk.game, first=False)
        talk.completion += said
        talk.mask += [0] * len(said)
        talk.logprobs += [0.0] * len(said)
        return True


def bench_rollout(config: RunConfig) -> dict[str, Any]:
    """Decisions a second of every design, round by round."""
    model, tokenizer = load_model(config.model, config.seed)
    player = Player(config, model, tokenizer)
    starts = starts_of_update(game_factory(config.env, evaluation=False)(), update_rules(config), 1)
    policies = {name: language_agent(config, model, tokenizer, g) for name, g in GENERATORS.items()}

    def ours(name: str) -> int:
        return sum(len(episode.steps) for episode in play(config, policies[name]).episodes)

    designs: dict[str, Callable[[], int]] = {
        "ours": lambda: ours("ours"),
        "history": lambda: sum(talk.steps for talk in player.play(starts)),
        "one_by_one": lambda: sum(player.play([start])[0].steps for start in starts),
        "states": lambda: ours("states"),
    }
    speed: dict[str, list[float]] = {name: [] for name in designs}
    torch.manual_seed(0)
    for number in range(ROUNDS + 1):
        for name, design in designs.items():
            began = time.perf_counter()
            decisions = design()
            if number:  # the first warms up
                speed[name].append(decisions / (time.perf_counter() - began))
    found = {f"{name}_decisions_per_second": median(values) for name, values in speed.items()}
    for name in ("history", "one_by_one", "states"):
        pairs = zip(speed["ours"], speed[name], strict=True)
        found[f"ours_over_{name}"] = median([mine / theirs for mine, theirs in pairs])
    return {**found, "rounds": ROUNDS, "machine": machine(model.device)}


GENERATORS = {"ours": generate_shared, "states": generate}


class Clock(TrainerCallback):
    """Seconds of every update, and validation success where it is due; ends the run at the target."""

    def __init__(self, peer: Peer, every: int) -> None:
        self.peer, self.every = peer, every
        self.began = 0.0
        self.seconds: list[float] = []
        self.scores: dict[int, float] = {}

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds.append(time.perf_counter() - self.began)
        if self.every and state.global_step % self.every == 0:
            self.scores[state.global_step] = self.peer.success()
            print(state.global_step, self.scores[state.global_step], file=sys.stderr)
            control.should_training_stop = self.scores[state.global_step] >= TARGET


class Peer:
    """Design (a) as a whole: TRL's trainer, our game."""

    def __init__(self, config: RunConfig, updates: int, every: int) -> None:
        rules = update_rules(config)
        self.config, self.rules = config, rules
        self.model, tokenizer = load_model(config.model, config.seed)
        self.player = Player(config, self.model, tokenizer)
        self.make = game_factory(config.env, evaluation=False)
        self.decisions, self.rollout_seconds, self.number = 0, 0.0, 0
        self.clock = Clock(self, every)
        episodes = rules.groups_per_update * rules.group_size
        arguments = GRPOConfig(
            output_dir=tempfile.mkdtemp(prefix="peer-"), learning_rate=config.trainer["learning_rate"],
            lr_scheduler_type=config.trainer["lr_scheduler_type"], max_steps=updates, num_generations=rules.group_size,
            per_device_train_batch_size=episodes // 4, gradient_accumulation_steps=4, loss_type="dapo", beta=0.0,
            temperature=1.0, max_completion_length=4096, use_cpu=True, bf16=False, gradient_checkpointing=False,
            report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True, seed=config.seed,
            entropy_coef=config.trainer["entropy_coef"],
        )  # fmt: skip
        self.trainer = GRPOTrainer(
            self.model, reward_funcs=[lambda prompts, reward, **_: reward], args=arguments,
            train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(updates * rules.groups_per_update)]}),
            processing_class=tokenizer, rollout_func=self.rollout, callbacks=[self.clock],
        )  # fmt: skip
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.remove_callback(ProgressCallback)

    def rollout(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        began = time.perf_counter()
        self.number += 1
        talks = self.player.play(starts_of_update(self.make(), self.rules, self.number))
        self.decisions += sum(talk.steps for talk in talks)
        self.rollout_seconds += time.perf_counter() - began
        return {
            "prompt_ids": [talk.prompt for talk in talks],
            "completion_ids": [talk.completion for talk in talks],
            "logprobs": [talk.logprobs for talk in talks],
            "env_mask": [talk.mask for talk in talks],
            "reward": [talk.reward for talk in talks],
        }

    def success(self) -> float:
        """On held-out starts, in its own format."""
        seeds = start_seeds(self.make(), "validation", iter(range(10**9)))
        starts = [Start(next(seeds), i, 0, (1, i)) for i in range(self.config.eval.episodes)]
        return float(np.mean([talk.game.success for talk in self.player.play(starts)]))


def bench_update(config: RunConfig) -> dict[str, Any]:
    """Seconds of a whole update of design (a), and of its training alone."""
    peer = Peer(config, ROUNDS + 1, 0)
    peer.trainer.train()
    whole = peer.clock.seconds[1:]
    return {
        "seconds": median(whole),
        "seconds_rollout": peer.rollout_seconds / (ROUNDS + 1),
        "rounds": ROUNDS,
        "machine": machine(peer.model.device),
    }


def bench_learn(config: RunConfig) -> dict[str, Any]:
    """Design (a) until success 0.8 on validation, evaluations left out of the seconds."""
    peer = Peer(config, config.max_updates, config.eval.every)
    base = peer.success()
    peer.trainer.train()
    last = max(peer.clock.scores)
    reached = peer.clock.scores[last] >= TARGET
    return {
        "reached": reached,
        "update": last if reached else None,
        "seconds_to_target": sum(peer.clock.seconds) if reached else None,
        "seconds": sum(peer.clock.seconds),
        "decisions": peer.decisions,
        "base": base,
        "best": max(peer.clock.scores.values()),
        "updates": last,
        "seed": config.seed,
        "machine": machine(peer.model.device),
    }


if __name__ == "__main__":
    quiet_libraries()
    chosen = compose("train", sys.argv[2:])
    print(json.dumps({"rollout": bench_rollout, "update": bench_update, "learn": bench_learn}[sys.argv[1]](chosen)))
