"""The model card beside a checkpoint: what was trained, from what, on which game, with which result.

Knows configs, plain values and Markdown. Knows nothing about models or how the values came about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from msgrpo_cli.common.numbers import estimate
from msgrpo_cli.config.schema import RunConfig

from .directory import Run
from .license import license_of
from .pretrained import EMBEDDED

_PAPER = "[Reinforced Language Models for Sequential Decision Making](https://arxiv.org/abs/2508.10839)"


@dataclass(frozen=True)
class _Kind:
    """What the card says differently of a whole model and of an adapter."""

    library: str
    use: str


_WHOLE = _Kind("transformers", "With plain transformers.")
_ADAPTER = _Kind(
    "peft",
    "An adapter: transformers loads it onto its base, which it finds through `adapter_config.json`, where peft is "
    "installed.",
)

_LOAD = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

path = "."  # the directory that holds this card
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path)
messages = [{"role": "user", "content": "..."}]  # prompt template: msgrpo.json
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=True, temperature=1.0, top_p=1.0, top_k=0)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""


def model_card(
    *,
    base_model: str,
    env: str,
    env_keys: Mapping[str, Any],
    algorithm: Mapping[str, Any],
    update: int,
    evaluation: Mapping[str, Any] | None = None,
    base_license: Mapping[str, str] | None = None,
    embedded: bool = False,
    adapter: bool = False,
    max_new_tokens: int = 256,
    turns: Sequence[tuple[str, str]] = (),
    answer_prefix: str | None = None,
) -> str:
    """Markdown with YAML front matter.

    `base_model`: hub id or directory (of which only the name is told, for a card travels). `update`: updates done.
    `evaluation`: an evaluation JSON object, or None where there is none yet. `base_license`: what the base's own front
    matter says (`license`, `license_name`, ...); where it is None the card names none, since ours is not the base's.
    `embedded`: the base ships with msgrpo. `turns`: the worked turns of every prompt, each a state and an action;
    `answer_prefix`: what every answer was begun with. `adapter`: the weights are an adapter's, which needs its base;
    see `merged_card`.
    """
    base, kind = _public_name(base_model), _ADAPTER if adapter else _WHOLE
    parts = [
        _front_matter(base, base_license, kind, f"{base.rpartition('/')[2]} on {env}", _eval_results(env, evaluation)),
        f"# {base}, post-trained to play {env}" if update else f"# {base}, before training to play {env}",
        _summary(base, env, update),
        "## Game",
        _table(("key", "value"), [("env", env), *env_keys.items()]),
        "## Algorithm",
        _table(("setting", "value"), [("updates done", update), *algorithm.items()]),
        "## Result",
        _result(evaluation),
        "## Use",
        f"{kind.use} The prompt template, the sampling settings and the game are in `msgrpo.json`; the result above "
        "holds for these only.",
        *_begun(turns, answer_prefix),
        _LOAD.replace("MAX_NEW_TOKENS", str(max_new_tokens)),
        "## Limits",
        _limits(env, base, embedded),
        "## License",
        _license(base, base_license, embedded),
    ]
    return "\n\n".join(parts) + "\n"


def merged_card(card: str) -> str:
    """The card of an adapter as that of the whole model into which it was merged."""
    library = "library_name: {}"
    card = card.replace(library.format(_ADAPTER.library), library.format(_WHOLE.library), 1)
    return card.replace(_ADAPTER.use, _WHOLE.use, 1)


def _summary(base: str, env: str, update: int) -> str:
    if update == 0:
        return f"The untrained start of a run of `msgrpo` on the text game `{env}`: `{base}` as it was."
    count = "1 update" if update == 1 else f"{update} updates"
    return f"`{base}`, post-trained by `msgrpo` with MS-GRPO ({_PAPER}) for {count} on the text game `{env}`."


def _public_name(base_model: str) -> str:
    """Hub ids stay; of an absolute path only the last part is told."""
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(base_model)
        if path.is_absolute() or base_model.startswith("~"):
            return path.name
    return base_model


def _eval_results(env: str, evaluation: Mapping[str, Any] | None) -> list[EvalResult]:
    """The result as the hub reads it; none where there is none yet."""
    if evaluation is None:
        return []
    names = {
        "mean_total_reward": "mean total reward, sampled",
        "success_rate": "success rate, sampled",
        "greedy_success_rate": "success rate, greedy decoding",
        "normalized_score": "normalised score (random 0, optimal 1)",
    }
    return [
        EvalResult(
            task_type="reinforcement-learning",
            task_name="text game",
            dataset_type=env,
            dataset_name=env,
            dataset_split=str(evaluation.get("split")),
            metric_type=key,
            metric_name=name,
            metric_value=evaluation[key],
        )
        for key, name in names.items()
        if evaluation.get(key) is not None
    ]


def _front_matter(
    base: str, base_license: Mapping[str, str] | None, kind: _Kind, name: str, results: list[EvalResult]
) -> str:
    """`name` and `results` become the `model-index`, so without results neither is told."""
    license_ = base_license or {}
    data = ModelCardData(
        base_model=base,
        library_name=kind.library,
        license=license_.get("license"),
        license_name=license_.get("license_name"),
        license_link=license_.get("license_link"),
        pipeline_tag="text-generation",
        tags=["msgrpo"],
        model_name=name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _table(heading: tuple[str, str], rows: Sequence[tuple[str, Any]]) -> str:
    lines = [f"| {heading[0]} | {heading[1]} |", "|---|---|"]
    for name, value in rows:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        lines.append(f"| `{name}` | {' '.join(text.split()).replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def _seat(player: str) -> str:
    """Who sat there; of a checkpoint its run and name, and not where they lay."""
    return "/".join(PurePosixPath(player).parts[-3:])


def _result(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None:
        return "Not evaluated yet."
    e = evaluation
    rows: list[tuple[str, Any]] = []
    if e.get("success_rate") is not None:
        rows.append(("success rate, sampled", _number(e["success_rate"], e.get("success_ci95"))))
    if e.get("greedy_success_rate") is not None:
        rows.append(("success rate, greedy decoding", _number(e["greedy_success_rate"])))
    if e.get("seats"):
        rows.append(("seats, moved on by one from start to start", ", ".join(map(_seat, e["seats"]))))
    rows.append(("mean total reward, sampled", _number(e.get("mean_total_reward"), e.get("mean_total_reward_ci95"))))
    for key, name in (("random_score", "random play"), ("base_score", "the base"), ("optimal_score", "optimal play")):
        if e.get(key) is not None:
            rows.append((f"mean total reward of {name}", _number(e[key])))
    if e.get("normalized_score") is not None:
        rows.append(("normalised score (random 0, optimal 1)", _number(e["normalized_score"])))
    lines = ["| measure | value [95 % interval] |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return f"{_starts(e)}\n\n" + "\n".join(lines)


def _starts(evaluation: Mapping[str, Any]) -> str:
    split, starts = evaluation.get("split"), evaluation.get("overlap_with_training")
    decisions = evaluation.get("overlap_of_decisions")
    part = "not held out from training" if split == "any" else f"{split} part of the state space"
    count = f"{evaluation.get('episodes')} episodes from {evaluation.get('distinct_initial_states')} distinct starts"
    if evaluation.get("not_held_out"):
        part += f", but of {' and '.join(evaluation['not_held_out'])} none is held out"
    measured = ""
    if starts is not None and decisions is not None:  # the latter is not in runs of before it existed
        seen = f"{100 * starts:.1f} % of the starts and {100 * decisions:.1f} % of all decisions"
        measured = f" {seen} read as in training; what the base had seen before is not counted."
    return f"On `{evaluation.get('env')}`: {count}, {part}.{measured}"


def _number(value: float | None, ends: Sequence[float] | None = None) -> str:
    return "unknown" if value is None else estimate(value, (ends[0], ends[1]) if ends else None)


def _limits(env: str, base: str, embedded: bool) -> str:
    lines = [
        f"- Trained to answer with an action of `{env}` from the current state alone; nothing else was measured.",
        "- Other prompts, sampling settings or game keys than those in `msgrpo.json` may score differently.",
    ]
    if embedded:
        lines.append(
            f"- The base `{base}` ships with `msgrpo` as a stand-in for pretraining: it has seen nothing but the games "
            "that it imitated, speaks no language and knows nothing else. Results with it tell about the algorithm, "
            "not about language models."
        )
    else:
        lines.append(f"- What `{base}` does wrong elsewhere, this model most likely does too.")
    return "\n".join(lines)


def _begun(turns: Sequence[tuple[str, str]], prefix: str | None) -> list[str]:
    shown = "\n\n".join(f"{state}\n<action>{action}</action>" for state, action in turns)
    return [
        *([f"Before the present state every prompt shows these worked turns:\n\n```\n{shown}\n```"] if turns else []),
        *([f"Every answer was begun for it with `{prefix}`."] if prefix else []),
    ]


def _license(base: str, base_license: Mapping[str, str] | None, embedded: bool) -> str:
    if base_license is None:
        return f"These weights derive from `{base}`, whose licence applies; it is not known to this card."
    name, link = base_license.get("license_name", base_license["license"]), base_license.get("license_link")
    whose = "`msgrpo`'s own, as the base is part of it" if embedded else "its licence"
    return f"These weights derive from `{base}` and stay under {whose}: {name}{f' ({link})' if link else ''}."


@dataclass
class ModelCards:
    """The cards of one run's checkpoints."""

    config: RunConfig
    run: Run

    def of(self, update: int, evaluation: Mapping[str, Any] | None) -> str:
        """The card of the weights after `update`, with their evaluation where there is one yet."""
        config = self.config
        adapter = config.lora.model_dump(include={"r", "alpha", "target_modules", "quantization"})
        return model_card(
            base_model=config.model.path,
            env=config.env.name,
            env_keys=config.env.keys,
            algorithm={**config.algo.model_dump(exclude_none=True), "learning_rate": config.trainer["learning_rate"]}
            | ({"lora": adapter} if config.lora.enabled else {}),
            update=update,
            evaluation=evaluation,
            base_license=self._base_license,
            adapter=config.lora.enabled,
            embedded=config.model.path.startswith(EMBEDDED),
            max_new_tokens=config.rollout.max_new_tokens,
            turns=[(turn.state, turn.action) for turn in config.prompt.example_turns or []],
            answer_prefix=config.prompt.answer_prefix,
        )

    @cached_property
    def _base_license(self) -> dict[str, str] | None:
        """Looked up once for a run: when it is resumed its base may be out of reach."""
        known: dict[str, str] | None = self.run.record().get("base_license")
        if known is None and (known := license_of(self.config.model)) is not None:
            self.run.update_record(base_license=known)
        return known
