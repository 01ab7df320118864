"""The benchmarks: what they count is what was played and trained on; times are told, never tested."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import DynamicCache, TrainerCallback

from msgrpo_cli.algo.batching import step_rows
from msgrpo_cli.cli.app import main
from msgrpo_cli.common.memory import peak_memory
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.models.caches import cache_name
from msgrpo_cli.models.factory import language_agent
from msgrpo_cli.models.generation import Request, Sampling, generate
from msgrpo_cli.models.loading import load_model
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.training.bench.learn import bench_learn, reached
from msgrpo_cli.training.bench.limit import LIMITS, Once, Pair, rollout_limit, trie_tokens, update_limit
from msgrpo_cli.training.bench.meter import median, seconds_of, watching
from msgrpo_cli.training.bench.rollout import Recording, bench_rollout, play
from msgrpo_cli.training.bench.update import _Bench, bench_update
from support.parts import small_model
from support.small_run import SMALL

FEW = ["algo.groups_per_update=2", "algo.group_size=4"]
PROMISED = {
    "decisions_per_second", "tokens_per_second", "seconds", "limit_seconds", "time_over_limit", "padding_share",
    "tokens_read", "trie_tokens", "trie_limit_seconds", "time_over_trie_limit",
    "duplicate_prompt_share", "peak_memory_bytes", "machine",
}  # fmt: skip
BATCHES: list[list[Pair]] = [[((7, 8, 9), (10, 5)), ((7, 8, 9), (5,)), ((7, 8), (11, 12, 5))], [((7, 8), (5,))]]


def msgrpo(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("msgrpo_cli.cli.app.heed_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["msgrpo", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_limit_reads_exactly_the_tokens() -> None:
    model, _ = small_model()
    with watching(model) as watch:
        rollout_limit(model, BATCHES, "nothing")
    assert watch.tokens_read == (3 + 3 + 2 + 2) + (1 + 0 + 2 + 0)  # prompts; an answer's last token is never read
    with watching(model) as watch:
        rollout_limit(model, BATCHES, "prompts")
    assert watch.tokens_read == (3 + 2 + 2) + (1 + 2)
    with watching(model) as watch:
        update_limit(model, BATCHES, "nothing")
    assert watch.tokens_read == (3 + 3 + 2 + 2) + (1 + 0 + 2 + 0)
    with watching(model) as watch:
        update_limit(model, BATCHES, "prompts")
    # the rows of one shape share a prompt but for its last token, which goes with each answer
    assert watch.tokens_read == (2 + 2) + (2 + 1) + (1 + 3) + (1 + 1)
    with watching(model) as watch:
        rollout_limit(model, BATCHES, "beginnings")
    assert watch.tokens_read == (3 + 2) + (1 + 1 + 1)  # 7 8 9 holds 7 8; 10, 11, then 12
    with watching(model) as watch:
        update_limit(model, BATCHES, "beginnings")
    assert watch.tokens_read == (3 + 2) + (1 + 1 + 1) == sum(map(trie_tokens, BATCHES))
    assert watch.padding == 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_limit_s_gradient_is_that_of_the_log_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for once in ("nothing", "prompts"):
        model, _ = small_model()
        monkeypatch.setattr(model, "zero_grad", lambda **_: None)
        update_limit(model, BATCHES, once)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 1e-5
    assert float(gradients[0].norm()) > 0


def test_the_limit_keeps_no_graph_where_others_play_and_no_logits_but_the_last() -> None:
    model, _ = small_model()
    kept: list[torch.Tensor] = []
    hook = model.register_forward_hook(lambda _, __, output: kept.append(output.logits))
    for once in LIMITS:
        rollout_limit(model, BATCHES, once)
    hook.remove()
    assert {(logits.shape[1], logits.requires_grad) for logits in kept} == {(1, False)}


def test_the_limit_trains_as_the_trainer_does() -> None:
    """In training mode: only there are activations checkpointed."""
    model, _ = small_model()
    modes: list[bool] = []
    hook = model.model.register_forward_hook(lambda module, *_: modes.append(module.training))
    update_limit(model.eval(), BATCHES, "nothing")
    hook.remove()
    assert set(modes) == {True}


@pytest.mark.parametrize("once", LIMITS)
def test_the_limit_of_training_has_logits_of_the_answers_only(once: Once) -> None:
    model, _ = small_model()
    read: list[int] = []
    hook = model.lm_head.register_forward_hook(lambda _, __, logits: read.append(logits.shape[:-1].numel()))
    update_limit(model, BATCHES, once)
    hook.remove()
    assert sum(read) == 2 + 1 + 3 + 1


def test_padding_is_what_the_mask_leaves_out_of_the_tokens_that_are_read_now() -> None:
    model, _ = small_model()
    with watching(model) as watch:
        mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
        handed = {cache_name(model): DynamicCache(config=model.config)}
        model(input_ids=torch.tensor([[0, 7, 8], [7, 8, 9]]), attention_mask=mask, **handed)
        mask = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], dim=1)
        model(input_ids=torch.tensor([[9], [9]]), attention_mask=mask, **handed)
    assert (watch.tokens_read, watch.padding, watch.padding_share) == (6 + 2, 1, 1 / 8)


def test_a_watch_adds_up_the_seconds_of_every_pass_and_ends_with_its_block() -> None:
    model, _ = small_model()
    slow = model.model.layers[0].register_forward_pre_hook(lambda *_: time.sleep(0.02))
    with pytest.raises(KeyError), watching(model) as watch:
        for _ in range(2):
            model(input_ids=torch.tensor([[7, 8]]))
        raise KeyError
    slow.remove()
    seconds, tokens_read = watch.seconds, watch.tokens_read
    model(input_ids=torch.tensor([[7, 8]]))
    assert (watch.seconds, watch.tokens_read) == (seconds, tokens_read)
    assert seconds >= 2 * 0.02
    assert tokens_read == 4


def test_seconds_are_those_of_the_work_and_one_outlier_moves_no_median() -> None:
    assert seconds_of(lambda: time.sleep(0.02), torch.device("cpu")) >= 0.02
    assert median([1.0, 2.0, 100.0]) == 2.0


def test_recording_keeps_what_was_answered() -> None:
    model, _ = small_model()
    recording = Recording(generate)
    found = recording(model, Request([[7, 8]], [(0, 1)], Sampling(max_new_tokens=3), 0, [5]))
    assert recording.batches == [[((7, 8), found[0].token_ids)]]


def test_rollout_counts_what_was_played() -> None:
    found = bench_rollout(compose("train", FEW), 1)
    separate = bench_rollout(compose("train", [*FEW, "rollout.share_prompts=false"]), 1)
    assert set(found) >= PROMISED
    for name in ("decisions", "prompt_tokens", "answer_tokens", "duplicate_prompt_share"):
        assert found[name] == separate[name]
    assert 0 < found["duplicate_prompt_share"] < 1
    assert found["tokens_read"] < separate["tokens_read"]
    assert separate["tokens_read"] >= separate["prompt_tokens"]
    assert 0 < found["model_share"] < 1


def test_update_counts_what_was_trained_on() -> None:
    found = bench_update(compose("train", FEW), 1)
    separate = bench_update(compose("train", [*FEW, "algo.share_prompts=false"]), 1)
    assert set(found) >= PROMISED
    for name in ("rows", "tokens_with_loss", "tokens_without_loss", "duplicate_prompt_share"):
        assert found[name] == separate[name]
    assert found["tokens_read"] < separate["tokens_read"]
    assert separate["tokens_read"] == separate["tokens_with_loss"] + separate["tokens_without_loss"]
    assert 0 <= found["padding_share"] < 0.2


def test_what_is_measured_is_the_first_update_of_training(finished_run: Path) -> None:
    config = compose("train", SMALL)
    lines = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["kind"] == "train")
    assert bench_rollout(config, 1)["decisions"] == first["steps_played"]
    found = bench_update(config, 1)
    names = {"rows": "rows", "tokens_without_loss": "tokens_prompt", "tokens_with_loss": "tokens_completion"}
    for ours, theirs in {**names, "tokens_read": "tokens_read"}.items():
        assert found[ours] == first[theirs]
    assert found["padding_share"] == first["tokens_padding"] / first["tokens_read"]


def test_figures_of_playing_follow_from_what_was_played() -> None:
    config = compose("train", [*FEW, "rollout.max_live_episodes=4"])
    found = bench_rollout(config, 1)
    model, tokenizer = load_model(config.model, config.seed, merge=True)
    recording = Recording(generate)
    play(config, language_agent(config, model, tokenizer, recording))
    pairs = [pair for batch in recording.batches for pair in batch]
    assert found["decisions"] == len(pairs)
    assert found["prompt_tokens"] == sum(len(prompt) for prompt, _ in pairs)
    assert found["answer_tokens"] == sum(len(answer) for _, answer in pairs)
    again = sum(
        prompt in [p for p, _ in batch[:i]] for batch in recording.batches for i, (prompt, _) in enumerate(batch)
    )
    assert found["duplicate_prompt_share"] == pytest.approx(again / len(pairs))
    assert found["decisions_per_second"] * found["seconds"] == pytest.approx(len(pairs))
    assert found["tokens_per_second"] * found["seconds"] == pytest.approx(found["answer_tokens"])
    assert found["time_over_limit"] * found["limit_seconds"] == pytest.approx(found["seconds"])
    assert found["time_over_shared_limit"] * found["shared_limit_seconds"] == pytest.approx(found["seconds"])


def test_figures_of_training_follow_from_the_rows() -> None:
    found = bench_update(compose("train", FEW), 1)
    seconds = found["seconds"]
    assert seconds == found["seconds_scoring"] + found["seconds_update"]
    assert found["decisions_per_second"] * seconds == pytest.approx(found["rows"])
    tokens = found["tokens_with_loss"] + found["tokens_without_loss"]
    assert found["tokens_per_second"] * seconds == pytest.approx(tokens)
    assert found["time_over_limit"] * found["limit_seconds"] == pytest.approx(seconds)
    assert found["time_over_shared_limit"] * found["shared_limit_seconds"] == pytest.approx(seconds)


class Hungry(TrainerCallback):
    """After every update more memory is used than ever before."""

    def on_step_end(self, *_: Any, **__: Any) -> None:
        bytearray(b"\x01") * (peak_memory(torch.device("cpu")) - psutil.Process().memory_info().rss + 2**26)


def test_training_is_told_without_the_rounds_that_warm_up_and_with_the_memory_of_the_first(tmp_path: Path) -> None:
    bench = _Bench(compose("train", [*FEW, "max_updates=3"]), Run(tmp_path))
    bench.trainer.add_callback(Hungry())
    found = bench.measure(3)
    assert [len(found) for found in bench.limits.values()] == [2, 2, 2]
    assert found["limit_seconds"] == bench.limits["nothing"][1]
    assert found["shared_limit_seconds"] == bench.limits["prompts"][1]
    assert found["trie_limit_seconds"] == bench.limits["beginnings"][1]
    assert found["seconds_update"] == bench.rows[2]["perf/seconds_update"]
    assert found["peak_memory_bytes"] == bench.rows[0]["perf/memory_bytes"] < bench.rows[1]["perf/memory_bytes"]


def test_padding_of_training_is_what_is_read_beside_the_rows() -> None:
    """Hot answers are of unlike lengths."""
    hot = ["algo.groups_per_update=4", "algo.group_size=4", "rollout.temperature=3", "algo.share_prompts=false"]
    found = bench_update(compose("train", hot), 1)
    padding = found["tokens_read"] - found["tokens_with_loss"] - found["tokens_without_loss"]
    assert found["padding_share"] == pytest.approx(padding / found["tokens_read"])
    assert padding > 0


def test_duplicate_prompts_of_training_are_those_of_the_drawn_episodes(tmp_path: Path) -> None:
    bench = _Bench(compose("train", [*FEW, "max_updates=3"]), Run(tmp_path))
    prompts = [row.prompt_ids for row in step_rows(bench.played.trained)]
    again = sum(prompt in prompts[:number] for number, prompt in enumerate(prompts))
    assert 0 < again < len(prompts) < sum(len(episode.steps) for episode in bench.played.episodes)
    assert bench.measure(3)["duplicate_prompt_share"] == pytest.approx(again / len(prompts))


def test_rounds_are_updates_however_many_passes_each_takes() -> None:
    found = bench_update(compose("train", [*FEW, "trainer.num_iterations=2"]), 2)
    assert found["repeats"] == 2


def row(update: int, success: float | None, split: str = "validation") -> dict[str, Any]:
    if success is None:
        return {"kind": "train", "update": update, "perf/seconds_total": 2.0, "steps_played": 10}
    return {"kind": "eval", "update": update, "split": split, "success_rate": success}


def test_learning_counts_until_the_first_evaluation_that_reached_the_target() -> None:
    rows = [row(0, 0.9), row(1, None), row(1, 0.5), row(2, None), row(2, 0.8), row(3, None), row(3, 0.9)]
    assert reached(rows) == {"reached": True, "update": 2, "seconds_to_target": 4.0, "decisions_to_target": 20}
    never = {"reached": False, "update": None, "seconds_to_target": None, "decisions_to_target": None}
    assert reached([*rows[:3], row(1, 0.95, "test")]) == never
    undivided = [row(0, 0.5, "any"), row(1, None), row(1, 0.9, "any")]
    assert reached(undivided)["update"] == 1


def test_learning_needs_a_game_that_can_be_won() -> None:
    with pytest.raises(UsageError, match="env=snake_8: declares no success, so there is no 80% to reach"):
        bench_learn(compose("train", [*SMALL, "env=snake_8"]), [])


def test_an_update_that_drew_nothing_cannot_be_measured() -> None:
    few = ["model=tiny_random", "algo.groups_per_update=1", "algo.group_size=2", "env.max_steps=1"]
    with pytest.raises(UsageError, match="no episode was drawn"):
        bench_update(compose("train", few), 1)


DOOR = '''
import gymnasium
from msgrpo_cli.games import TextMediatedStochasticGame


class Door(TextMediatedStochasticGame):
    """Whatever one does, it opens."""

    actions = ("open", "wait")
    success = True

    def new_game(self, rng):
        self.number = int(rng.integers(10**6))

    def play(self, action):
        return 1.0, "through"

    def describe(self, observation="full"):
        return f"door {self.number}"

    def rules(self):
        return "Open the door."

    def state_key(self):
        return self.number.to_bytes(4, "big")


gymnasium.register("me/Door-v0", entry_point=Door)
'''


def test_learning_ends_at_the_target_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "door_game.py").write_text(DOOR)
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "door.yaml").write_text("name: door\nid: door_game:me/Door-v0\nmax_steps: 2\n")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    found = bench_learn(compose("train", ["experiment=smoke", "env=door", "eval.episodes=4"], [tmp_path]), [])
    sys.modules.pop("door_game")
    assert "stopped after update 1: " in capsys.readouterr().err
    assert (found["reached"], found["update"], found["decisions_to_target"], found["base"]) == (True, 1, 8, 1.0)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_base_of_learning_is_the_success_before_it(finished_run: Path) -> None:
    lines = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    scores = [line["success_rate"] for line in lines if line["kind"] == "eval"]
    assert bench_learn(compose("train", SMALL), [])["base"] == scores[0] != scores[-1]


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert msgrpo(monkeypatch, "bench", "rollout", *FEW, "--repeats", "1", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) >= PROMISED
    assert msgrpo(monkeypatch, "bench", "update", *FEW, "--repeats", "1") == 0
    assert "time_over_limit" in capsys.readouterr().out
    assert msgrpo(monkeypatch, "bench", "learn", "experiment=smoke", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said) >= {"seconds_to_target", "decisions_to_target", "target", "base", "reached"}
    assert (said["target"], said["reached"]) == (0.8, False)
    assert msgrpo(monkeypatch, "bench", "rollout", "env.p=3") == 2
    assert capsys.readouterr().err.startswith("error: env.p=3")
    assert list(tmp_path.iterdir()) == []
