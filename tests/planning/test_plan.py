"""`msgrpo plan`: one page or one JSON value, for what ships, for local folders, for hardware that is not here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.cli.app import main
from msgrpo_cli.cli.commands.plan import as_data
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import RunError
from msgrpo_cli.planning.advice import advice
from msgrpo_cli.planning.hardware import GPUS, named
from msgrpo_cli.planning.plan import LIBRARIES, Plan, _plan, _processes, hours, plan, replanned
from msgrpo_cli.training.bench.probe import probe, probed
from support.places import ROOT

PROMISED = {
    "hardware", "parameters", "trainable_parameters", "memory", "memory_total", "memory_available", "fits", "updates",
    "decisions_per_update", "rows_per_update", "tokens_per_update", "seconds_per_update", "hours", "assumptions",
    "advice", "probe",
}  # fmt: skip
SMALL = ["algo.groups_per_update=2", "algo.group_size=4"]


def msgrpo(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("msgrpo_cli.cli.app.heed_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["msgrpo", "plan", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def planned(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert msgrpo(monkeypatch, *arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def figures(hardware: str, *overrides: str) -> dict[str, Any]:
    """What the command says, but its advice, which is planned many times over."""
    return figures_of(plan(compose("train", overrides), GPUS[hardware], here=False))


def figures_of(found: Plan) -> dict[str, Any]:
    return as_data(found, [], None)


def test_tiny_fits_anywhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(monkeypatch, capsys, "trainer.use_cpu=true")
    assert set(found) >= PROMISED
    assert found["parameters"] == found["trainable_parameters"] == 448_608
    assert found["memory"]["weights"] == 448_608 * 4
    assert found["memory_total"] == max(found["memory_phases"].values()) < found["memory_available"]
    assert found["fits"]
    assert found["probe"] is None
    assert found["prompts_measured"]
    assert (found["updates"], found["decisions_per_update_at_most"]) == (180, 2048)
    assert all(change["memory_total"] < found["memory_total"] for change in found["advice"])


def test_a_large_model_on_hardware_that_is_not_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = planned(monkeypatch, capsys, "model=qwen3b", "--hardware", "rtx4090")
    assert found["parameters"] == 3_085_938_688
    assert not found["fits"]
    assert found["memory"]["half_precision_copies"] == 2 * found["parameters"]  # bf16 there, weights in float32
    assert any("rollout.max_prompt_tokens=1500" in line for line in found["assumptions"])
    assert any("not checked on a GPU" in line for line in found["assumptions"])
    fitting = [change for change in found["advice"] if change["fits"]]
    again = figures("rtx4090", "model=qwen3b", *fitting[0]["change"].split())  # what is told is what comes of it
    assert again["memory_total"] == fitting[0]["memory_total"]


def test_every_change_comes_to_what_is_told_where_it_is_typed() -> None:
    found = plan(compose("train", ["model=qwen3b"]), GPUS["rtx4090"], here=False)
    changes = advice(found)
    assert len(changes) > 4
    for change in changes[:-1]:
        config = compose("train", ["model=qwen3b", *change.text.split()])
        counted = _processes(config, found.hardware)
        again = _plan(config, found.hardware, counted, found.shape, found.sample, found.free)
        assert again.memory.total == change.total


def test_a_page_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for width in (60, 80):
        monkeypatch.setenv("COLUMNS", str(width))
        assert msgrpo(monkeypatch, "model=qwen7b", "--hardware", "l4") == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width
        assert any("DOES NOT FIT" in line for line in lines)
        assert any("lora.enabled=true" in line for line in lines)


def test_a_local_folder_needs_no_weights(tmp_path: Path) -> None:
    settings = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 300, "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(settings))
    config = compose("train", ["model=any", f"model.path={tmp_path}", "model.init=random", *SMALL])
    found = plan(config, named("cpu"), here=True)
    assert found.shape.parameters == 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64) + 300 * 64 + 64
    assert found.play.measured  # by bytes, as such a model would read them


def test_mistakes_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for arguments, said in (
        (("--hardware", "tpu"), "--hardware=tpu"),
        (("--hardware", "h100", "--probe"), "only one of them"),
        (("model=any", "model.path=nobody/nothing"), "a local folder"),
        (("last",), "not an override"),
        (("env=frozenlak",), "frozenlake"),
    ):
        assert msgrpo(monkeypatch, *arguments) == 2
        answer = capsys.readouterr()
        assert said in answer.err
        assert not answer.out


def test_a_probe_that_would_swap_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert msgrpo(monkeypatch, "model=qwen32b", "model.init=random", "trainer.use_cpu=true", "--probe") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --probe: two updates would take")
    assert "plan without --probe" in said


def test_advice_is_gentle_first_and_changes_nothing_else() -> None:
    found = plan(compose("train", ["model=qwen7b", "trainer.beta=0.04"]), GPUS["a100-40gb"], here=False)
    changes = [dict(change.keys) for change in advice(found)]
    assert {"trainer.beta": 0.0} in changes
    assert changes.index({"trainer.beta": 0.0}) < changes.index({"lora.enabled": True})
    less = replanned(found, {"trainer.beta": 0.0})
    assert less.memory.parts["reference"] == 0
    assert found.memory.total - less.memory.total == found.memory.parts["reference"]
    assert less.config == compose("train", ["model=qwen7b", "trainer.beta=0.0"])


def test_a_longer_prompt_never_needs_less() -> None:
    least, slowest = 0, 0.0
    for words in (1, 50, 400):
        prompt = f"prompt.user='{'go ' * words}{{{{ observation }}}}'"
        found = plan(compose("train", ["rollout.max_prompt_tokens=4000", prompt, *SMALL]), named("cpu"), here=True)
        assert least < (least := found.memory.total)
        assert slowest < (slowest := found.time.update)


def test_hours_play_few_episodes_once_for_all_seeds_and_need_no_torch() -> None:
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from support.counted import counting_calls\n"
        "from msgrpo_cli.config.compose import compose\n"
        "from msgrpo_cli.planning.plan import hours\n"
        "config = compose('train', ['trainer.use_cpu=true'])\n"
        "with counting_calls() as calls:\n"
        "    first = hours(config)\n"
        "assert calls['play_sample'] == 1 and 0 < calls['FrozenLake.play'] <= 16 * config.env.max_steps, calls\n"
        "configs = [compose('train', ['trainer.use_cpu=true', f'seed={seed}']) for seed in range(4)]\n"
        "with counting_calls() as calls:\n"
        "    assert [hours(config) for config in configs] == [first] * 4\n"
        "assert calls['play_sample'] == calls['FrozenLake.play'] == 0, 'nothing is played again'\n"
        "assert 'torch' not in sys.modules\n"
        "print(first)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert 0 < float(ended.stdout) < 1


def test_hours_grow_with_the_run_and_are_none_where_nothing_is_known() -> None:
    few, many = (hours(compose("train", ["trainer.use_cpu=true", f"max_updates={n}"])) for n in (30, 300))
    assert few is not None
    assert many is not None
    assert 5 < many / few < 11
    assert hours(compose("train", ["model=any", "model.path=nobody/nothing", "trainer.use_cpu=true"])) is None


@pytest.mark.slow
def test_a_probe_measures_two_real_updates() -> None:
    pytest.importorskip("torch")
    began = time.perf_counter()
    found = probe(compose("train", ["trainer.use_cpu=true", *SMALL]))
    whole = time.perf_counter() - began
    assert found["updates"] == 2
    assert not found["skipped"]  # noise alone gives no signal: its groups are often alike
    assert found["rows_per_update"] > 0
    assert 0 < found["seconds_rollout"] < found["seconds_per_update"] < whole
    assert 0 < found["memory_total"] < 1e9 < found["libraries"] * 10


def test_a_probe_s_failure_is_one_line() -> None:
    config = compose("train", ["trainer.use_cpu=true", "trainer.optim=adafactor", *SMALL])
    broken = config.model_copy(update={"trainer": {**config.trainer, "optim": "no_such_optimizer"}})
    with pytest.raises(RunError, match=r"^--probe: the two updates failed: .*no_such_optimizer"):
        probe(broken)


def test_a_probed_run_trains_whatever_is_played() -> None:
    config = probed(compose("train", ["eval.every=5", "stop.score=0.1", "max_hours=1", "trainer.beta=0.1"]))
    assert (config.max_updates, config.max_hours, config.eval.every, config.eval.episodes) == (2, None, 0, 1)
    assert (config.model.init, config.algo.invalid_action, config.stop.score) == ("random", "random", None)
    assert config.trainer["beta"] == 0.1


MEASURE = ROOT / "experiments/plan/measure.py"


@pytest.mark.slow
@pytest.mark.skipif(not MEASURE.is_file(), reason="experiments are not part of this copy")
@pytest.mark.parametrize(("prompt", "lora"), [(128, True), (128, False)])
def test_memory_is_within_a_fifth_of_what_150m_parameters_take(prompt: int, lora: bool, tmp_path: Path) -> None:
    specification = importlib.util.spec_from_file_location("measure", MEASURE)
    assert specification is not None
    assert specification.loader is not None
    measure = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(measure)
    (tmp_path / "config.json").write_text(json.dumps({**measure.ARCHITECTURE, "num_hidden_layers": 12}))
    found = measure.planned_and_measured(tmp_path, prompt, lora=lora, shared=True)
    assert 1.5e8 < found["parameters"] < 1.7e8
    assert found["planned"] == pytest.approx(found["measured"], rel=0.2)


def test_several_processes_on_one_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(4)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    alone = plan(compose("train", ["trainer.use_cpu=true"]), named("cpu"), here=True)
    two, three = (replanned(alone, {"parallel.name": "ddp", "parallel.processes": count}) for count in (2, 3))
    assert (alone.hardware.name, two.hardware.name, three.hardware.name) == (
        "cpu, 4 threads", "cpu, 2 threads", "cpu, 1 thread",
    )  # fmt: skip
    assert two.memory.parts["buckets"] == two.memory.parts["weights"]  # float32, all of them trained
    assert two.available == alone.available // 2 - LIBRARIES  # and who starts them has some
    assert two.sent.gradients == two.memory.parts["weights"]  # of two, each sends half, twice
    assert 0 < two.sent.episodes < three.sent.episodes
    assert alone.sent.total == alone.memory.parts["buckets"] == 0
    assert two.play.micro_batches == alone.play.micro_batches == 1
    assert two.memory.parts["activations"] == pytest.approx(alone.memory.parts["activations"] / 2, rel=0.2)
    assert any("2 processes: each has 2 threads" in line for line in two.assumptions)
    assert any("rank 0 plays 6, every other rank 5" in line for line in three.assumptions)


def test_several_gpus_are_planned_one_by_one() -> None:
    asked = ["model=qwen3b", "trainer.per_device_train_batch_size=4"]
    one = plan(compose("train", asked), GPUS["h100"], here=False)
    alone, eight = map(figures_of, (one, replanned(one, {"parallel.name": "ddp", "parallel.processes": 8})))
    assert (alone["processes"], eight["processes"]) == (1, 8)
    assert eight["memory_available"] == alone["memory_available"]  # each has a GPU
    assert eight["memory"]["buckets"] == eight["parameters"] * 4
    assert eight["memory"]["weights"] == alone["memory"]["weights"]  # each has the whole model
    assert eight["seconds_training"] == pytest.approx(alone["seconds_training"] / 8, rel=0.1)
    assert alone["seconds_rollout"] / 8 < eight["seconds_rollout"] < alone["seconds_rollout"]
    assert eight["bytes_sent_per_update"]["gradients"] == round(2 * 7 / 8 * eight["memory"]["buckets"])
    unknown = figures("h100", *asked, "parallel=ddp")
    assert unknown["memory_total"] == alone["memory_total"]
    assert any("give the number" in line for line in unknown["assumptions"])


def test_weights_that_are_shared_out() -> None:
    asked = ["model=qwen3b", "trainer.per_device_train_batch_size=4", "trainer.beta=0.04"]
    whole = plan(compose("train", asked), GPUS["h100"], here=False)
    parts = ({"parallel.name": "fsdp", "parallel.processes": count} for count in (1, 8))
    alone, one, eight = map(figures_of, (whole, *(replanned(whole, keys) for keys in parts)))
    same = ("memory", "memory_phases", "memory_total", "seconds_per_update", "bytes_sent_per_update", "assumptions")
    assert {name: one[name] for name in same} == {name: alone[name] for name in same}
    memory, parameters = eight["memory"], eight["parameters"]
    for name in ("weights", "optimizer"):
        assert memory[name] == alone["memory"][name] / 8
    assert memory["gathered"] == 2 * parameters  # in bf16, which training autocasts to there
    assert memory["reference"] == memory["best_checkpoint"] == 4 * parameters
    assert memory["buckets"] == memory["saved_weights"] == 0
    assert any("in the host's memory" in line for line in eight["assumptions"])
    sent = eight["bytes_sent_per_update"]
    assert sent["gradients"] % round(7 / 8 * 4 * parameters) == 0  # in full precision, for every micro-batch
    assert sent["weights"] > sent["gradients"] / 2


def test_processes_that_a_run_would_refuse_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = planned(monkeypatch, capsys, *SMALL, "parallel=ddp", "trainer.use_cpu=true")
    assert any("msgrpo train refuses parallel.processes=null" in line for line in found["assumptions"])


def test_fewer_processes_are_advised_where_they_do_not_fit() -> None:
    asked = ["parallel=ddp", "parallel.processes=4", "trainer.use_cpu=true", *SMALL]
    found = replace(plan(compose("train", asked), named("cpu"), here=True), free=4 * 10**9)
    assert not found.fits
    assert {"parallel.processes": 2} in [dict(change.keys) for change in advice(found)]


def test_weights_in_parts_are_advised_where_whole_ones_do_not_fit() -> None:
    asked = ["model=qwen7b", "parallel=ddp", "parallel.processes=8"]
    found = plan(compose("train", asked), named("h100"), here=False)
    assert not found.fits
    assert {"parallel.name": "fsdp"} in [dict(change.keys) for change in advice(found)]


def test_gpus_of_a_machine_and_machines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = ("model=qwen3b", "parallel=fsdp", "trainer.per_device_train_batch_size=4")
    sixteen = planned(monkeypatch, capsys, *model, "parallel.processes=16", "--hardware", "h100")
    two = planned(monkeypatch, capsys, *model, "parallel.nodes=2", "--hardware", "8xh100")
    differ = {"assumptions", "advice", "refused"}
    assert {key: two[key] for key in two.keys() - differ} == {key: sixteen[key] for key in two.keys() - differ}
    assert two["processes"] == 16 and two["refused"] is None
    assert any(line.startswith("16 processes on 2 nodes like this one: each has a GPU") for line in two["assumptions"])


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["parallel=ddp", "parallel.processes=16"], "parallel.processes=16: a machine has 8 GPUs"),
        (["parallel=fsdp", "engine=continuous_batching"], "engine=continuous_batching: parallel=fsdp samples"),
        (["parallel=ddp", "engine=vllm_colocate"], None),
        (["parallel=ddp", "parallel.processes=8", "parallel.nodes=4"], None),
        ([], None),
    ],
)
def test_what_a_run_would_refuse_is_planned_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], texts: list[str], told: str | None
) -> None:
    found = planned(monkeypatch, capsys, "model=qwen0.5b", *texts, "--hardware", "8xh100")
    assert found["refused"] is None if told is None else told in found["refused"]
    assert msgrpo(monkeypatch, "model=qwen0.5b", *texts, "--hardware", "8xh100") == 0
    assert ("msgrpo train refuses it: " in capsys.readouterr().out) == (told is not None)


def test_nodes_on_cpus_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["parallel=ddp", "parallel.processes=2", "trainer.use_cpu=true", *SMALL]
    one, four = (
        plan(compose("train", [*asked, f"parallel.nodes={nodes}"]), named("cpu"), here=True) for nodes in (1, 4)
    )
    assert (one.processes, four.processes) == (2, 8)
    assert one.hardware == four.hardware
    assert replace(one, free=8 * 10**9).available == replace(four, free=8 * 10**9).available


@pytest.mark.parametrize(
    ("hardware", "expected"),
    [
        ("h100", {"parallel.name": "fsdp", "parallel.processes": 4}),
        ("8xh100", {"parallel.name": "fsdp", "parallel.processes": 4}),
        ("1xh100", None),
    ],
)
def test_more_gpus_are_advised_where_one_is_too_small(hardware: str, expected: dict[str, Any] | None) -> None:
    found = plan(compose("train", ["model=qwen7b"]), named(hardware), here=False)
    assert not found.fits
    offered = [change for change in advice(found) if "parallel.processes" in change.keys]
    assert [dict(change.keys) for change in offered if len(change.keys) == 2] == ([expected] if expected else [])
    assert all(change.fits for change in offered)
    if expected is not None:
        fewer = {**expected, "parallel.processes": expected["parallel.processes"] // 2}
        assert not replanned(found, fewer).fits


def test_a_dry_run_tells_who_plays_what(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("msgrpo_cli.cli.app.heed_signals", lambda: None)
    for processes, said in (("2", "2 processes, each plays 8"), ("null", "a process for each GPU that there is")):
        arguments = ["parallel=ddp", f"parallel.processes={processes}", "--dry-run"]
        monkeypatch.setattr(sys, "argv", ["msgrpo", "train", *arguments])
        with pytest.raises(SystemExit):
            main()
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("# parallel=ddp: "))
        assert said in line
        assert line.endswith("not run on a GPU")
