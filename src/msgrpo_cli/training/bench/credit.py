"""`msgrpo lab credit`: every way of giving credit on the same episodes, held against what the choices were worth.

Knows the trainer, credits, exact values and gradients. Knows nothing about the command line or how figures are shown.
No weight is changed: each credit's gradient is that of TRL's loss on all steps that were played.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, ProgressCallback

from msgrpo_cli.algo.credit import CREDITS, step_advantages
from msgrpo_cli.algo.episode_sampling import Draw, effective_sample_size
from msgrpo_cli.common.console import say
from msgrpo_cli.common.statistics import bootstrap_interval
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.games.core import KnownDynamics, PlaceableDynamics, TextMediatedStochasticGame
from msgrpo_cli.models.adapters import policy_of
from msgrpo_cli.models.factory import game_factory, language_agent, play_rules
from msgrpo_cli.models.loading import initial_model, quiet_libraries
from msgrpo_cli.models.precision import device_for
from msgrpo_cli.models.shared_generation import single
from msgrpo_cli.models.surroundings import neutralise
from msgrpo_cli.rollout.collect import PlayedUpdate, play_update
from msgrpo_cli.rollout.play import Decision
from msgrpo_cli.rollout.players import ExactPlayer
from msgrpo_cli.rollout.values import Habit, PolicyValues, reachable
from msgrpo_cli.runs.directory import Run

from ..settings import training_arguments, update_rules
from ..trainer import MSGRPOTrainer

EXACT = {"optimal": "Q* - V*", "policy": "Q^pi - V^pi"}
"""What the credits are held against, where it is known; each also has a gradient of its own."""
_MOST_COORDINATES = 2**20  # of a gradient that are compared; of a larger model every n-th

Advantages = tuple[np.ndarray, ...]
"""Of every step of every episode; each of shape (T,)."""


@dataclass(frozen=True)
class Batch:
    """The episodes of one update, and what each credit, and the exact values, give their steps."""

    played: PlayedUpdate
    advantages: Mapping[str, Advantages]


def measure_credit(config: RunConfig, batches: int, samples: int) -> dict[str, Any]:
    """Play `batches` updates with the config's model and compare the credits on them; all follows from `config.seed`.

    `samples` answers in every state of a map estimate the policy, where the game can be put into its states.
    """
    quiet_libraries()
    neutralise(say)
    with tempfile.TemporaryDirectory(prefix="msgrpo-lab-") as folder:
        return _Laboratory(_on_policy(config, batches), Run(Path(folder))).measure(batches, samples)


def _on_policy(config: RunConfig, batches: int) -> RunConfig:
    """One optimizer step on all episodes, and no term in the loss beside the advantages."""
    data = config.model_dump()
    data["max_updates"] = batches
    data["algo"] |= {"optimizer_steps": 1, "episode_sampling": "all", "sampling_correction": "none"}
    data["algo"] |= {"sampling_scope": "update", "most_groups": None}
    data["trainer"] |= {"num_iterations": 1, "beta": 0.0, "entropy_coef": 0.0, "report_to": "none"}
    return RunConfig.model_validate(data)


class _Laboratory:
    """Model, trainer and games of one measurement."""

    def __init__(self, config: RunConfig, run: Run) -> None:
        self.config = config
        arguments = training_arguments(config, run, device_for(config.trainer))
        self.model, tokenizer = initial_model(config, run)
        self.model.to(arguments.device)  # type: ignore[arg-type]
        self.policy = language_agent(config, policy_of(self.model), tokenizer, single(config))
        self.make_game = game_factory(config.env, evaluation=False)
        self.judge = _Witness()
        self.rules = update_rules(config)
        self.played: PlayedUpdate | None = None
        self.trainer = MSGRPOTrainer(self.model, arguments, tokenizer, lambda _: self._in_hand())
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.remove_callback(ProgressCallback)
        self.trainer.create_optimizer_and_scheduler(self.trainer.args.max_steps)
        coordinates = self.model.num_parameters(only_trainable=True)
        self.stride = -(-coordinates // _MOST_COORDINATES)

    def measure(self, batches: int, samples: int) -> dict[str, Any]:
        """What `measure_credit` returns."""
        seconds: dict[str, float] = dict.fromkeys(CREDITS, 0.0)
        played = [self._play(update) for update in range(1, batches + 1)]
        values, why_not = self._policy_values(played, samples)
        whole = [self._batch(one, values, seconds) for one in played]
        gradients = {name: [self._gradient(one, name) for one in whole] for name in whole[0].advantages}
        truth = {name: _flat(whole, name) for name in EXACT if name in gradients}
        missing = {} if "optimal" in truth else {"optimal": "the game does not tell its transitions"}
        return {
            "env": self.config.env.name,
            "model": self.config.model.name,
            "seed": self.config.seed,
            "batches": batches,
            "episodes": sum(len(one.episodes) for one in played),
            "steps": sum(len(episode.steps) for one in played for episode in one.episodes),
            "mean_total_reward": float(np.mean([e.total_reward for one in played for e in one.episodes])),
            "samples_per_state": samples if "policy" in truth else None,
            "coordinates": len(gradients["episode"][0]),
            "unknown": missing | ({"policy": why_not} if why_not else {}),
            "credits": {
                name: {
                    **_signal(whole, name),
                    **{f"correlation_{exact}": _correlation(_flat(whole, name), truth.get(exact)) for exact in EXACT},
                    **_gradient_figures(gradients[name]),
                    **_aim(gradients[name], gradients.get("policy")),
                    "seconds": seconds[name] / batches if name in seconds else None,
                }
                for name in gradients
            },
        }

    def _play(self, update: int) -> PlayedUpdate:
        rules = play_rules(self.config, evaluation=False)
        return play_update(update, self.rules, self.make_game, self.policy, rules, self.judge)

    def _batch(self, played: PlayedUpdate, values: PolicyValues | None, seconds: dict[str, float]) -> Batch:
        advantages: dict[str, Advantages] = {}
        for name, credit in CREDITS.items():
            began = time.perf_counter()
            chosen = name == self.config.algo.credit  # with the keys that the config gives it
            rules = self.config.algo.credit_rules if chosen else credit.rules(self.config.algo.scale)
            advantages[name] = step_advantages(played.episodes, self.rules.group_size, name, rules)
            seconds[name] += time.perf_counter() - began
        regrets = [[step.regret for step in episode.steps] for episode in played.episodes]
        if all(regret is not None for of_episode in regrets for regret in of_episode):
            advantages["optimal"] = tuple(-np.array(of_episode, dtype=np.float64) for of_episode in regrets)
        if values is not None:
            states = self.judge.states
            advantages["policy"] = tuple(
                values.along(
                    [(states[step.state_key], step.action or "", not step.valid) for step in episode.steps],
                    self.config.env.max_steps,
                )
                for episode in played.episodes
            )
        return Batch(played, advantages)

    # The policy itself

    def _policy_values(self, played: Sequence[PlayedUpdate], samples: int) -> tuple[PolicyValues | None, str | None]:
        """Values of the model's own policy, estimated in every state that can be reached; or why there are none."""
        game = self.make_game()
        if not isinstance(game, PlaceableDynamics):
            return None, "the game cannot be put into its states"
        if self.config.prompt.history:
            return None, "with prompt.history the state alone does not decide"
        if self.config.algo.invalid_action not in ("first", "random"):
            return None, f"algo.invalid_action={self.config.algo.invalid_action} plays no action of the game"
        starts = {self.judge.states[e.state_key] for one in played for e in one.episodes}
        states = dict.fromkeys(state for start in starts for state in reachable(game, start))
        habits = self._habits(sorted(states, key=repr), samples)
        return PolicyValues(game, habits, self.config.algo.format_penalty), None

    def _habits(self, states: Sequence[Hashable], samples: int) -> dict[Hashable, Habit]:
        asked = []
        for number, state in enumerate(states):
            game = self.make_game()
            game.reset(seed=0)
            assert isinstance(game, PlaceableDynamics)
            game.place(state)
            text = game.describe(self.config.prompt.observation)
            asked += [Decision(game, text, (self.config.seed, "lab", number, sample)) for sample in range(samples)]
        live, actions = self.config.rollout.max_live_episodes, []
        for first in range(0, len(asked), live):
            actions += [answer.action for answer in self.policy.act(asked[first : first + live])]
        of_states = [actions[first : first + samples] for first in range(0, len(actions), samples)]
        game = self.make_game()
        assert isinstance(game, PlaceableDynamics)
        return {state: self._habit(said, game.legal_in(state)) for state, said in zip(states, of_states, strict=True)}

    def _habit(self, said: Sequence[str | None], names: Sequence[str]) -> Habit:
        """`names` are the legal moves; an answer that names none of them is invalid."""
        invalid = sum(action not in names for action in said) / len(said)
        shares = {name: sum(action == name for action in said) / len(said) for name in names}
        for number, name in enumerate(names):
            first = self.config.algo.invalid_action == "first"
            shares[name] += invalid * (float(number == 0) if first else 1 / len(names))
        return Habit(shares, invalid)

    # Gradients

    def _in_hand(self) -> PlayedUpdate:
        assert self.played is not None
        return self.played

    def _gradient(self, batch: Batch, name: str) -> np.ndarray:
        """Of TRL's loss with these advantages, at the model's own weights; some of its coordinates, float64."""
        played, count = batch.played, len(batch.played.episodes)
        everything = Draw(np.ones(count, dtype=bool), np.ones(count))
        self.played = PlayedUpdate(
            played.update, played.episodes, batch.advantages[name], everything, 0.0, played.seconds
        )
        self.trainer.current_gradient_accumulation_steps = 1
        self.model.zero_grad()
        self.trainer.training_step(self.model, {}, None)
        parts = [parameter.grad.flatten() for parameter in self.model.parameters() if parameter.grad is not None]
        return torch.cat(parts)[:: self.stride].double().cpu().numpy()


