"""The commands as typed: exit codes, one line for each mistake, nothing on disk, results alone on stdout."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from msgrpo_cli import __version__
from msgrpo_cli.cli.options import is_override
from msgrpo_cli.config import hydra_app
from msgrpo_cli.config.compose import config_dir
from support.commands import run

SMOKE = ["experiment=smoke", "max_updates=1", "eval.episodes=4", "algo.groups_per_update=1", "eval.every=0"]


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSGRPO_CONFIG_DIR", raising=False)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("", "a command is missing; msgrpo --help lists them"),
        ("trian", "No such command 'trian'. Did you mean 'train'?"),
        ("train --dryrun", "No such option: --dryrun (Possible options: --dry-run)"),
        ("train --cfg jobs", "Invalid value for '--cfg': 'jobs' is not one of 'job', 'hydra', 'all'."),
        ("train frozenlake", "frozenlake: not an override KEY=VALUE"),
        ("train --config-dir none", "{here}/none: no such config folder"),
        ("train --resume x --from y", "--resume and --from: only one of them"),
        ("train --resume x -m", "--resume and --multirun: only one of them"),
        (
            "train --resume x",
            "x: no such run; give a run directory, `last`, or the beginning of one name under outputs/ or multirun/",
        ),
        (
            "train --from x",
            "x: no such run; give a run directory, `last`, or the beginning of one name under outputs/ or multirun/",
        ),
        ("train seed=1 env.size=a", "env.size=a: should be a valid integer"),
        ("train env.size=a -v", "env.size=a: should be a valid integer"),
        ("train prompt.user=", "prompt: the user text is empty"),
        ("train prompt.user='{{{{foo}}}}'", "prompt: the prompt template is broken: 'foo' is undefined"),
        ("train env.p=0", "env.p=0: must be between 0.5 and 1"),
        ("train env.p=0.1", "env.p=0.1: must be between 0.5 and 1"),
        ("train env.size=100000", "env.size=100000: must be between 2 and 16"),
        ("train eval.episodes=999999999999", "eval.episodes=999999999999: should be less than or equal to 1000000"),
        ("train rollout.temperature=1e-300", "rollout.temperature=1e-300: should be greater than or equal to 0.01"),
        ("train model.learning_rate=null", "trainer.learning_rate: missing; give a number"),
        ("train trainer.bf16=true", "trainer.bf16=true: needs a GPU that has bf16, this run computes on cpu; leave it"),
        ("train trainer.fp16=true", "trainer.fp16=true: needs a CUDA GPU, this run computes on cpu; leave it out"),
        ("train trainer.tf32=true", "trainer.tf32=true: needs a GPU that has tf32 (Ampere or later), this run"),
        (
            "train trainer.bf16_full_eval=true",
            "trainer.bf16_full_eval=True: not set here; this belongs to",
        ),
        ("sweep trainer.bf16=true,false", "trainer.bf16=true: needs a GPU that has bf16, this run computes on cpu"),
        ("eval trainer.fp16=true", "trainer.fp16=true: needs a CUDA GPU, this run computes on cpu; leave it out"),
        ("train lora.quantization=4bit", "lora.quantization=4bit: only frozen weights can be quantized; add lora.enab"),
        (
            "train lora.enabled=true lora.quantization=4bit",
            "lora.quantization=4bit: needs a CUDA GPU, this run computes on cpu; leave it out: adapters alone",
        ),
        ("train lora.quantization=3bit lora.enabled=true", "lora.quantization=3bit: should be '4bit' or '8bit'"),
        ("train lora.enabled=true lora.r=0", "lora.r=0: should be greater than or equal to 1"),
        ("train lora.target_modules=[]", "lora.target_modules=[]: names no layer; use all-linear"),
        ("train lora.target_modules=lm_head", "lora.target_modules=lm_head: the loss reads the output layer's own"),
        ("train lora.target_modules='q_proj['", "lora.target_modules=q_proj[: not a regular expression"),
        (
            "train lora.enabled=true lora.target_modules=[q_prj]",
            "lora.target_modules=q_prj: fits no linear layer of this model; use all-linear, or a list of down_proj, ",
        ),
        ("export x", "Missing argument 'DIR'."),
        ("export x out", "x: no such run; give a run directory, `last`, or the beginning of one name"),
        ("train --dry-run seed=x", "seed=x: should be a valid integer"),
        ("train --dry-run policy=optimal", "policy=optimal: only a model is trained; use msgrpo eval policy=optimal"),
        ("train --cfg job seed=x", "seed=x: should be a valid integer"),
        (
            "eval owner/name policy=random",
            "policy=random: plays without a model; leave owner/name out, or policy=random",
        ),
        ("train policy=random", "policy=random: only a model is trained; use msgrpo eval policy=random"),
        ("train model.path=./nothing", "model.path=./nothing: no model here (no nothing/config.json)"),
        ("train hydra.run.dir=${{nokey}}", "hydra.run.dir: Interpolation key 'nokey' not found"),
        ("sweep seed=0,x", "seed=x: should be a valid integer"),
        ("sweep seed=1,1", "seed=1: the same job twice"),
        ("sweep env=frozenlake,frozenlak", "env=frozenlak: no 'frozenlak' in config group 'env'"),
        ("train -m max_updates=0,1", "max_updates=0: should be greater than or equal to 1"),
        ("config validate seed=-1", "seed=-1: should be greater than or equal to 0"),
        ("eval a b", "b: a second thing to score, after a; overrides look like KEY=VALUE"),
        ("eval --all", "--all: needs a run, whose checkpoints are all scored"),
        (
            "eval engine=vllm_colocate",
            "engine=vllm_colocate: msgrpo eval plays with engine=single; leave engine out",
        ),
        ("eval seed=x", "seed=x: should be a valid integer"),
        ("train parallel=ddp parallel.processes=1000", "parallel.processes=1000: should be less than or equal to 256"),
        ("plan --hardware 1000xh100", "--hardware=1000xh100: not in the table; choose one of "),
    ],
)
def test_bad_input(
    command: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *command.format().split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    errors = [text for text in said.err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {line.format(here=tmp_path)}")
    assert ("Traceback" in said.err) == command.endswith("-v")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_no_base_to_score(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an unset variable of a shell gives."""
    assert run(monkeypatch, "eval", name) == 2
    assert "error: nothing to score: the name is empty; give a run, " in capsys.readouterr().err


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"msgrpo {__version__}\n"


