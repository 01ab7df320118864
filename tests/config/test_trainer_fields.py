"""The trainer block: the generated file agrees with the live GRPOConfig, and refusals name the owner."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import pytest

from msgrpo_cli.config import trainer_fields
from msgrpo_cli.config.trainer_refused import OWNERS, REASONS, owner
from support.places import ROOT


def test_the_generated_file_is_the_live_class() -> None:
    from msgrpo_cli.training.fields import generate, page

    live = json.loads(json.dumps(generate()))
    pinned = (ROOT / "constraints.txt").read_text().split()
    if f"transformers=={version('transformers')}" not in pinned:  # it has other fields; TRL refuses those it lacks
        pytest.skip("generated with another release of transformers")
    assert trainer_fields.fields() == live, "run: python -m msgrpo_cli.training.fields"
    assert (ROOT / "docs" / "trainer.md").read_text(encoding="utf-8") == page(), "run the same"


def test_every_owned_field_exists() -> None:
    assert [name for name in OWNERS if name not in trainer_fields.fields()] == []


def test_a_field_that_nothing_could_honour_is_refused_with_its_reason_but_for_trl_s_own_default() -> None:
    for name, reason in REASONS.items():
        default = trainer_fields.fields()[name]["default"]
        assert owner(name) is None and trainer_fields.problems({name: default}) == []
        assert trainer_fields.problems({name: "other"}) == [f"trainer.{name}=other: not supported: {reason}"]


def test_an_entropy_bonus_over_chosen_tokens_is_refused() -> None:
    for name, value in (("entropy_coef", 0.1), ("use_adaptive_entropy", True)):
        [line] = trainer_fields.problems({"top_entropy_quantile": 0.2, name: value})
        assert line.startswith("trainer.top_entropy_quantile=0.2: not supported with trainer.") and name in line
    assert trainer_fields.problems({"top_entropy_quantile": 0.2, "entropy_coef": 0.0}) == []


def test_what_the_interface_refuses_is_refused() -> None:
    refused = (  # noqa: SIM905 - a list of words
        "num_generations scale_rewards loss_type generation_batch_size steps_per_generation "
        "gradient_accumulation_steps max_steps output_dir logging_steps logging_nan_inf_filter log_completions "
        "save_steps save_strategy save_total_limit eval_steps eval_strategy do_eval num_train_epochs "
        "num_generations_eval remove_unused_columns seed data_seed resume_from_checkpoint temperature top_p top_k "
        "min_p repetition_penalty generation_kwargs max_completion_length"
    ).split()
    assert [name for name in refused if owner(name) is None] == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("num_generations", 4, "trainer.num_generations=4: not set here; this belongs to algo.group_size"),
        ("temperature", 1.0, "trainer.temperature=1.0: not set here; this belongs to rollout.temperature"),
        ("save_steps", 5, "trainer.save_steps=5: not set here; this belongs to the save block"),
        ("beta", "x", "trainer.beta=x: must be float"),
        ("beta", -0.1, "trainer.beta=-0.1: must be at least 0"),
        ("beta", [0, 1], "trainer.beta=[0, 1]: must be float; to run each value use msgrpo sweep trainer.beta=0,1"),
        ("num_iterations", True, "trainer.num_iterations=True: must be int"),
        (
            "learning_rat",
            1.0,
            "trainer.learning_rat: unknown key: TRL's GRPOConfig has no such field; "
            "did you mean 'trainer.learning_rate'?",
        ),
        ("learning_rate", "???", "trainer.learning_rate: missing; give trainer.learning_rate=..."),
        (
            "report_to",
            "wand",
            "trainer.report_to=wand: not one of none, trackio, tensorboard, wandb, mlflow; did you mean 'wandb'?",
        ),
    ],
)
def test_mistakes(name: str, value: Any, reason: str) -> None:
    assert trainer_fields.problems({name: value}) == [reason]


def test_what_is_taken() -> None:
    assert trainer_fields.problems({"learning_rate": None, "beta": 0, "bf16": None, "epsilon_high": 0.28}) == []
    assert trainer_fields.problems({"lr_scheduler_type": "cosine", "importance_sampling_level": "sequence"}) == []


def test_what_recomputes_activations_gets_what_torch_takes_and_nothing_else() -> None:
    from torch.utils.checkpoint import checkpoint

    said = "trainer.gradient_checkpointing_kwargs."
    wrong = {
        "use_rentrant": (
            False,
            f"{said}use_rentrant: unknown key: torch's checkpoint takes use_reentrant, preserve_rng_",
        ),
        "debug": ("yes", f"{said}debug=yes: must be true or false"),
        "determinism_check": ("nine", f"{said}determinism_check=nine: not one of default, none"),
    }
    for name, (value, begins) in wrong.items():
        [line] = trainer_fields.problems({"gradient_checkpointing_kwargs": {name: value}})
        assert line.startswith(begins)
    [line] = trainer_fields.problems({"gradient_checkpointing_kwargs": {"use_reentrant": True, "debug": True}})
    assert line == f"{said}debug=true: torch takes it with use_reentrant=false alone"
    taken: dict[str, Any] = {
        "use_reentrant": False, "preserve_rng_state": False, "determinism_check": "none", "debug": False,
        "early_stop": False,
    }  # fmt: skip
    assert trainer_fields.problems({"gradient_checkpointing_kwargs": taken}) == []
    assert checkpoint(lambda value: value + 1, 1, **taken) == 2, "torch takes each of them"
