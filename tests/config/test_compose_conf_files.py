"""Every file of conf/ composes into a valid config, and every model brings what suits it, whatever the game."""

from __future__ import annotations

import pytest
import yaml

from msgrpo_cli.config import hydra_app
from msgrpo_cli.config.compose import compose, config_dir
from support.places import EXTRAS

CONF = config_dir()
GROUPS = ("env", "model", "algo", "prompt", "rollout", "trainer", "engine", "parallel", "experiment")
FILES = sorted(str(file.relative_to(CONF)) for file in CONF.rglob("*.yaml"))
ENVS = sorted(file.stem for file in (CONF / "env").glob("*.yaml"))
SEATED = ("selfplay_kuhn", "selfplay_tictactoe")  # experiments of games of two players
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))

# model: learning rate and its schedule, prompt, observation, longest answer and prompt, dtype, rows per micro-batch
TINY = (5e-4, "linear", "action_only", "compact", 8, 64, "float32", 1024)
LARGE = (1e-6, "constant", "think", "full", 256, 1500, "auto", 4)
NEEDED = {"model/any.yaml": ["model.path=./somewhere"]}
MODELS = {
    "tiny": TINY,
    "tiny_random": TINY,
    "tiny_seats": TINY,
    "qwen0.5b": LARGE,
    "qwen1.5b": LARGE,
    "qwen3b": LARGE,
    "qwen7b": LARGE,
    "qwen14b": LARGE,
    "qwen32b": LARGE,
    "qwen72b": LARGE,
    "smollm2-135m": LARGE,
    "smollm2-135m-gguf": LARGE,
    "smollm2-360m": LARGE,
    "qwen2-30m": (1e-5, "constant", "action_only", "full", 8, 1500, "float32", 1024),
    "llama3.2-1b": LARGE,
    "llama3.2-3b": LARGE,
    "any": LARGE,
}


def test_every_model_is_in_the_table() -> None:
    assert sorted(MODELS) == sorted(file.stem for file in (CONF / "model").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES)
def test_every_file_composes(file: str) -> None:
    group, _, name = file.removesuffix(".yaml").rpartition("/")
    if not group:
        compose(name, [])
    elif group in ("env", "model"):
        assert name in (ENVS if group == "env" else MODELS), "and so composed with the other group's files, below"
    elif group in GROUPS:
        if name in SEATED:
            pytest.importorskip("pyspiel")
        compose("train", [f"{group}={name}", *NEEDED.get(file, [])])
    elif group in ("hydra/launcher", "hydra/sweeper"):
        if group == "hydra/launcher":
            pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
        settings = hydra_app.settings(CONF, "train", [f"{group}={name}"], [], group.rpartition("/")[2])
        assert settings["_target_"].startswith("hydra_plugins.")
    else:
        assert group in ("hydra/job_logging", "hydra/hydra_logging"), f"{file}: composed by no test"


@pytest.mark.parametrize("file", FILES)
def test_files_hold_data_and_name_no_code(file: str) -> None:
    """But for the sweeper, which Hydra finds in its plugins' namespace alone."""
    said = [line for line in (CONF / file).read_text().splitlines() if "_target_" in line]
    assert said == (
        ["_target_: hydra_plugins.msgrpo_optuna.OptunaSweeper"] if file == "hydra/sweeper/optuna.yaml" else []
    )


KINDS = {MODELS[model]: model for model in reversed(MODELS)}
"""One model of each kind: of those that bring the same."""
PAIRS = [
    pytest.param(model, env, marks=() if env == "frozenlake" or model in KINDS.values() else pytest.mark.slow)
    for model in MODELS
    for env in ENVS
]
"""At once every model with one game and every game with a model of each kind; the slow suite has them all."""


@pytest.mark.parametrize("env", ENVS)
def test_a_game_s_file_says_nothing_of_anything_else(env: str) -> None:
    """So it is enough that every game is composed with a model of each kind."""
    text = (CONF / "env" / f"{env}.yaml").read_text()
    assert "@package" not in text and "${" not in text and "defaults" not in yaml.safe_load(text)


@pytest.mark.parametrize(("model", "env"), PAIRS)
def test_every_model_with_every_game(model: str, env: str) -> None:
    if env in EXTRAS:
        pytest.importorskip(EXTRAS[env])
    config = compose("train", [f"model={model}", f"env={env}", *NEEDED.get(f"model/{model}.yaml", [])])
    assert (config.env.name, config.model.name) == (env, model)
    brought = (
        config.trainer["learning_rate"],
        config.trainer["lr_scheduler_type"],
        config.prompt.name,
        config.prompt.observation,
        config.rollout.max_new_tokens,
        config.rollout.max_prompt_tokens,
        config.model.dtype,
        config.trainer["per_device_train_batch_size"],
    )
    assert brought == MODELS[model]
    assert config.rollout.temperature == 1.0
    assert config.trainer["gradient_checkpointing"] is (MODELS[model] is LARGE)


@pytest.mark.parametrize("env", ENVS)
def test_an_env_file_is_named_as_its_run_directories(env: str) -> None:
    assert yaml.safe_load((CONF / "env" / f"{env}.yaml").read_text())["name"] == env


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_command_line_beats_the_experiment_and_the_experiment_the_model(experiment: str) -> None:
    if seats := experiment in SEATED:
        pytest.importorskip("pyspiel")
    config = compose(
        "train",
        [
            f"experiment={experiment}",
            "env.game=leduc_poker" if seats else "env=frozenlake_8x8",
            "model=qwen0.5b",
            "prompt=action_only",
            "max_updates=3",
            "trainer.learning_rate=2e-5",
        ],
    )
    assert config.env.keys["game"] == "leduc_poker" if seats else config.env.name == "frozenlake_8x8"
    assert (config.model.name, config.prompt.name) == ("qwen0.5b", "action_only")
    assert (config.max_updates, config.trainer["learning_rate"]) == (3, 2e-5)


def test_without_an_experiment_the_values_of_frozenlake_tiny_hold() -> None:
    assert compose("train", []) == compose("train", ["experiment=frozenlake_tiny"])


def test_the_paper_s_experiment() -> None:
    config = compose("train", ["experiment=paper_frozenlake"])
    assert config.note is not None and config.note.startswith("Not run here")
    assert (config.model.path, config.prompt.name, config.max_updates) == ("Qwen/Qwen2.5-3B-Instruct", "paper", 700)
    assert (config.algo.groups_per_update, config.algo.group_size, config.algo.format_penalty) == (2, 16, 1.0)
    assert (config.rollout.temperature, config.eval.temperature) == (1.25, 0.5)
    assert [config.trainer[name] for name in ("learning_rate", "epsilon", "beta")] == [1e-6, 0.2, 0.0]


def test_the_paper_s_snake_differs_in_the_game_alone() -> None:
    lake, snake = (compose("train", [f"experiment=paper_{game}"]).model_dump() for game in ("frozenlake", "snake"))
    assert snake.pop("env")["name"] == "snake_8"
    assert lake.pop("env")["name"] == "frozenlake"
    assert snake == lake


def test_eval_has_the_keys_and_values_of_train() -> None:
    """And the server that policy=api asks, which training never does."""
    evaluation, training = compose("eval", []), compose("train", [])
    assert evaluation.api is not None and training.api is None
    assert evaluation.model_copy(update={"api": None}) == training


def test_no_own_directory_holds_an_equals_sign() -> None:
    assert not list(CONF.rglob("*=*"))
