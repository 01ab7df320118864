"""What an update adds up: sums over micro-batches, passes and steps, and what the metrics make of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from msgrpo_cli.algo.batching import Row
from msgrpo_cli.training.loss.gap import Far, GapBound, checked_gap
from msgrpo_cli.training.loss.metrics import UpdateFigures
from support.parts import first_gradient, small_model, trainer_for, uneven

CLIPPED = "clip_ratio/region_mean"
ROWS = [Row((7, 8, 9), (1, 2, 5), (-1.0, -1.0, -1.0), 1.0, 0), Row((7, 8), (5,), (-1.0,), 1.0, 1)]


def batch(sampled: list[list[float]], mask: list[list[int]], **more: Any) -> dict[str, Any]:
    """A micro-batch as the trainer hands it over."""
    there = torch.tensor(mask)
    return {
        "tokens": int(there.sum()),
        "completion_mask": there,
        "sampling_per_token_logps": torch.tensor(sampled),
        **more,
    }


def long() -> dict[str, Any]:
    """Three tokens of one row, and one that is padded; log-probability of the loss: -1, but where it is padded 0."""
    return batch([[-1.5, -1.0, -1.25, -9.0]], [[1, 1, 1, 0]])


def short() -> dict[str, Any]:
    return batch([[-1.125, -9.0]], [[1, 0]])


def seen(given: dict[str, Any]) -> torch.Tensor:
    return -given["completion_mask"].float()


def gap(batches: list[dict[str, Any]]) -> Far:
    """As the trainer finds it, before the first optimizer step."""
    unbound = GapBound(math.inf, math.inf)
    return checked_gap(batches, [seen(one) for one in batches], unbound, 1, lambda batches: "none")


def after(figures: UpdateFigures, optimizer_steps: int = 1, with_kl: bool = True) -> dict[str, Any]:
    return figures.metrics(uneven(), optimizer_steps, with_kl=with_kl)


def trained_once() -> UpdateFigures:
    """An update of a long and a short micro-batch, in one pass."""
    figures = UpdateFigures(seconds_rollout=4.0)
    figures.scored(ROWS, [(8, 2), (6, 1)], seconds=2.0)
    figures.trained(long(), {"entropy": [0.5], "kl": [0.25], CLIPPED: [1.0]}, seen(long()))
    figures.trained(short(), {"entropy": [2.5], "kl": [0.75], CLIPPED: [0.0]}, seen(short()))
    figures.logprob_gap.join(gap([long(), short()]))
    figures.stepped(0.75, 1e-3, seconds=1.0)
    return figures


def test_means_of_micro_batches_weigh_by_their_tokens() -> None:
    found = after(trained_once())
    assert found["entropy"] == (3 * 0.5 + 2.5) / 4
    assert found["kl"] == (3 * 0.25 + 0.75) / 4
    assert found["clip_ratio"] == 3 / 4


def test_rows_tokens_and_what_is_read_are_those_of_all_micro_batches() -> None:
    found = after(trained_once())
    assert (found["rows"], found["tokens_prompt"], found["tokens_completion"]) == (2, 3 + 2, 3 + 1)
    assert (found["tokens_read"], found["tokens_padding"]) == (8 + 6, 2 + 1)


def test_the_gap_is_a_mean_over_tokens_and_padding_is_none() -> None:
    figures = trained_once()
    found = after(figures)
    assert found["logprob_gap_mean"] == (0.5 + 0.0 + 0.25 + 0.125) / 4
    assert found["logprob_gap_max"] == 0.5, "of the first micro-batch, not of the last"
    assert found["log_ratio_max"] == figures.log_ratio_of_step == 0.5


def test_later_passes_do_not_enter_the_gap_but_the_farthest_token() -> None:
    figures = trained_once()
    figures.trained(long(), {}, seen(long()) - 1)
    found = after(figures)
    assert found["logprob_gap_mean"] == (0.5 + 0.0 + 0.25 + 0.125) / 4
    assert found["logprob_gap_max"] == 0.5
    assert found["log_ratio_max"] == figures.log_ratio_of_step == 1.0  # of -2 to -1: farther below than above


def test_the_gap_is_that_of_the_old_policy_where_a_first_pass_takes_several_steps() -> None:
    figures = UpdateFigures()
    figures.scored(ROWS, [(8, 2)], seconds=2.0)
    figures.logprob_gap.join(gap([long()]))
    figures.trained(long() | {"old_per_token_logps": seen(long())}, {}, seen(long()) - 1)
    assert after(figures)["logprob_gap_max"] == 0.5
    assert after(figures)["log_ratio_max"] == 1.0


def test_loss_and_gradient_norm_are_means_over_optimizer_steps_and_seconds_add_up() -> None:
    figures = trained_once()
    figures.stepped(0.25, 5e-4, seconds=3.0)
    figures.grad_norm = 3.0
    found = after(figures, optimizer_steps=2)
    assert (found["loss"], found["grad_norm"], found["learning_rate"]) == (0.5, 1.5, 7.5e-4)
    assert [found[f"perf/seconds_{phase}"] for phase in ("rollout", "scoring", "update", "total")] == [4, 2, 4, 10]


def test_decisions_are_the_steps_of_the_played_episodes() -> None:
    played = uneven()
    twice = tuple(replace(episode, steps=episode.steps * 2) for episode in played.episodes)
    longer = replace(played, episodes=twice, seconds=4.0)
    found = trained_once().metrics(longer, 1, with_kl=False)
    assert found["perf/decisions_per_second"] == 2 * 12 / 4.0


def test_without_rows_nothing_is_told_but_zeros() -> None:
    figures = UpdateFigures()
    figures.scored([], [], seconds=0.0)
    figures.stepped(0.0, 1e-3, seconds=0.0)
    found = after(figures)
    assert found["skipped"] is True
    told = ("loss", "entropy", "clip_ratio", "kl", "grad_norm", "log_ratio_max", "logprob_gap_mean", "logprob_gap_max")
    assert {name: found[name] for name in told} == dict.fromkeys(told)


def test_a_micro_batch_without_tokens_adds_nothing() -> None:
    """As one whose every token is masked."""
    figures = trained_once()
    before = after(figures)
    empty = batch([[-1.5, -9.0]], [[0, 0]])
    figures.trained(empty, {"entropy": [0.0]}, seen(empty))
    figures.logprob_gap.join(gap([empty]))
    assert after(figures) == before


def test_without_a_reference_there_is_no_distance_to_it() -> None:
    assert after(trained_once(), with_kl=False)["kl"] is None


def test_no_metric_depends_on_micro_batches(tmp_path: Path) -> None:
    """Real log-probabilities against made-up ones, which are far from them."""
    played, found = uneven(), []
    for size in (1000, 2):
        model, tokenizer = small_model()
        trainer = trainer_for(
            tmp_path, model, tokenizer, lambda update: played, small_model(seed=5)[0],
            per_device_train_batch_size=size, beta=0.04, share_prompts=False,
        )  # fmt: skip
        first_gradient(trainer)
        names = ("loss", "entropy", "clip_ratio", "kl", "logprob_gap_mean", "logprob_gap_max", "log_ratio_max")
        metrics = trainer.figures.metrics(played, 1, with_kl=True)
        found.append({name: metrics[name] for name in names})
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-6)
    assert found[0]["entropy"] > 0.1 and found[0]["kl"] > 1e-3 and found[0]["logprob_gap_mean"] > 0.1
