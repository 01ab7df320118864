"""Composing, refusing, saving and reading back a config."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from msgrpo_cli.config.compose import compose, lost_system, options_of, validated
from msgrpo_cli.config.ignored import ignored, read_by_eval
from msgrpo_cli.config.saved import as_yaml, config_hash, dumped, load_saved, saved_text, write_checkpoint_options
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.registry import game_class, make_game
from msgrpo_cli.runs.reader import flat
from msgrpo_cli.runs.resume import changed

MAZE = """
import gymnasium
from msgrpo_cli.games.core import TextMediatedStochasticGame

class Maze(TextMediatedStochasticGame):
    actions = ("on", "back")
    evaluation_keys = {"toll": 0.0}

    def __init__(self, length: int, toll: float = -0.1, max_steps: int = 5):
        super().__init__(max_steps)
        self.length, self.toll, self.at = length, toll, 0

    def new_game(self, rng): self.at = 0
    def play(self, action): return self.toll, None
    def describe(self, observation="full"): return f"{self.at} of {self.length}"
    def rules(self): return "Walk on."
    def state_key(self): return bytes([self.at])

gymnasium.register("me/Maze-v0", entry_point=Maze)
"""


def refusal(*overrides: str, folders: tuple[Path, ...] = ()) -> str:
    with pytest.raises(UsageError) as caught:
        compose("train", list(overrides), list(folders))
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "env=frozenlak",
            "env=frozenlak: no 'frozenlak' in config group 'env'; did you mean 'env=frozenlake'? "
            f"(available: {', '.join(options_of('env'))}); a game of your own: --config-dir DIR, or the variable "
            "MSGRPO_CONFIG_DIR",
        ),
        (
            "algo=nosuch",
            f"algo=nosuch: no 'nosuch' in config group 'algo' (available: {', '.join(options_of('algo'))})",
        ),
        ("sed=1", "sed=1: unknown key 'sed'; did you mean 'seed'?"),
        (
            "trainer.learning_rat=1",
            "trainer.learning_rat=1: unknown key 'trainer.learning_rat'; did you mean 'trainer.learning_rate'?",
        ),
        ("+algo.group_siz=4", "algo.group_siz: unknown key; did you mean 'algo.group_size'?"),
        ("+foo=1", "foo: unknown key"),
        ("+trainer.foo=1", "trainer.foo: unknown key: TRL's GRPOConfig has no such field"),
        (
            "+env.sizes=4",
            "env.sizes: unknown key: FrozenLake takes no such key; did you mean 'env.size'?",
        ),
        ("env.siz=4", "env.siz=4: unknown key 'env.siz'; did you mean 'env.size'?"),
        ("env.size=four", "env.size=four: should be a valid integer"),
        ("env.size=1", "env.size=1: must be between 2 and 16"),
        ("env.p=1.5", "env.p=1.5: must be between 0.5 and 1; with less ice a map with a way is never found"),
        ("max_updates=ten", "max_updates=ten: should be a valid integer"),
        ("max_updates=0", "max_updates=0: should be greater than or equal to 1"),
        ("max_updates=null", "max_updates=null: should be a valid integer"),
        ("max_updates=???", "max_updates: missing; give max_updates=..."),
        ("~model.path", "model.path: missing; give model.path=..."),
        ("algo.group_size=1", "algo.group_size=1: should be greater than or equal to 2"),
        ("save.keep_best=1", "save.keep_best=1: should be a valid boolean"),
        ("algo.scale=grup", "algo.scale=grup: should be 'group', 'batch' or 'none'; did you mean 'group'?"),
        ("trainer.learning_rate=abc", "trainer.learning_rate=abc: must be float"),
        (
            "trainer.num_generations=4",
            "trainer.num_generations=4: not set here; this belongs to algo.group_size",
        ),
        ("env.size=[", "env.size=[: not an override KEY=VALUE; no viable alternative at input '['"),
        ("=3", "=3: not an override KEY=VALUE"),
        (
            "seed=1,2",
            "seed=1,2: several values where one is meant; use msgrpo sweep (or -m) to run each",
        ),
        ("seed=[1,2]", "seed=[1, 2]: should be a valid integer; to run each value use msgrpo sweep seed=1,2"),
        (
            "env=[frozenlake,frozenlake_8x8]",
            "env=[frozenlake,frozenlake_8x8]: a list where one choice is meant; for several games in one run use "
            "env=mix env.games=[frozenlake,frozenlake_8x8], or use msgrpo sweep env=frozenlake,frozenlake_8x8 "
            "to run each",
        ),
        (
            "model=[tiny,qwen3b]",
            "model=[tiny,qwen3b]: a list where one choice is meant; use msgrpo sweep model=tiny,qwen3b to run each",
        ),
        ("algo=null", "algo=null: the name of a choice is meant; a key of it is set with algo.KEY=VALUE"),
        ("model.path=${nokey}", "model.path: Interpolation key 'nokey' not found"),
        ("env.id=nowhere:me/Maze-v0", "env.id=nowhere:me/Maze-v0: cannot import 'nowhere': No module named 'nowhere'"),
        (
            "env.id=msgrpo/FrozenLak-v0",
            "env.id=msgrpo/FrozenLak-v0: no game of that name is registered with gymnasium; "
            "did you mean 'msgrpo/FrozenLake-v0'?",
        ),
        (
            "env.id=CartPole-v1",
            "env.id=CartPole-v1: not a TextMediatedStochasticGame, so it has no words; give it some: env=gym "
            "env.id=... env.actions=[...] env.template=...",
        ),
        (
            "algo.gamma=0.9",
            "algo: gamma=0.9 changes nothing with credit=episode: leave it null, or use return_to_go or gigpo",
        ),
        (
            "algo.most_groups=20",
            "algo: most_groups=20: absolute_advantage plays groups_per_update groups; leave it null, or use "
            "episode_sampling=dynamic",
        ),
    ],
)
def test_every_mistake_is_one_line(override: str, line: str) -> None:
    assert refusal(override) == line


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["algo=dapo", "algo.sampling_scope=group"],
            "algo: sampling_scope=group: dynamic chooses among groups; use update",
        ),
        (
            ["algo=starpo_s", "algo.sampling_correction=inverse_probability"],
            "algo: sampling_correction=inverse_probability: variance_filter leaves whole groups out, which no factor "
            "undoes; use none",
        ),
        (["algo=dapo", "algo.most_groups=3"], "algo: most_groups=3: must be at least groups_per_update=16"),
        (
            ["algo=gigpo", "algo.baseline_scope=group"],
            "algo: baseline_scope=group changes nothing with credit=gigpo: leave it null, or use return_to_go",
        ),
    ],
)
def test_keys_that_a_variant_does_not_read_are_refused(overrides: list[str], line: str) -> None:
    assert refusal(*overrides) == line


def test_several_mistakes_are_told_at_once() -> None:
    lines = refusal("seed=x", "trainer.beta=x", "algo.sample_fraction=2").splitlines()
    assert [line.partition("=")[0] for line in lines] == ["seed", "algo.sample_fraction", "trainer.beta"]


def test_a_trainer_field_that_no_file_lists_needs_no_plus() -> None:
    assert compose("train", ["trainer.epsilon_high=0.28"]).trainer["epsilon_high"] == 0.28


@pytest.mark.parametrize(
    ("overrides", "rate"),
    [
        ([], 5e-4),
        (["trainer.learning_rate=null"], 5e-4),
        (["lora.enabled=true"], 5e-3),
        (["lora.enabled=true", "lora.learning_rate_factor=3"], 1.5e-3),
        (["lora.enabled=true", "trainer.learning_rate=2e-4"], 2e-4),
        (["lora.enabled=true", "model=qwen3b"], 1e-5),
        (["lora.enabled=true", "experiment=paper_frozenlake"], 1e-5),
        (["lora.enabled=true", "model.learning_rate=2e-6"], 2e-5),
    ],
)
def test_the_learning_rate_of_the_model_or_of_its_adapter_unless_one_is_given(
    overrides: list[str], rate: float
) -> None:
    config = compose("train", overrides)
    assert config.trainer["learning_rate"] == rate
    assert dumped(config)["trainer"]["learning_rate"] == rate, "as it stands in config.yaml"
    assert validated(dumped(config)) == config


def test_a_config_of_before_the_learning_rate_was_the_model_s_is_read() -> None:
    data = dumped(compose("train", []))
    del data["model"]["learning_rate"], data["lora"]["learning_rate_factor"]
    assert validated(data).trainer["learning_rate"] == 5e-4


def test_saved_and_read_back(tmp_path: Path) -> None:
    config = compose("train", ["experiment=paper_frozenlake", "trainer.learning_rate=3e-7"])
    file = tmp_path / "config.yaml"
    file.write_text(as_yaml(config), encoding="utf-8")
    assert load_saved(file) == config
    assert config_hash(load_saved(file)) == config_hash(config) == config_hash(validated(dumped(config)))
    assert config_hash(config) != config_hash(compose("train", []))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read: No such file or directory"), ("a: [", "broken: not YAML"), ("3", "broken: not a config")],
)
def test_a_saved_config_that_is_none(tmp_path: Path, content: str | None, reason: str) -> None:
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError) as caught:
        load_saved(file)
    assert str(caught.value) == f"{file}: {reason}"


def test_a_folder_of_the_user_adds_and_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, steps in ((first, 3), (second, 4)):
        (folder / "env").mkdir(parents=True)
        for name in ("frozenlake", f"mine{steps}"):
            text = f"name: {name}\nid: msgrpo/FrozenLake-v0\nsize: 5\nmax_steps: {steps}\n"
            (folder / "env" / f"{name}.yaml").write_text(text)
    assert compose("train", [], [first, second]).env.max_steps == 3
    monkeypatch.setenv("MSGRPO_CONFIG_DIR", str(second))
    assert compose("train", ["env=mine4"], [first]).env.name == "mine4"
    assert compose("train", []).env.max_steps == 4
    monkeypatch.delenv("MSGRPO_CONFIG_DIR")
    assert compose("train", []).env.max_steps == 8
    assert refusal("seed=1", folders=(tmp_path / "none",)) == f"{tmp_path / 'none'}: no such config folder"


def test_a_game_from_outside_the_package(tmp_path: Path) -> None:
    (tmp_path / "maze_of_mine.py").write_text(MAZE)
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "maze.yaml").write_text("name: maze\nid: maze_of_mine:me/Maze-v0\nlength: 3\nmax_steps: 5\n")
    config = compose("train", ["env=maze", "+env.toll=-0.5"], [tmp_path])
    assert game_class(config.env).__name__ == "Maze"
    assert make_game(config.env).toll == -0.5  # type: ignore[attr-defined]
    assert make_game(config.env, evaluation=True).toll == 0.0  # type: ignore[attr-defined]
    assert refusal("env=maze", "~env.length", folders=(tmp_path,)) == "env.length: missing; Maze needs it"
    saved = tmp_path / "config.yaml"
    saved.write_text(as_yaml(config))
    assert load_saved(saved, allow_modules=["maze_of_mine"]) == config
    with pytest.raises(UsageError, match="pass --allow-module maze_of_mine if you trust it"):
        load_saved(saved)


def test_a_checkpoint_s_sections_are_choices(tmp_path: Path) -> None:
    saved = dumped(compose("train", ["model=qwen3b", "env=frozenlake_8x8", "prompt=paper"]))
    sections = {name: saved[name] for name in ("env", "prompt", "model", "rollout")}
    folder = write_checkpoint_options(tmp_path, sections | {"algo": {"invalid_action": "noop"}})
    config = compose("eval", ["model=checkpoint"], [folder])
    assert {name: dumped(config)[name] for name in sections} == sections
    assert config.algo.invalid_action == "noop"
    other = compose("eval", ["model=checkpoint", "env=frozenlake", "rollout.temperature=0.5"], [folder])
    assert (other.env.name, other.prompt.name, other.rollout.temperature) == ("frozenlake", "paper", 0.5)


@pytest.mark.parametrize(
    "override",
    [
        "max_updates=200",
        "max_updates=180",
        "max_hours=2",
        "eval.episodes=7",
        "save.keep_last=1",
        "stop.score=0.5",
        "trainer.report_to=none",
    ],
)
def test_what_a_resumed_run_may_change(override: str) -> None:
    config = compose("train", [])
    assert changed(config, [override]) == compose("train", [override])


@pytest.mark.parametrize(
    "override", ["seed=1", "env=frozenlake_8x8", "trainer.beta=0.1", "algo.group_size=4", "+foo=1"]
)
def test_what_a_resumed_run_may_not_change(override: str) -> None:
    with pytest.raises(UsageError, match=r"msgrpo train --from"):
        changed(compose("train", []), [override])


def test_a_resumed_run_gets_no_shorter() -> None:
    with pytest.raises(UsageError, match="may only raise"):
        changed(compose("train", []), ["max_updates=99"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ("algo.episode_sampling=all", "algo.sample_fraction=0.3"),
            "algo.sample_fraction=0.3: algo.episode_sampling=all",
        ),
        (("algo=dapo", "algo.sample_fraction=0.3"), "algo.sample_fraction=0.3: algo.episode_sampling=dynamic"),
        (
            ("algo=starpo_s", "algo.sampling_exponent=2"),
            "algo.sampling_exponent=2: algo.episode_sampling=variance_filter",
        ),
    ],
)
def test_a_key_that_the_chosen_sampling_ignores_is_refused(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=rf"^{re.escape(said)} .*leave it null$"):
        compose("train", overrides)
    assert compose("train", overrides[:1]).algo.fraction in (0.25, 0.5)


@pytest.mark.parametrize("given", ["model.end_of_turn=x", "prompt.date=2026-01-31", "prompt.system_role=user"])
def test_a_key_that_a_server_ignores_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match=rf"^{re.escape(given)}: changes nothing with policy=api; leave it out$"):
        compose("eval", ["policy=api", given])
    assert compose("eval", [given]).policy == "model"


@pytest.mark.parametrize("given", ["lora.r=8", "lora.r=32", "++lora.alpha=8", "lora.target_modules=[q_proj]"])
def test_keys_of_an_adapter_without_one_are_refused(given: str) -> None:
    assert refusal(given) == f"{given}: changes nothing without lora.enabled=true; add that, or leave it out"
    for enabled in ("true", "false"):
        compose("train", [given, f"lora.enabled={enabled}"])


@pytest.mark.parametrize(
    ("given", "off", "why", "on"),
    [
        ("algo.sampling_scope=group", ["algo.episode_sampling=all"], "with algo.episode_sampling=all, which takes", []),
        ("algo.sampling_correction=inverse_probability", ["algo=grpo"], "with algo.episode_sampling=all, whose", []),
        (
            "algo.sampling_correction=inverse_probability",
            ["algo.episode_sampling=uniform", "algo.sampling_scope=group"],
            "with algo.episode_sampling=uniform, whose episodes are all as likely; leave it out",
            [],
        ),
        ("curriculum.success=0.5", [], "without a curriculum", ["curriculum.key=env.size", "curriculum.values=[3,4]"]),
        ("curriculum.window=3", [], "without a curriculum", ["curriculum.key=env.size", "curriculum.values=[3,4]"]),
        ("stop.score=0.9", ["eval.every=0"], "with eval.every=0, which evaluates at the end alone", []),
        ("stop.success=0.9", ["eval.every=0"], "with eval.every=0", ["eval.every=5"]),
        ("save.keep_best=true", ["eval.every=0"], "with eval.every=0", []),
        ("rollout.prefix_memory=7", ["rollout.share_prompts=false"], "with rollout.share_prompts=false", []),
        ("prompt.system_role=user", ["prompt.system=null"], "with prompt.system=null", ["prompt.system=x"]),
        ("trainer.entropy_target=0.3", [], "without trainer.use_adaptive_entropy=true; add that, or", None),
        ("trainer.entropy_coef_max=0.3", [], "without trainer.use_adaptive_entropy=true", None),
        ("+trainer.entropy_coef_min=0.3", [], "without trainer.use_adaptive_entropy=true", None),
        ("++trainer.entropy_coef_delta=0.3", [], "without trainer.use_adaptive_entropy=true", None),
        ("trainer.use_bias_correction_kl=false", [], "without the KL term of trainer.beta", ["trainer.beta=0.1"]),
        (
            "trainer.gradient_checkpointing_kwargs={use_reentrant: false}",
            [],
            "without trainer.gradient_checkpointing=true",
            ["trainer=large"],
        ),
        ("trainer.liger_kernel_config={swiglu: false}", [], "without trainer.use_liger_kernel=true", []),
        ("trainer.run_name=mine", [], "without a tracker, such as", []),
        ("trainer.trackio_space_id=me/mine", [], "without trainer.report_to=trackio", []),
        ("trainer.adam_beta1=0.5", ["trainer.optim=sgd"], "with trainer.optim=sgd; leave it out", []),
        ("trainer.adam_beta2=0.5", ["trainer.optim=adafactor"], "with trainer.optim=adafactor", []),
        ("trainer.adam_epsilon=1e-6", ["trainer.optim=rmsprop"], "with trainer.optim=rmsprop", ["seed=1"]),
        ("trainer.optim_args='a=1'", [], "with trainer.optim=adamw_torch", ["trainer.optim=sgd"]),
        ("trainer.optim_target_modules=all-linear", [], "with trainer.optim=adamw_torch", []),
    ],
)
def test_a_key_that_other_choices_leave_unread_is_refused(
    given: str, off: list[str], why: str, on: list[str] | None
) -> None:
    assert refusal(*off, given).startswith(f"{given}: changes nothing {why}")
    on = ["trainer.use_adaptive_entropy=true"] if on is None else on
    if on:
        compose("train", [given, *on])


@pytest.mark.parametrize(
    "given",
    [
        ["stop.score=null", "eval.every=0"],
        ["algo=grpo", "algo.sampling_scope=update", "algo.sampling_correction=none"],
        ["trainer.use_adaptive_entropy=false", "trainer.entropy_target=0.3"],
        ["trainer.beta=0", "trainer.use_bias_correction_kl=false"],
        ["save.keep_best=false", "eval.every=0"],
        ["trainer.optim=lion_32bit", "trainer.adam_beta1=0.5"],
    ],
)
def test_whoever_asks_for_nothing_or_switches_it_off_is_let(given: list[str]) -> None:
    compose("train", given)


def test_what_a_file_brings_in_vain_is_taken_and_a_saved_config_read(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = (
        "# @package _global_\nalgo:\n  episode_sampling: uniform\n  sampling_correction: inverse_probability\n"
        "trainer:\n  optim: sgd\n  adam_beta1: 0.5\n  entropy_target: 0.1\ncurriculum:\n  window: 3\n"
    )
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    config = compose("train", ["experiment=mine"], [tmp_path])
    (tmp_path / "config.yaml").write_text(saved_text(config))
    assert load_saved(tmp_path / "config.yaml") == config


def test_a_key_that_is_unread_is_refused_when_a_run_goes_on() -> None:
    config = compose("train", ["eval.every=0"])
    with pytest.raises(UsageError, match=r"^stop\.score=1: changes nothing with eval\.every=0"):
        changed(config, ["stop.score=1"])
    assert changed(config, ["stop.score=1", "eval.every=2"]).stop.score == 1


def test_what_an_experiment_brings_of_lora_is_not_refused(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    for name, enabled in (("whole", "false"), ("adapters", "true")):
        text = f"# @package _global_\nlora:\n  enabled: {enabled}\n  r: 8\n"
        (tmp_path / "experiment" / f"{name}.yaml").write_text(text)
    assert compose("train", ["experiment=whole"], [tmp_path]).lora.r == 8
    assert compose("train", ["experiment=adapters", "lora.r=4"], [tmp_path]).lora.r == 4


def test_scenarios_are_refused_in_training() -> None:
    assert refusal("eval.scenarios=paper") == (
        "eval.scenarios=paper: changes nothing in training, which evaluates on its own game; leave it out, and score "
        "the run afterwards with msgrpo eval RUN eval.scenarios=..."
    )
    assert compose("train", ["experiment=paper_baselines"]).eval.scenarios is not None, "brought, not typed"
    with pytest.raises(UsageError, match=r"^eval\.scenarios=paper: changes nothing in training"):
        changed(compose("train", []), ["eval.scenarios=paper"])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("max_updates=3", ", which trains nothing"),
        ("seed=4", ", but for random weights; eval.seed draws the starts"),
        ("max_hours=1", ", which trains nothing"),
        ("lora.enabled=true", ", where a checkpoint brings its adapter"),
        ("lora.r=8", ", where a checkpoint brings its adapter"),
        ("algo.group_size=4", ", which reads algo.invalid_action alone"),
        ("trainer.learning_rate=1e-5", ", which reads trainer.use_cpu, trainer.bf16, trainer.fp16 alone"),
        ("trainer.epsilon_high=0.3", ", which reads trainer.use_cpu, trainer.bf16, trainer.fp16 alone"),
        ("save.every=1", ", which trains nothing"),
        ("guard.log_ratio=1", ", which trains nothing"),
        ("stop.on_collapse=true", ", which trains nothing"),
        ("curriculum.window=3", ", which plays the game as env says"),
        ("eval.every=1", ", which scores once"),
        ("model.learning_rate=1e-5", ", which trains nothing"),
        ("hydra.run.dir=here", ", which makes no run"),
        ("hydra/launcher=basic", ", which makes no run"),
        ("engine.max_logprob_gap=1", ", which compares no log-probabilities"),
    ],
)
def test_a_key_that_an_evaluation_ignores_is_refused(given: str, why: str) -> None:
    for more in ([], ["policy=random"], ["policy=api"]):
        with pytest.raises(UsageError) as caught:
            compose("eval", [given, *more])
        assert str(caught.value) == f"{given}: changes nothing in msgrpo eval{why}; leave it out"


def test_a_server_s_key_without_one_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^api\.retries=1: changes nothing without policy=api; add that, or leave it"):
        compose("eval", ["api.retries=1"])
    assert compose("eval", ["api.retries=1", "policy=api"]).api is not None


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("model.path=elsewhere", ", which asks no model"),
        ("prompt.history=2", ", which reads prompt.observation alone"),
        ("rollout.temperature=0.5", ", which reads rollout.max_live_episodes alone"),
        ("eval.temperature=0.5", ", which samples no answer"),
    ],
)
def test_what_a_reference_player_does_not_read_is_refused(given: str, why: str) -> None:
    for player in ("random", "greedy", "search", "optimal"):
        with pytest.raises(UsageError) as caught:
            compose("eval", [given, f"policy={player}"])
        assert str(caught.value) == f"{given}: changes nothing with policy={player}{why}; leave it out"
    compose("eval", [given])


def test_what_a_dry_run_tells_of_an_evaluation_is_what_may_be_typed() -> None:
    """One source: every key that it prints is taken, and what it leaves out is refused."""
    for player in ("model", "random"):
        config = compose("eval", [f"policy={player}", "trainer.use_cpu=true"])
        told, whole = flat(read_by_eval(config)), flat(config.model_dump(mode="json"))
        told.pop("eval.split")  # null, which is no wish
        typed = {key: value for key, value in told.items() if not key.startswith("env.") and value is not None}
        assert typed.keys() >= {"policy", "eval.episodes", "trainer.use_cpu", "prompt.observation"}
        assert ("model.path" in typed) == ("rollout.temperature" in typed) == (player == "model")
        assert not {key.partition(".")[0] for key in told} & {"save", "stop", "guard", "lora", "curriculum", "api"}
        plain = [f"{key}={value}" for key, value in typed.items() if isinstance(value, (int, float))]
        assert not ignored("eval", config, plain)
        left = [f"{key}=1" for key in whole if key not in {*told, "eval.split"} and not key.startswith("env.")]
        assert len(ignored("eval", config, left)) == len(left) > 20


def test_what_an_evaluation_reads_is_taken() -> None:
    """`seed` makes random weights; a choice may hold what is read, as an experiment may hold what is not."""
    read = ["algo.invalid_action=noop", "trainer.use_cpu=true", "trainer.bf16=false", "trainer.fp16=false", "seed=1"]
    read.append("model.init=random")
    config = compose("eval", [*read, "experiment=smoke", "algo=dapo", "trainer=large", "engine=single"])
    assert (config.algo.invalid_action, config.trainer["use_cpu"], config.seed) == ("noop", True, 1)


def test_a_date_is_a_day() -> None:
    with pytest.raises(UsageError, match=r"^prompt\.date=yesterday: .*2026-01-31"):
        compose("train", ["prompt.date=yesterday"])


def test_a_value_that_holds_an_equals_sign_is_shown_quoted() -> None:
    with pytest.raises(UsageError, match="is quoted twice: ") as refused:
        compose("train", ["model.path=/tmp/a=b"])
    [shown] = shlex.split(str(refused.value).partition("quoted twice: ")[2])
    assert compose("train", [shown]).model.path == "/tmp/a=b"


@pytest.mark.parametrize("value", ["<action>", "'<action>'"])
def test_a_tag_is_a_text_whether_or_not_the_shell_took_its_quotes(value: str) -> None:
    assert compose("train", [f"prompt.answer_prefix={value}"]).prompt.answer_prefix == "<action>"


def test_a_section_that_is_given_one_value_names_its_keys() -> None:
    with pytest.raises(UsageError, match=r"^lora=default: a section of keys; .* such as lora\.enabled="):
        compose("train", ["lora=default"])


@pytest.mark.parametrize("overrides", [["prompt=think"], ["prompt=paper", "model=tiny"]])
def test_a_chosen_prompt_that_loses_its_system_text_is_told(overrides: list[str]) -> None:
    said = lost_system(compose("train", overrides), overrides)
    assert said is not None and said.startswith(
        f"{overrides[0]}: its prompt.system is not read: model=tiny puts nothing in its place; leave {overrides[0]} out"
    )
    typed = [*overrides, "prompt.system=mine"]
    assert lost_system(compose("train", typed), typed) is None, "whoever types the text knows"


@pytest.mark.parametrize("overrides", [["prompt=think", "model=qwen0.5b"], ["model=tiny"]])
def test_a_prompt_that_keeps_its_system_text_or_was_not_chosen_is_not_told(overrides: list[str]) -> None:
    assert lost_system(compose("train", overrides), overrides) is None


@pytest.mark.parametrize("empty", ["hydra.run.dir=", "hydra.run.dir=''", "hydra.run.dir=null"])
def test_an_empty_run_directory_is_refused(empty: str) -> None:
    with pytest.raises(UsageError, match=r"^hydra\.run\.dir=.*: empty; name a directory, or leave it out$"):
        compose("train", [empty])


def test_patience_of_one_process_names_who_has_it() -> None:
    with pytest.raises(UsageError, match=r"^parallel\.patience=5: parallel=none is one process, .* give parallel=ddp"):
        compose("train", ["parallel.patience=5"])
    assert compose("train", ["parallel=ddp", "parallel.patience=5"]).parallel.patience == 5


def test_a_prefix_that_is_a_whole_action_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"^prompt\.answer_prefix=<action>up</action>: frozenlake reads it as the whole"
    ):
        compose("train", ["prompt.answer_prefix='<action>up</action>'"])
    assert compose("train", ["prompt.answer_prefix='I go <action>'"]).prompt.answer_prefix == "I go <action>"
