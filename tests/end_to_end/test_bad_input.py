"""Bad input, row by row: what was typed, the exit code, the one line that is said, and nothing changed on disk."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from msgrpo_cli.common.signals import heeding, safe_point
from msgrpo_cli.config.compose import options_of
from msgrpo_cli.runs.directory import Run
from support.bad_games import write_games
from support.bad_models import write_models
from support.bad_runs import LAST, write_runs
from support.commands import run
from support.snapshots import snapshot

SMOKE = "train experiment=smoke max_updates=1 eval.episodes=4 algo.groups_per_update=1 eval.every=0"
COMPACT = ["prompt.observation=compact", "prompt.system=null", "rollout.max_new_tokens=8"]
NO_RUN = "no such run; give a run directory, `last`, or the beginning of one name under outputs/ or multirun/"
TOO_ALIKE = (
    "in 10000 seeds: the game starts too alike; choose a larger game, eval.split=any (not held out), or, where it is a "
    "key of the game, env.initial_states=few"
)
DIFFER = "start differently; new_game must draw everything from the generator it is given, and keep nothing from before"
ONLY = (
    "a resumed run may only raise max_updates and change eval.*, parallel.*, save.*, stop.*, max_hours, "
    "trainer.report_to; to start anew from its weights use msgrpo train --from"
)
TO_PATH = "names a directory, so it must be a word without / and \\, of at most 100 characters"
PICKLED = (
    "pytorch_model.bin: pickled weights run code when they are read, so they are never loaded; where you trust them, "
    "load and save them once with transformers, which writes model.safetensors"
)


@dataclass(frozen=True)
class Stock:
    """What lies ready on disk, made once and never changed."""

    models: Path
    games: Path
    runs: Path


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> Stock:
    folder = tmp_path_factory.mktemp("stock")
    return Stock(
        write_models(folder / "models"), write_games(folder / "games"), write_runs(folder / "runs", finished_run)
    )


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working folder; no byte code beside the modules of users; `sys.path` as before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSGRPO_CONFIG_DIR", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield


def said_by(
    command: str, stock: Stock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    """The exit code and the lines of what went wrong; nothing was said on stdout, and no traceback."""
    filled = command.replace("SMOKE", SMOKE).replace("--GAMES", f"--config-dir {stock.games}")
    for name in ("models", "runs", "games"):
        filled = filled.replace(name.upper(), str(getattr(stock, name)))
    code = run(monkeypatch, *shlex.split(filled))
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    return code, [line.removeprefix("error: ") for line in said.err.splitlines() if line.startswith("error: ")]


# (command, exit code, line). RUNS, MODELS and GAMES stand for folders, SMOKE for a training of seconds.
LONG = "x" * 300
EMPTY = "empty; give a run directory, `last`, or the beginning of a run's name"
ELSEWHERE = "give another place"
RUN_ROWS = [
    ("train --resume ''", 2, f"--resume: {EMPTY}"),
    ("train --from '' --dry-run", 2, f"--from: {EMPTY}"),
    (f"train --resume {LONG}", 2, f"{LONG}: File name too long; {ELSEWHERE}"),
    ("SMOKE hydra.run.dir=RUNS/whole/run.json/x", 2, f"RUNS/whole/run.json/x: Not a directory; {ELSEWHERE}"),
    ("export RUNS/whole RUNS/whole/run.json/x", 2, f"RUNS/whole/run.json: File exists; {ELSEWHERE}"),
    ("train --resume RUNS/whole eval.every=1,2", 2, "eval.every=1,2: several values where one is meant"),
    ("eval nothing", 2, f"nothing: {NO_RUN}"),
    ("eval last", 2, f"last: {NO_RUN}"),
    ("eval ./nothing", 2, f"./nothing: {NO_RUN}"),
    ("train --resume last", 2, f"last: {NO_RUN}"),
    ("train --resume nothing/at/all", 2, f"nothing/at/all: {NO_RUN}"),
    ("train --from nothing", 2, f"nothing: {NO_RUN}"),
    ("eval GAMES", 2, "GAMES: neither a run (no run.json) nor a checkpoint (no msgrpo.json)"),
    ("train --resume MODELS/good", 2, "MODELS/good: not a run directory (it has no run.json)"),
    ("train --from RUNS", 2, "RUNS: not a run directory (it has no run.json)"),
    ("eval RUNS/whole/eval", 2, "RUNS/whole/eval: neither a run (no run.json) nor a checkpoint (no msgrpo.json)"),
    ("eval RUNS/no-checkpoint", 2, "RUNS/no-checkpoint: has no checkpoint yet"),
    ("train --from RUNS/no-checkpoint", 2, "RUNS/no-checkpoint: has no checkpoint yet"),
    (
        f"eval RUNS/cut-weights/{LAST}",
        2,
        f"RUNS/cut-weights/{LAST}/model.safetensors: damaged: 5 bytes, <number> were written",
    ),
    (
        f"train --from RUNS/cut-weights/{LAST}",
        2,
        f"RUNS/cut-weights/{LAST}/model.safetensors: damaged: 5 bytes, <number> were written",
    ),
    (
        "train --resume RUNS/newer-config max_updates=9",
        2,
        "RUNS/newer-config/config.yaml: written by a newer msgrpo (schema 99, this one reads 1); update msgrpo",
    ),
    (
        "train --resume RUNS/newer-record max_updates=9",
        2,
        "RUNS/newer-record/run.json: written by a newer msgrpo (schema 99, this one reads 1); update msgrpo",
    ),
    (
        f"eval RUNS/newer-checkpoint/{LAST}",
        2,
        f"RUNS/newer-checkpoint/{LAST}/msgrpo.json: written by a newer msgrpo (schema 99, this one reads 1); "
        "update msgrpo",
    ),
    (
        f"eval RUNS/odd-schema/{LAST}",
        2,
        f"RUNS/odd-schema/{LAST}/msgrpo.json: broken: its schema is 'two', not a number",
    ),
    ("train --resume RUNS/no-yaml", 2, "RUNS/no-yaml/config.yaml: broken: not YAML"),
    (
        "train --resume RUNS/unknown-key",
        2,
        "RUNS/unknown-key/config.yaml: colour: unknown key; did you mean 'rollout'?",
    ),
    ("train --resume RUNS/no-config", 2, "RUNS/no-config/config.yaml: cannot be read: No such file or directory"),
    (
        "train --resume RUNS/no-record max_updates=9",
        2,
        "RUNS/no-record/run.json: not readable as JSON (Expecting ':' delimiter: line 1 column 10 (char 9))",
    ),
    ("train --resume RUNS/listed-record max_updates=9", 2, "RUNS/listed-record/run.json: broken: not an object"),
    ("eval RUNS/listed-record", 2, "RUNS/listed-record/run.json: broken: not an object"),
    (f"eval RUNS/no-env/{LAST}", 2, f"RUNS/no-env/{LAST}/msgrpo.json: broken: its env is not what a run saves"),
    (f"eval RUNS/no-metadata/{LAST}", 2, f"RUNS/no-metadata/{LAST}/msgrpo.json: broken: not an object"),
    (
        "eval RUNS/foreign",
        2,
        "env.id=trap_of_theirs:they/Game-v0: a saved config may not import 'trap_of_theirs' by itself; pass "
        "--allow-module trap_of_theirs if you trust it",
    ),
    (
        "train --resume RUNS/foreign max_updates=9 --allow-module trap",
        2,
        "env.id=trap_of_theirs:they/Game-v0: a saved config may not import 'trap_of_theirs' by itself; pass "
        "--allow-module trap_of_theirs if you trust it",
    ),
    ("train --resume RUNS/moved-base", 2, "model.path=./gone: no model here (no gone/config.json)"),
    ("train --resume RUNS/whole seed=3", 2, f"seed=3: {ONLY}"),
    (
        "train --resume RUNS/whole parallel=ddp",
        2,
        "parallel=ddp: a choice; of a resumed run give keys: parallel.name=... parallel.processes=...",
    ),
    (
        "train --resume RUNS/whole max_updates=2",
        2,
        "max_updates=2: the run was to last 3 updates; --resume may only raise that",
    ),
    ("train --resume RUNS/whole eval.episodes=0", 2, "eval.episodes=0: should be greater than or equal to 1"),
    ("train --resume RUNS/whole eval.colour=1", 2, "eval.colour: unknown key"),
    ("train --resume RUNS/whole eval.every.x=1", 2, "eval.every.x=1: unknown key 'eval.every.x'"),
    (
        "eval RUNS/whole model.path=x",
        2,
        "model: RUNS/whole brings its own model; leave model= out, or leave the checkpoint out",
    ),
    (f"eval RUNS/whole/{LAST} env.size=1", 2, "env.size=1: must be between 2 and 16"),
]
MODEL_ROWS = [
    ("SMOKE model.path=./none", 2, "model.path=./none: no model here (no none/config.json)"),
    ("SMOKE model.path=GAMES", 2, "model.path=GAMES: no model here (no GAMES/config.json)"),
    (
        "SMOKE model.path=MODELS/truncated",
        2,
        "model.path=MODELS/truncated: model.safetensors: damaged: 100000 bytes, not what its header says",
    ),
    (
        "eval MODELS/truncated",
        2,
        "model.path=MODELS/truncated: model.safetensors: damaged: 100000 bytes, not what its header says",
    ),
    (
        "SMOKE --from MODELS/truncated",
        2,
        "model.path=MODELS/truncated: model.safetensors: damaged: 100000 bytes, not what its header says",
    ),
    (
        "SMOKE model.path=MODELS/garbage",
        2,
        "model.path=MODELS/garbage: model.safetensors: broken: not a safetensors file: "
        "Error while deserializing header: header too large",
    ),
    ("SMOKE model.path=MODELS/no-weights", 2, "model.path=MODELS/no-weights: no weights here (no model.safetensors)"),
    ("SMOKE model.path=MODELS/pickled", 2, f"model.path=MODELS/pickled: {PICKLED}"),
    ("eval MODELS/pickled", 2, f"model.path=MODELS/pickled: {PICKLED}"),
    (
        "SMOKE model.path=MODELS/lost-shard",
        2,
        "model.path=MODELS/lost-shard: part-2.safetensors: cannot be read: No such file or directory",
    ),
    (
        "SMOKE model.path=MODELS/broken-index",
        2,
        "model.path=MODELS/broken-index: model.safetensors.index.json: broken: it lists no files",
    ),
    (
        "SMOKE model.path=MODELS/broken-config",
        2,
        "model.path=MODELS/broken-config: cannot be loaded: It looks like the config file at "
        "'MODELS/broken-config/config.json' is not a valid JSON file.",
    ),
    (
        "SMOKE model.path=MODELS/unknown-type",
        2,
        "model.path=MODELS/unknown-type: cannot be loaded: The checkpoint you are trying to load has model type "
        "`gpt99` but Transformers does not recognize this architecture. This could be because of an issue with the "
        "checkpoint, or because your version of Transformers is out of date.",
    ),
    (
        "SMOKE model.path=MODELS/wrong-shape",
        2,
        "model.path=MODELS/wrong-shape: cannot be loaded: its weights do not fit its config.json",
    ),
    (
        "SMOKE model.path=MODELS/lacks-weights",
        2,
        "model.path=MODELS/lacks-weights: cannot be loaded: its weights lack model.layers.4.input_layernorm.weight",
    ),
    (
        "SMOKE lora.enabled=true lora.target_modules=nolayer --dry-run",
        2,
        "lora.target_modules=nolayer: fits no linear layer of this model; use all-linear, or a list of down_proj, "
        "gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj, or a regular expression for whole names",
    ),
    (
        "sweep seed=0,1 lora.enabled=true lora.target_modules=nolayer",
        2,
        "lora.target_modules=nolayer: fits no linear layer of this model; use all-linear, or a list of down_proj, "
        "gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj, or a regular expression for whole names",
    ),
    (
        "SMOKE model.dtype=float16",
        2,
        "model.dtype=float16: weights in half precision overflow or lose their steps in training; use model.dtype=auto "
        "with trainer.fp16=true, model.dtype=bfloat16, or lora.enabled=true",
    ),
    (
        "SMOKE model.path=MODELS/no-tokenizer",
        2,
        "model.path=MODELS/no-tokenizer: cannot be loaded: it has no tokenizer that transformers can read",
    ),
    (
        "SMOKE model.path=MODELS/broken-template",
        2,
        "model: its chat template fails on the prompt: Expected an expression, got 'end of statement block'",
    ),
    (
        "SMOKE model.path=MODELS/refusing-template",
        2,
        "model: its chat template fails on the prompt: no system prompts here",
    ),
    ("SMOKE model.path=MODELS/no-end", 2, "model.path=MODELS/no-end: its tokenizer has no end-of-turn token"),
    (
        "SMOKE model.path=MODELS/foreign-model",
        2,
        "model.path=MODELS/foreign-model: cannot be loaded: it needs code of its own (trust_remote_code), which is "
        "never run",
    ),
    (
        "SMOKE model.path=MODELS/foreign-tokenizer",
        2,
        "model.path=MODELS/foreign-tokenizer: cannot be loaded: it needs code of its own (trust_remote_code), which is "
        "never run",
    ),
    (
        "SMOKE model.path=MODELS/short-context",
        2,
        "rollout.max_new_tokens=8: a prompt of frozenlake has 22 tokens and the model's context is 25: lower it to "
        "at most 3, or choose a smaller game, a shorter prompt or a model with a longer context",
    ),
    (
        "eval MODELS/short-context env=frozenlake prompt.observation=compact prompt.system=null",
        2,
        "rollout.max_new_tokens=256: a prompt of frozenlake has 22 tokens and the model's context is 25: lower it to "
        "at most 3, or choose a smaller game, a shorter prompt or a model with a longer context",
    ),
    (
        "SMOKE rollout.max_prompt_tokens=10 trainer.beta=0.1",
        2,
        "rollout.max_prompt_tokens=10: a prompt of frozenlake has 22 tokens, and prompts are never cut: raise the "
        "limit, or choose a smaller game or a shorter prompt",
    ),
    (
        "SMOKE rollout.max_new_tokens=250",
        2,
        "rollout.max_new_tokens=250: a prompt of frozenlake has 22 tokens and the model's context is 256: lower it "
        "to at most 234, or choose a smaller game, a shorter prompt or a model with a longer context",
    ),
    (
        "train model=qwen0.5b",
        1,
        "model.path=Qwen/Qwen2.5-0.5B-Instruct: not in the local cache, and HF_HUB_OFFLINE is set; give a local "
        "directory with model.path=DIR, or model.init=random for random weights",
    ),
]
GAME_ROWS = [
    ("SMOKE algo.group_size=1", 2, "algo.group_size=1: should be greater than or equal to 2"),
    ("SMOKE --GAMES env=startsdiffer", 2, f"env.name=startsdiffer: two games that are reset with seed 0 {DIFFER}"),
    ("SMOKE --GAMES env=remembers", 2, f"env.name=remembers: two games that are reset with seed 0 {DIFFER}"),
    (
        "SMOKE --GAMES env=nostatekey",
        2,
        "env.id=bad_games_of_mine:bad/NoStateKey-v0: NoStateKey has no state_key",
    ),
    (
        "SMOKE --GAMES env=onlyactions",
        2,
        "env.id=bad_games_of_mine:bad/OnlyActions-v0: OnlyActions has no new_game and no play and no describe and no "
        "rules and no state_key",
    ),
    ("SMOKE --GAMES env=noactions", 2, "env.id=bad_games_of_mine:bad/NoActions-v0: NoActions has no actions"),
    (
        "SMOKE --GAMES env=uppercase",
        2,
        "env.name=uppercase: actions: 'Left' is not read back from its own tag; use lower case words",
    ),
    (
        "SMOKE --GAMES env=actionlist",
        2,
        "env.name=actionlist: actions=['left', 'right']: must be a tuple of words, or None for free text",
    ),
    ("SMOKE env.size=3 env.p=1.0 eval.split=test", 2, f"no initial state of the test part {TOO_ALIKE}"),
    ("SMOKE --dry-run env.size=3 env.p=1.0", 2, f"no initial state of the validation part {TOO_ALIKE}"),
    ("SMOKE --GAMES env=sameactions", 2, "env.name=sameactions: actions=('left', 'left'): the same word twice"),
    (
        "SMOKE --GAMES env=nomoves",
        2,
        "env.name=nomoves: legal() is empty in a state that asks for a move; end the game there, or leave one move",
    ),
    (
        "SMOKE --GAMES env=strangemoves",
        2,
        "env.name=strangemoves: legal() holds 'jump', which is none of actions=('left', 'right', 'down', 'up')",
    ),
    ("SMOKE --GAMES env=movelist", 2, "env.name=movelist: legal() returned ['left']; it must return a tuple of words"),
    ("SMOKE --GAMES env=textkey", 2, "env.name=textkey: state_key() must return bytes, not str"),
    ("SMOKE --GAMES env=neverends", 2, "env.name=neverends: the episode did not end at max_steps=4"),
    ("eval --GAMES policy=random env=neverends", 2, "env.name=neverends: the episode did not end at max_steps=4"),
    ("SMOKE --GAMES env=raisesinplay", 2, "env.name=raisesinplay: ZeroDivisionError: division by zero"),
    ("SMOKE --GAMES env=raisesinreset", 2, "env.name=raisesinreset: RuntimeError: no map today"),
    ("SMOKE --GAMES env=raiseswithoutwords", 2, "env.name=raiseswithoutwords: KeyError"),
    ("SMOKE --GAMES env=nanreward", 2, "env.name=nanreward: the reward is nan"),
    ("SMOKE --GAMES env=infinitereward", 2, "env.name=infinitereward: the reward is inf"),
    ("SMOKE --GAMES env=textreward", 2, "env.name=textreward: the reward '1.0' is not a number"),
    ("SMOKE --GAMES env=noreward", 2, "env.name=noreward: the reward None is not a number"),
    (
        "SMOKE --GAMES env=rewardalone",
        2,
        "env.name=rewardalone: play returned 1.0; it must return the reward and a word for the end, or None",
    ),
    (
        "SMOKE --GAMES env=endswithtrue",
        2,
        "env.name=endswithtrue: the word for the end is True; play returns (reward, word), the word None meanwhile",
    ),
    ("SMOKE --GAMES env=saysnothing", 2, "env.name=saysnothing: describe('compact') must return a text, not None"),
    (
        "SMOKE --GAMES env=nocompacttext",
        2,
        "env.name=nocompacttext: TypeError: NoCompactText.describe() takes 1 positional argument but 2 were given",
    ),
    (
        "SMOKE --GAMES env=oddstates",
        2,
        "env.name=oddstates: initial_states='some': must be 'many', 'few' or 'connected'",
    ),
    (
        "SMOKE --GAMES env=cannotbemade",
        2,
        "env.id: CannotBeMade cannot be made: OSError: the board is not at home",
    ),
    (
        "SMOKE --GAMES env=speaks",
        2,
        "rollout.max_prompt_tokens=64: a prompt of speaks has 163 tokens, and prompts are never cut: raise the limit, "
        "or choose a smaller game or a shorter prompt",
    ),
    (
        "SMOKE --GAMES env=good +env.width=3",
        2,
        "env.width: unknown key: Good takes no such key (it takes longest, max_steps)",
    ),
    (
        "SMOKE --GAMES env=nowhere",
        2,
        "env.id=bad_games_of_mine:bad/Nowhere-v0: cannot import 'no_such_module_at_all:Game': "
        "No module named 'no_such_module_at_all'",
    ),
    (
        "SMOKE --GAMES env.id=sulking_module_of_mine:x",
        2,
        "env.id=sulking_module_of_mine:x: cannot import 'sulking_module_of_mine': RuntimeError: not today",
    ),
    (
        "SMOKE --GAMES env.id=broken_module_of_mine:x",
        2,
        "env.id=broken_module_of_mine:x: cannot import 'broken_module_of_mine': SyntaxError: "
        "invalid syntax (broken_module_of_mine.py, line 1)",
    ),
    (
        "SMOKE env.id=.:x",
        2,
        "env.id=.:x: cannot import '.': TypeError: the 'package' argument is required to perform a relative import for "
        "'.'",
    ),
    ("SMOKE env.id=:x", 2, "env.id=:x: cannot import '': ValueError: Empty module name"),
]
LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
BROKEN = "prompt: the prompt template is broken"
MAY_USE = "it may use rules, actions, legal, max_steps and observation"
VALUE_ROWS = [
    ("train --resume 'no\nsuch'", 2, rf"'no\nsuch': {NO_RUN}"),
    ("eval 'no\nsuch'", 2, rf"'no\nsuch': {NO_RUN}"),
    ("train 'seed=a\nb'", 2, r"'seed=a\nb': not an override KEY=VALUE"),
    ("train ''", 2, "'': not an override KEY=VALUE"),
    ("export RUNS/whole RUNS", 2, "RUNS: not empty; give a new folder"),
    (
        "SMOKE hydra.run.dir=RUNS/whole/checkpoints/..",
        2,
        "hydra.run.dir=RUNS/whole/checkpoints/..: holds a run already; go on with msgrpo train --resume "
        "RUNS/whole/checkpoints/..",
    ),
    (
        "SMOKE hydra.run.dir=RUNS/rows-alone",
        2,
        "hydra.run.dir=RUNS/rows-alone: holds checkpoints, which is no run's and would be overwritten; give another "
        "directory",
    ),
    (
        "sweep seed=range(0,100000000) --dry-run",
        2,
        "seed=range(0,100000000): more than 10000 jobs; sweep over less at a time",
    ),
    (f"SMOKE \"prompt.user='{LOOPS}'\"", 2, f"{BROKEN}: loops of more than 100000 rounds; {MAY_USE}"),
    (
        "SMOKE \"prompt.user='{{ actions * 1000000 }}'\"",
        2,
        f"{BROKEN}: a product of more than 100000 characters or items; {MAY_USE}",
    ),
    ("SMOKE \"prompt.user='{{ 10 ** 99999999 }}'\"", 2, f"{BROKEN}: a power that is too large; {MAY_USE}"),
    (
        "SMOKE \"prompt.user='{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}'\"",
        2,
        f"{BROKEN}: maximum recursion depth exceeded<more>; {MAY_USE}",
    ),
    (
        f"SMOKE seed={'9' * 5000}",
        2,
        f"seed={'9' * 75}: not an override KEY=VALUE; Exceeds the limit (4300 digits) for integer string conversion: "
        "value has 5000 digits<more>",
    ),
    ("SMOKE env.name=../x", 2, f"env.name=../x: {TO_PATH}"),
    ("SMOKE env.name=..", 2, f"env.name=..: {TO_PATH}"),
    ("SMOKE env.name=/etc/passwd", 2, f"env.name=/etc/passwd: {TO_PATH}"),
    ("SMOKE model.name=a/b", 2, f"model.name=a/b: {TO_PATH}"),
    ("SMOKE model.name=", 2, f"model.name=: {TO_PATH}"),
    (
        "SMOKE hydra.run.dir=RUNS/whole",
        2,
        "hydra.run.dir=RUNS/whole: holds a run already; go on with msgrpo train --resume RUNS/whole",
    ),
    ("SMOKE trainer.top_entropy_quantile=5", 2, "trainer.top_entropy_quantile=5: must be between 0 and 1"),
    ("SMOKE trainer.adam_beta1=2", 2, "trainer.adam_beta1=2: must be at least 0 and below 1"),
    ("SMOKE trainer.adam_beta2=1", 2, "trainer.adam_beta2=1: must be at least 0 and below 1"),
    ("SMOKE trainer.adam_epsilon=-1e-8", 2, "trainer.adam_epsilon=-1e-08: must be at least 0"),
    ("SMOKE trainer.learning_rate=-1e-4", 2, "trainer.learning_rate=-0.0001: must be at least 0"),
    ("SMOKE trainer.learning_rate=inf", 2, "trainer.learning_rate=inf: must be finite"),
    ("SMOKE trainer.learning_rate=nan", 2, "trainer.learning_rate=nan: must be finite"),
    ("SMOKE trainer.weight_decay=-1", 2, "trainer.weight_decay=-1: must be at least 0"),
    ("SMOKE trainer.warmup_steps=-3", 2, "trainer.warmup_steps=-3: must be at least 0"),
    ("SMOKE trainer.num_iterations=0", 2, "trainer.num_iterations=0: must be at least 1"),
    (
        "SMOKE trainer.dataloader_num_workers=-1",
        2,
        "trainer.dataloader_num_workers=-1: not supported: there is no dataset: rows come from playing",
    ),
    (
        "SMOKE trainer.importance_sampling_level=word",
        2,
        "trainer.importance_sampling_level=word: not one of token, sequence",
    ),
    (
        "SMOKE trainer.optim=adamw_trch",
        2,
        "trainer.optim=adamw_trch: not one of <names>; did you mean 'adamw_torch'?",
    ),
    (
        "SMOKE trainer.optim=lomo",
        2,
        "trainer.optim=lomo: the package lomo_optim is not installed",
    ),
    (
        "sweep seed=0,1 trainer.optim=galore_adamw",
        2,
        "trainer.optim=galore_adamw: the package galore_torch is not installed",
    ),
    (
        "SMOKE trainer.lr_scheduler_type=reduce_lr_on_plateau",
        2,
        "trainer.lr_scheduler_type=reduce_lr_on_plateau: not supported: it waits for evaluations of TRL's own, and "
        "there are none",
    ),
    (
        "SMOKE trainer.lr_scheduler_kwargs.min_lr=0.1",
        2,
        "trainer.lr_scheduler_kwargs.min_lr=0.1: unknown key 'trainer.lr_scheduler_kwargs'; what is not listed there "
        "is added with +trainer.lr_scheduler_kwargs.min_lr=0.1",
    ),
    *(
        (
            f"{command} model.attn_implementation=flash_attention_2",
            2,
            f"model.path={path}: cannot be {verb}: FlashAttention2 has been toggled on, but it cannot be used "
            "due to the following error: <more>",
        )
        for command, path, verb in (
            ("SMOKE", "embedded:tiny", "loaded"),
            ("SMOKE model=tiny_random", "embedded:tiny_random", "loaded"),
            ("SMOKE model=qwen2-30m", "qwen2-30m", "made"),
            ("eval eval.episodes=4", "embedded:tiny", "loaded"),
        )
    ),
    (
        "SMOKE trainer.optim_args=a",
        2,
        "trainer.optim_args=a: changes nothing with trainer.optim=adamw_torch; leave it out",
    ),
    *(
        (
            f"SMOKE --from nowhere {given}",
            2,
            f"{given}: changes nothing beside --from, which names the weights; leave one out",
        )
        for given in ("model.path=somewhere", "++model.revision=main", "model.init=random")
    ),
    ("SMOKE trainer.optim=sgd trainer.optim_args=foo", 2, "trainer: not enough values to unpack (expected 2, got 1)"),
    (
        "SMOKE trainer.lr_scheduler_type=cosine_with_min_lr",
        2,
        "trainer.lr_scheduler_type=cosine_with_min_lr: One of min_lr or min_lr_rate should be set through the "
        "`lr_scheduler_kwargs`; what a schedule takes is given as +trainer.lr_scheduler_kwargs.KEY=VALUE",
    ),
    ("SMOKE trainer.lr_scheduler_type=wavy", 2, "trainer.lr_scheduler_type=wavy: not one of <names>"),
    (
        "SMOKE +trainer.lr_scheduler_kwargs={foo:1} trainer.lr_scheduler_type=linear",
        2,
        "trainer.lr_scheduler_type=linear with trainer.lr_scheduler_kwargs={'foo': 1}: "
        "get_linear_schedule_with_warmup() got an unexpected keyword argument 'foo'; what a schedule takes is given as "
        "+trainer.lr_scheduler_kwargs.KEY=VALUE",
    ),
    (
        "SMOKE trainer.log_level=loud",
        2,
        "trainer.log_level=loud: not one of debug, info, warning, error, critical, passive",
    ),
    (
        "SMOKE trainer.deepspeed=none.json",
        2,
        "trainer.deepspeed=none.json: not set here; this belongs to the engine block",
    ),
    (
        "SMOKE trainer.use_liger_kernel=true",
        2,
        "trainer.use_liger_kernel=true: the package liger_kernel is not installed",
    ),
    (
        "SMOKE trainer.push_to_hub=true",
        2,
        "trainer.push_to_hub=True: not set here; this belongs to you, with the hub's own tools: hf upload ID "
        "RUN/checkpoints/...",
    ),
    (
        "SMOKE trainer.debug=foo",
        2,
        "trainer: foo is not a valid DebugOption, please select one of ['underflow_overflow', 'tpu_metrics_debug']",
    ),
    (
        "SMOKE trainer.reward_weights=[1,2]",
        2,
        "trainer.reward_weights=[1, 2]: not supported: rewards come from the game, and advantages from the algo block",
    ),
    ("SMOKE max_hours=0", 2, "max_hours=0: should be greater than 0"),
    ("SMOKE max_hours=nan", 2, "max_hours=nan: should be a finite number"),
    ("SMOKE rollout.temperature=nan", 2, "rollout.temperature=nan: should be less than or equal to 100"),
    (
        "SMOKE model.dtype=float8",
        2,
        "model.dtype=float8: should be 'auto', 'float32', 'bfloat16' or 'float16'; did you mean 'float32'?",
    ),
    (
        "SMOKE 'model.path=${oc.env:NOBODY_SETS_THIS}'",
        2,
        "model.path: KeyError raised while resolving interpolation: "
        "\"Environment variable 'NOBODY_SETS_THIS' not found\"",
    ),
    ("SMOKE seed", 2, "seed: not an override KEY=VALUE"),
    ("SMOKE ''", 2, "'': not an override KEY=VALUE"),
    ("SMOKE ~seed", 2, "seed: missing; give seed=..."),
    ("SMOKE seed=1e400", 2, "seed=inf: should be a valid integer"),
    (
        "SMOKE env=''",
        2,
        f"env=: no '' in config group 'env' (available: {', '.join(options_of('env'))}); a game of your own: "
        "--config-dir DIR, or the variable MSGRPO_CONFIG_DIR",
    ),
    ("SMOKE --config-dir RUNS/whole/config.yaml", 2, "RUNS/whole/config.yaml: no such config folder"),
]
ROWS = [*RUN_ROWS, *MODEL_ROWS, *GAME_ROWS, *VALUE_ROWS]


@pytest.mark.parametrize(("command", "code", "line"), ROWS)
def test_one_line_and_nothing_on_disk(
    command: str,
    code: int,
    line: str,
    stock: Stock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = snapshot(tmp_path), snapshot(stock.models.parent)
    ended, lines = said_by(command, stock, monkeypatch, capsys)
    for name in ("models", "runs", "games"):
        line = line.replace(name.upper(), str(getattr(stock, name)))
    pattern = re.escape(line).replace("<number>", r"\d+").replace("<names>", r"[\w, ]+").replace("<more>", ".*")
    assert len(lines) == 1 and re.fullmatch(pattern, lines[0]), lines
    assert ended == code
    assert (snapshot(tmp_path), snapshot(stock.models.parent)) == before
    assert "trap_of_theirs" not in sys.modules


def test_the_table_is_long_enough() -> None:
    assert len({command for command, _, _ in ROWS}) == len(ROWS) >= 60


def record_of(folder: Path) -> dict[str, object]:
    """The record of the one run that lies in `outputs/`."""
    (file,) = folder.glob("outputs/*/*/run.json")
    record: dict[str, object] = json.loads(file.read_text())
    return record


@pytest.mark.parametrize(
    ("game", "line"),
    [
        (
            "laterraises",
            "game laterraises: LookupError: the corridor has caved in, at step 1 of the episode with seed S",
        ),
        ("laternan", "game laternan: the reward is nan, at step 1 of the episode with seed S"),
        (
            "laterendless",
            "game laterendless: the episode did not end at max_steps=4, at step 5 of the episode with seed S",
        ),
        (
            "laterdiffers",
            "game laterdiffers: the members of group 0 start from 4 different states with seed S; new_game must draw "
            "everything from the generator it is given",
        ),
        ("laterparses", "game LaterParses: ValueError: what?, in parse, at the decision (0, 1, 0, 0, 0)"),
    ],
)
def test_a_game_that_fails_while_it_is_played(
    game: str,
    line: str,
    stock: Stock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The run has begun: it ends as failed, says which game, step and seed, and can be looked at."""
    code, lines = said_by(f"SMOKE --GAMES env={game}", stock, monkeypatch, capsys)
    assert code == 1 and len(lines) == 1
    assert re.fullmatch(re.escape(line).replace("seed\\ S", r"seed\ \d+"), lines[0]), lines
    record = record_of(tmp_path)
    assert record["status"] == "failed" and str(record["error"]).endswith(lines[0])


