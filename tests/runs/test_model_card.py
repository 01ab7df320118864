"""The model card: its front matter, its result, and what it must not claim."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import yaml

from msgrpo_cli.runs.model_card import merged_card, model_card

RESULT = {
    "env": "frozenlake",
    "episodes": 500,
    "distinct_initial_states": 308,
    "split": "test",
    "overlap_with_training": 0.0,
    "overlap_of_decisions": 0.034,
    "success_rate": 0.902,
    "success_ci95": [0.873, 0.925],
    "mean_total_reward": 0.9,
    "mean_total_reward_ci95": [0.871, 0.924],
    "normalized_score": 0.899,
    "random_score": 0.01,
    "base_score": 0.381,
    "optimal_score": 1.0,
    "greedy_success_rate": 0.912,
}


def card(**changes: Any) -> str:
    values: dict[str, Any] = {
        "base_model": "Qwen/Qwen2.5-3B-Instruct",
        "env": "frozenlake",
        "env_keys": {"size": 4, "p": 0.8, "slippery": False},
        "algorithm": {"credit": "episode", "group_size": 16},
        "update": 60,
        "evaluation": RESULT,
    }
    return model_card(**(values | changes))


def front_matter(text: str) -> dict[str, Any]:
    opening, block, _ = text.split("---\n", 2)
    assert opening == ""
    loaded: dict[str, Any] = yaml.safe_load(block)
    return loaded


def test_front_matter() -> None:
    about = {
        "base_model": "Qwen/Qwen2.5-3B-Instruct",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["msgrpo"],
    }
    assert front_matter(card(evaluation=None)) == about
    [index] = front_matter(card()).pop("model-index")
    assert index["name"] == "Qwen2.5-3B-Instruct on frozenlake"
    assert [(metric["type"], metric["value"]) for metric in index["results"][0]["metrics"]] == [
        ("mean_total_reward", 0.9),
        ("success_rate", 0.902),
        ("greedy_success_rate", 0.912),
        ("normalized_score", 0.899),
    ]


def test_licence_is_that_of_the_base_or_none() -> None:
    assert front_matter(card(base_license={"license": "llama3.2"}))["license"] == "llama3.2"
    assert "stay under its licence: llama3.2." in card(base_license={"license": "llama3.2"})
    assert "license" not in front_matter(card())
    assert "not known to this card" in card()
    assert "apache" not in card().lower()


def test_a_licence_of_its_own_keeps_its_name_and_link() -> None:
    stated = {"license": "other", "license_name": "some-research", "license_link": "https://example.org/license"}
    text = card(base_license=stated)
    assert {key: front_matter(text)[key] for key in stated} == stated
    assert "stay under its licence: some-research (https://example.org/license)." in text


def test_an_embedded_base_is_under_our_licence_and_says_so() -> None:
    text = card(base_model="embedded:tiny", embedded=True, base_license={"license": "apache-2.0"})
    assert "stay under `msgrpo`'s own, as the base is part of it: apache-2.0." in text


@pytest.mark.parametrize("path", ["/data/someone/models/my-base", "C:\\someone\\my-base", "~/someone/my-base"])
def test_no_machine_path_is_told(path: str) -> None:
    text = card(base_model=path)
    assert front_matter(text)["base_model"] == "my-base"
    assert "someone" not in text


def test_odd_names_keep_the_front_matter_whole() -> None:
    assert front_matter(card(base_model='a: "b" #c'))["base_model"] == 'a: "b" #c'


def test_what_was_trained_on_what() -> None:
    text = card()
    assert "for 60 updates on the text game `frozenlake`" in text
    assert "for 1 update on" in card(update=1)
    for line in ("| `size` | 4 |", "| `slippery` | false |", "| `credit` | episode |", "| `group_size` | 16 |"):
        assert line in text


def test_untrained_start_does_not_claim_training() -> None:
    text = card(update=0)
    assert "untrained start" in text
    assert "post-trained" not in text


def test_result_has_interval_and_split() -> None:
    text = card()
    assert "500 episodes from 308 distinct starts, test part of the state space" in text
    assert "0.0 % of the starts and 3.4 % of all decisions read as in training" in text
    assert "| success rate, sampled | 0.902 [0.873, 0.925] |" in text
    assert "| success rate, greedy decoding | 0.912 |" in text
    assert "| mean total reward of the base | 0.381 |" in text


def test_split_any_is_not_called_held_out() -> None:
    text = card(evaluation=RESULT | {"split": "any", "overlap_with_training": 0.63})
    assert "not held out from training. 63.0 % of the starts" in text


def test_result_without_success_or_score() -> None:
    unknown = {"success_rate": None, "greedy_success_rate": None, "normalized_score": None, "optimal_score": None}
    text = card(evaluation=RESULT | unknown)
    assert "success rate" not in text
    assert "normalised" not in text
    assert "optimal play" not in text


def test_no_result_yet() -> None:
    assert "Not evaluated yet." in card(evaluation=None)


def test_an_adapter_says_so_until_it_is_merged() -> None:
    adapter, whole = card(adapter=True), card()
    assert front_matter(adapter)["library_name"] == "peft" and "adapter_config.json" in adapter
    assert merged_card(adapter) == whole != adapter
    assert merged_card(whole) == whole


def test_only_embedded_bases_are_stand_ins() -> None:
    assert "a stand-in for pretraining" in card(base_model="tiny", embedded=True)
    assert "a stand-in for pretraining" not in card()


def test_loading_code_is_python_and_plain_transformers() -> None:
    code = card(max_new_tokens=8).split("```python\n")[1].split("```")[0]
    modules = [node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    assert modules == ["transformers"]
    assert "max_new_tokens=8" in code


def test_bars_and_lines_in_values_keep_the_table_whole() -> None:
    assert "| `legend` | a \\| b c |" in card(env_keys={"legend": "a | b\nc"})
