"""Groups, options, keys and values as TAB completes them; each offered key and value is one that a config takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from msgrpo_cli.cli.override_completion import complete, paths
from msgrpo_cli.config import trainer_fields
from msgrpo_cli.config.compose import compose, config_dir
from msgrpo_cli.config.saved import dumped


@pytest.fixture(autouse=True)
def _no_user_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MSGRPO_CONFIG_DIR", raising=False)


LAKES = ["frozenlake", "frozenlake_6x6_slippery", "frozenlake_8x8", "frozenlake_slippery"]


@pytest.mark.parametrize(
    ("word", "before", "expected"),
    [
        ("env=frozenlake_", [], [f"env={name}" for name in LAKES[1:]]),
        ("env=frozenlake,f", [], [f"env=frozenlake,{name}" for name in LAKES[1:]]),
        ("+experiment=sm", [], ["+experiment=smoke", "+experiment=smollm2_frozenlake"]),
        ("algo", [], ["algo.", "algo="]),
        ("algo.sc", [], ["algo.scale="]),
        ("~algo.sc", [], ["~algo.scale="]),
        ("++trainer.learn", [], ["++trainer.learning_rate="]),
        ("trainer.loss_t", [], []),  # has another owner
        ("lora.en", [], ["lora.enabled="]),
        ("lora.enabled=", [], ["lora.enabled=false", "lora.enabled=true"]),
        ("lora.quantization=", [], ["lora.quantization=4bit", "lora.quantization=8bit", "lora.quantization=null"]),
        ("trainer.bf16=", [], ["trainer.bf16=false", "trainer.bf16=null", "trainer.bf16=true"]),
        ("trainer.use_vllm=", [], ["trainer.use_vllm=false", "trainer.use_vllm=true"]),
        ("trainer.report_to=t", [], ["trainer.report_to=tensorboard", "trainer.report_to=trackio"]),
        ("algo.scale=group,b", [], ["algo.scale=group,batch"]),
        ("env.sl", [], ["env.slippery="]),
        ("env.slippery=", ["env=frozenlake_8x8"], ["env.slippery=false", "env.slippery=true"]),
        ("env.max_steps=", ["env=frozenlake_8x8"], ["env.max_steps=24"]),
        ("env.max_steps=", ["env=frozenlake_8x8,frozenlake", "nokey=1"], ["env.max_steps=8"]),
        ("seed=", ["seed=3"], ["seed=3"]),
        ("eval.scenarios=[f", [], [f"eval.scenarios=[{name}" for name in LAKES]),
        ("eval.scenarios=p", [], ["eval.scenarios=paper"]),
        ("eval.scenarios=[frozenlake,frozenlake_s", [], ["eval.scenarios=[frozenlake,frozenlake_slippery"]),
        ("model.path=embedded:tiny_", [], ["model.path=embedded:tiny_random", "model.path=embedded:tiny_seats"]),
        ("hydra/j", [], ["hydra/job_logging="]),
        ("hydra.run.", [], ["hydra.run.dir="]),
        ("nothing.like.it", [], []),
        ("seed.a", [], []),
        ("seed=1=2", [], []),
        ("=", [], []),
        ("+", [], None),
    ],
)
def test_complete(word: str, before: list[str], expected: list[str] | None) -> None:
    found = complete(word, before, [])
    if expected is None:
        assert found
        assert all(offer.startswith(word) for offer in found)
    else:
        assert found == expected


def test_the_first_word_may_be_any_group_or_key_but_hydra_s_only_when_asked_for() -> None:
    found = complete("", [], [])
    assert {"env=", "env.", "model=", "experiment=", "seed=", "trainer.", "max_updates="} <= set(found)
    assert not [word for word in found if word.startswith("hydra")]
    assert {"hydra/", "hydra."} <= set(complete("h", [], []))


def test_all_keys_of_a_composed_config_are_offered() -> None:
    config = dumped(compose("train", []))
    for section, block in config.items():
        if isinstance(block, dict):
            keys = {word.removeprefix(f"{section}.").rstrip("=.") for word in complete(f"{section}.", [], [])}
            assert set(block) <= keys, section
    assert len(complete("trainer.", [], [])) == len(trainer_fields.free_fields())


def test_options_are_the_files_of_every_folder(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "corridor.yaml").write_text("name: corridor\nid: x:y\nmax_steps: 3\nlongest: 9\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "choice.yaml").write_text("a: 1\n")
    own = {f"env={file.stem}" for file in (config_dir() / "env").glob("*.yaml")}
    assert set(complete("env=", [], [tmp_path])) == own | {"env=corridor"}
    assert complete("env.long", ["env=corridor"], [tmp_path]) == ["env.longest="]
    assert complete("mi", [], [tmp_path]) == ["mine="]
    assert set(complete("env=", [], [tmp_path / "not there"])) == own


def test_the_server_s_keys_are_those_of_an_evaluation() -> None:
    assert "api.base_url=" in complete("api.", [], [], "eval") and "api." in complete("ap", [], [], "eval")
    assert "api.max_tokens_key=max_tokens" in complete("api.max_tokens_key=", [], [], "eval")
    assert complete("api.", [], []) == [] == complete("ap", [], [])


def test_gguf_files_are_offered_as_models(tmp_path: Path) -> None:
    for name in ("small.gguf", "small.txt"):
        (tmp_path / name).touch()
    assert paths(f"{tmp_path}/sm") == [f"{tmp_path}/small.gguf"]