class _Witness(ExactPlayer):
    """A judge that also remembers the state behind every key."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[bytes, Hashable] = {}

    def judge(self, game: TextMediatedStochasticGame, action: str | None) -> tuple[str | None, float | None]:
        if isinstance(game.present, KnownDynamics):
            self.states[game.state_key()] = game.present.state()
        return super().judge(game, action)


def _flat(batches: Sequence[Batch], name: str) -> np.ndarray:
    return np.concatenate([values for batch in batches for values in batch.advantages[name]])


def _signal(batches: Sequence[Batch], name: str) -> dict[str, float]:
    """How much of what was played says anything; of one update, on average."""
    sizes, steps = [], _flat(batches, name)
    for batch in batches:
        sizes.append(effective_sample_size(np.array([np.abs(one).mean() for one in batch.advantages[name]])))
    return {"effective_sample_size": float(np.mean(sizes)), "zero_steps": float((steps == 0).mean())}


def _correlation(first: np.ndarray, second: np.ndarray | None) -> float | None:
    """Pearson's, over all steps; None where one of them is constant or unknown."""
    if second is None or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _cosine(first: np.ndarray, second: np.ndarray | None) -> float | None:
    if second is None:
        return None
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms else None


def _aim(gradients: Sequence[np.ndarray], exact: Sequence[np.ndarray] | None) -> dict[str, Any]:
    """Cosine of the mean gradient to the mean exact one, with a bootstrap interval over the updates of both."""
    if exact is None:
        return {"towards_policy_gradient": None, "towards_policy_gradient_ci95": None}
    count, own_bd, exact_bd = len(gradients), np.stack(gradients), np.stack(exact)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=2000)
    weights_rb = np.vstack([np.ones((1, count)), drawn])
    products, squares, others = (
        np.einsum("rb,bc,rc->r", weights_rb, first @ second.T, weights_rb)
        for first, second in ((own_bd, exact_bd), (own_bd, own_bd), (exact_bd, exact_bd))
    )
    norms = np.sqrt(np.maximum(squares, 0.0) * np.maximum(others, 0.0))
    cosines = np.divide(products, norms, out=np.full(len(norms), np.nan), where=norms > 0)
    aim, known = cosines[0], cosines[1:][np.isfinite(cosines[1:])]
    ends = tuple(map(float, np.quantile(known, (0.025, 0.975)))) if count > 2 and len(known) else None
    return {
        "towards_policy_gradient": float(aim) if np.isfinite(aim) else None,
        "towards_policy_gradient_ci95": ends,
    }


def _gradient_figures(gradients: Sequence[np.ndarray]) -> dict[str, Any]:
    """How alike the gradients of repeated updates are.

    `cosine`: of each to the mean of all others, on average, with a bootstrap interval over updates. `signal_to_noise`:
    |E g|^2 / tr Var g, both unbiased, as in the gradient noise scale of McCandlish et al. (arXiv 1812.06162).
    """
    count = len(gradients)
    total = np.sum(gradients, axis=0)
    cosines = [_cosine(one, (total - one) / max(1, count - 1)) for one in gradients]
    known = [cosine for cosine in cosines if cosine is not None]
    noise = sum(float(np.square(one - total / count).sum()) for one in gradients) / max(1, count - 1)
    signal = max(0.0, float(np.square(total / count).sum()) - noise / count)
    return {
        "cosine": float(np.mean(known)) if known and count > 1 else None,
        "cosine_ci95": bootstrap_interval(known) if len(known) > 2 else None,
        "signal_to_noise": signal / noise if noise and count > 1 else None,
    }