def test_a_dry_run_tells_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "train", "experiment=paper_frozenlake", "--dry-run") == 0
    text = capsys.readouterr().out
    assert (
        "# Not run here" in text and "# parameters: 3 085 938 688" in text and "# rows_per_update_at_most: 128" in text
    )
    assert "# first_prompt_tokens: unknown until the tokenizer is on this machine" in text
    assert run(monkeypatch, "train", "algo.sample_fraction=0.25", "max_updates=10", "--dry-run", "--json") == 0
    derived = json.loads(capsys.readouterr().out)["derived"]
    assert derived["learning_rate"] == 5e-4
    assert derived["episodes_played_per_update"] == 16 * 16
    assert derived["episodes_drawn_per_update_at_most"] == 64
    assert derived["rows_per_update_at_most"] == 64 * 8
    assert derived["optimizer_steps_at_most"] == 10
    assert derived["trainable_parameters"] == derived["parameters"] == 448_608
    assert derived["first_prompt_tokens"] == 22, "counted by the model's own tokenizer"
    assert run(monkeypatch, "train", "lora.enabled=true", "--dry-run") == 0
    text = capsys.readouterr().out
    assert "\n# learning_rate: 0.005\n" in text and "\n# trainable_parameters: 230 400" in text
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_s_dry_run_lists_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(monkeypatch, "sweep", "seed=range(0,2)", "env=glob(*lake)", "trainer.beta=0,0.1", "--dry-run", "--json")
        == 0
    )
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert [job["overrides"] for job in jobs] == [
        [f"seed={seed}", "env=frozenlake", f"++trainer.beta={beta}"] for seed in (0, 1) for beta in ("0", "0.1")
    ]
    assert list(tmp_path.iterdir()) == []


def test_cfg_prints_as_hydra_does(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "train", "seed=5", "--cfg", "job") == 0
    assert "\nseed: 5\n" in capsys.readouterr().out


def test_job_directories_are_named_by_their_overrides_and_runs_never_collide(tmp_path: Path) -> None:
    assert hydra_app.hash_of_overrides(["seed=1"]) == hydra_app.hash_of_overrides(["seed=1"])
    assert hydra_app.hash_of_overrides(["seed=1"]) != hydra_app.hash_of_overrides(["seed=2"])
    places = {hydra_app.job_directory(config_dir(), "train", [], [], multirun=False) for _ in range(8)}
    assert len(places) == 8
    assert all(place.name.split("-")[1:3] == ["frozenlake", "tiny"] and len(place.name) == 27 for place in places)


def test_what_is_an_override(tmp_path: Path) -> None:
    taken = ["seed=1", "+env.toll=2", "++trainer.beta=0", "~lora", "hydra/launcher=joblib", "model@base=tiny"]
    assert [text for text in taken if not is_override(text)] == []
    (tmp_path / "odd=name").mkdir()
    assert [text for text in ("odd=name", "outputs/x", "Qwen/Qwen2.5-3B", "last", "./a=b") if is_override(text)] == []


def test_train_writes_a_run_and_prints_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "train", *SMOKE, "hydra.run.dir=here") == 0
    said = capsys.readouterr()
    assert Path(said.out.removesuffix("\n")).samefile(tmp_path / "here")
    assert {"run.json", "config.yaml", ".hydra", "checkpoints"} <= {path.name for path in (tmp_path / "here").iterdir()}
    assert json.loads((tmp_path / "here" / "run.json").read_text())["overrides"] == SMOKE
    assert run(monkeypatch, "train", *SMOKE, "hydra.run.dir=here") == 2
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruption(tmp_path: Path, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "msgrpo_cli", "train", "hydra.run.dir=here", "eval.every=0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 600
        while not (tmp_path / "here" / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(number)
        assert process.wait(600) == code
        assert process.stdout is not None and process.stdout.read() == b""
    assert json.loads((tmp_path / "here" / "run.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize("group", ["", "env", "bench", "lab", "runs", "config"])
def test_a_list_of_commands_is_whole_at_80_columns(
    group: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, *group.split(), "--help") == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert "..." not in said.partition("\n\n")[2], "a summary is cut off"
    if not group:
        headings = [line for line in said.splitlines() if line.endswith(":") and not line.startswith(" ")]
        assert headings == ["Options:", "Train and score:", "Look at runs:", "Before a run:", "Tools:"]