def test_code_of_a_checkpoint_never_runs(
    stock: Stock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Llama whose config names code of its own is loaded as the Llama that transformers knows."""
    for name, code in (("foreign-model", 2), ("foreign-tokenizer", 2), ("foreign-llama", 0)):
        folder = stock.models / name
        assert (folder / "foreign.py").is_file()
        assert run(monkeypatch, "eval", str(folder), "env=frozenlake", "eval.episodes=2", *COMPACT) == code
        assert not (folder / "ran").exists()


@pytest.mark.slow
def test_odd_names_of_models_runs_and_folders(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blanks, quotes and letters of other scripts: as a model, a place for the run, a config folder, a run."""
    model, odd_run = stock.models / 'it\'s a "mödel" 模型', "naïve run's “home”"
    games = write_games(tmp_path / "mes jeux d'été")
    smoke = [*shlex.split(SMOKE)[1:], "--config-dir", str(games), "env=good"]
    assert run(monkeypatch, "train", *smoke, f"model.path={model}", f"hydra.run.dir={odd_run}") == 0
    assert Path(capsys.readouterr().out.removesuffix("\n")).samefile(tmp_path / odd_run)
    allowed = ["--config-dir", str(games), "--allow-module", "bad_games_of_mine"]
    assert run(monkeypatch, "eval", odd_run, "eval.episodes=2", *allowed) == 0
    assert run(monkeypatch, "train", "--resume", odd_run, "max_updates=2", *allowed) == 0
    assert run(monkeypatch, "train", *smoke, "--from", odd_run, "hydra.run.dir=next") == 0
    assert run(monkeypatch, "eval", str(model), "env=frozenlake", "eval.episodes=2", *COMPACT) == 0


def test_a_run_directory_behind_a_link(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is resumed and scored where it lies, and the link stays a link."""
    place, link = tmp_path / "disk" / "run", tmp_path / "link"
    shutil.copytree(stock.runs / "whole", place)
    link.symlink_to(place)
    assert run(monkeypatch, "train", "--resume", "link", "max_updates=4") == 0
    assert capsys.readouterr().out == f"{link}\n"
    assert run(monkeypatch, "eval", "link", "eval.episodes=2") == 0
    assert link.is_symlink() and sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]
    assert json.loads((place / "run.json").read_text())["status"] == "done"
    assert (place / "checkpoints" / "checkpoint-4").is_dir() and len(list((place / "eval").iterdir())) > 4


def test_a_model_without_padding_token_trains(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its end-of-turn token pads, under a mask."""
    assert run(monkeypatch, *shlex.split(SMOKE), f"model.path={stock.models / 'no-padding'}") == 0
    assert record_of(tmp_path)["status"] == "done"


def test_a_folder_that_was_there_stays(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    model = f"model.path={stock.models / 'no-tokenizer'}"
    assert run(monkeypatch, *shlex.split(SMOKE), model, "hydra.run.dir=mine/deep/er/run") == 2
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["mine"]


def test_weights_from_elsewhere_need_no_hub(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model of the config is not asked for where `--from` replaces its weights."""
    smoke = [*shlex.split(SMOKE), "model=qwen0.5b", *COMPACT]
    assert run(monkeypatch, *smoke, "--from", str(stock.models / "good")) in (0, 2)
    assert "HF_HUB_OFFLINE" not in capsys.readouterr().err


def test_a_clock_that_jumps_changes_no_duration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set back by a year and forward by ten: the seconds of the process and the limit of hours do not notice."""
    place = Run(tmp_path / "run")
    place.create(command=[], overrides=[], config="")
    before = time.monotonic()
    seconds = []
    for jump in (-3e7, 3e8):
        monkeypatch.setattr(time, "time", lambda jump=jump, real=time.time: real() + jump)
        with heeding(1.0, lambda: None):
            safe_point()
        place.finish("done")
        seconds.append(place.record()["process_wall_seconds"])
    assert 0 < seconds[0] <= seconds[1] <= seconds[0] + (time.monotonic() - before) + 0.1
    assert seconds[0] < time.clock_gettime(time.CLOCK_MONOTONIC)
