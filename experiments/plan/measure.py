"""Peak memory as `msgrpo plan` foresees it beside what its probe measures, for a random Qwen2 of 300M parameters.

Every line is a child process of its own: two updates on the CPU in float32, whole and LoRA, prompts of two lengths.
Usage: python measure.py [FILE.csv]; lines that are there already are planned anew, but not measured again.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

ARCHITECTURE = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 16384,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "max_position_embeddings": 2048,
    "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
}
"""300 million parameters."""
COLUMNS = (
    "what", "shared", "prompt", "answer", "rows", "planned", "measured", "error", "libraries", "seconds_planned",
    "seconds_measured", "parameters", "commit", "day", "command",
)  # fmt: skip
CASES = (
    (128, False, True),
    (128, True, True),
    (512, False, True),
    (512, True, True),
    (128, False, False),
    (128, True, False),
    (256, False, True),
    (256, True, True),
)
"""Tokens of a prompt, whether LoRA, whether equal prompts are read once. The last two came after the constants."""
_FRAME = 49  # bytes of the template and of a 4x4 lake around the filling


def overrides(folder: Path, prompt: int, *, lora: bool, shared: bool) -> list[str]:
    """One group of four episodes of two steps, micro-batches of four rows."""
    filling = "".join(" go"[i % 3] for i in range(prompt - _FRAME))
    return [
        "env=frozenlake", "env.max_steps=2", "model=any", f"model.path={folder}", "model.init=random",
        "model.dtype=float32", "prompt=action_only", "prompt.system=null", "prompt.observation=compact",
        f"prompt.user='{filling}{{{{ observation }}}}'", "algo.groups_per_update=1", "algo.group_size=4",
        "algo.invalid_action=random", f"algo.share_prompts={str(shared).lower()}", "algo.episode_sampling=all",
        "rollout.max_new_tokens=8", "rollout.max_live_episodes=4", "trainer.per_device_train_batch_size=4",
        "trainer.gradient_checkpointing=false", "trainer.use_cpu=true", "eval.episodes=4",
        f"lora.enabled={str(lora).lower()}",
    ]  # fmt: skip


def planned_and_measured(folder: Path, prompt: int, *, lora: bool, shared: bool) -> dict[str, object]:
    """One line of the table."""
    chosen = overrides(folder, prompt, lora=lora, shared=shared)
    command = [sys.executable, "-m", "msgrpo_cli", "plan", *chosen, "--probe", "--json"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ})
    found = json.loads(ended.stdout)
    probe = found["probe"]
    return {
        "what": "LoRA" if lora else "whole",
        "shared": shared,
        "prompt": found["longest_prompt"],
        "answer": found["answer_tokens"],
        "rows": probe["rows_per_update"],
        "planned": probe["planned_memory_total"],
        "measured": probe["memory_total"],
        "error": round(probe["planned_memory_total"] / probe["memory_total"] - 1, 3),
        "libraries": probe["libraries"],
        "seconds_planned": round(probe["planned_seconds_per_update"], 1),
        "seconds_measured": round(probe["seconds_per_update"], 1),
        "parameters": found["parameters"],
        "commit": _commit(),
        "day": date.today().isoformat(),
        "command": shlex.join(["msgrpo", "plan", *chosen, "--probe", "--json"]).replace(str(folder), "DIR"),
    }


def planned_again(folder: Path, row: dict[str, object]) -> dict[str, object]:
    """A line that was measured before, with what today's plan says."""
    from msgrpo_cli.config.compose import compose
    from msgrpo_cli.planning.hardware import named
    from msgrpo_cli.planning.plan import plan
    from msgrpo_cli.training.bench.probe import probed

    case = {"lora": row["what"] == "LoRA", "shared": str(row["shared"]) == "True"}
    config = compose("train", overrides(folder, int(str(row["wanted"])), **case))
    found = plan(probed(config), named("cpu"), here=True)
    error = round(found.memory.total / int(str(row["measured"])) - 1, 3)
    seconds = round(found.time.update, 1)
    return {**row, "planned": found.memory.total, "error": error, "seconds_planned": seconds}


def _commit() -> str:
    here = Path(__file__).parent
    asked = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "results.csv")
    rows: list[dict[str, object]] = list(csv.DictReader(out.open())) if out.exists() else []
    done = {(row["what"], row["shared"], row["wanted"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(ARCHITECTURE))
        rows = [planned_again(Path(folder), row) for row in rows]
        for prompt, lora, shared in CASES:
            if ("LoRA" if lora else "whole", str(shared), str(prompt)) not in done:
                row = planned_and_measured(Path(folder), prompt, lora=lora, shared=shared)
                rows.append({"wanted": prompt, **row})
                with out.open("w", newline="") as opened:
                    writer = csv.DictWriter(opened, ["wanted", *COLUMNS])
                    writer.writeheader()
                    writer.writerows(rows)
                print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
