"""The learning curve: which rows are drawn, and that odd files do no harm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.analysis.curve import draw_curve
from msgrpo_cli.runs.metrics import evaluation_rows, points, read_rows

PNG = b"\x89PNG\r\n\x1a\n"


def written(path: Path, *rows: dict[str, Any], tail: str = "") -> Path:
    metrics = path / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return metrics


def train(update: int, **values: Any) -> dict[str, Any]:
    return {"kind": "train", "update": update, "total_reward": 0.5, "success_rate": 0.5, **values}


def evaluated(update: int, **values: Any) -> dict[str, Any]:
    return {
        "kind": "eval",
        "update": update,
        "env": "lake",
        "split": "validation",
        "mean_total_reward": 0.6,
        "mean_total_reward_ci95": [0.55, 0.65],
        "success_rate": 0.6,
        "success_ci95": [0.55, 0.65],
        "greedy_mean_total_reward": 0.7,
        "greedy_success_rate": 0.7,
        **values,
    }


def test_points_leave_null_out() -> None:
    rows = [train(1), train(2, total_reward=None), train(3, total_reward=0.25), {"kind": "train"}]
    assert points(rows, "total_reward") == ([1.0, 3.0], [0.5, 0.25])


def test_test_part_gives_way_to_validation() -> None:
    rows = [train(1), evaluated(1), evaluated(2, split="test"), evaluated(2)]
    assert [row["split"] for row in evaluation_rows(rows)] == ["validation", "validation"]
    assert len(evaluation_rows([evaluated(2, split="test")])) == 1


def test_first_scenario_is_drawn() -> None:
    rows = [evaluated(1), evaluated(1, env="snake"), evaluated(2), evaluated(2, env="snake")]
    assert [row["update"] for row in evaluation_rows(rows)] == [1, 2]


def test_line_that_breaks_off_is_ignored(tmp_path: Path) -> None:
    assert read_rows(written(tmp_path, train(1), tail='{"kind": "tra')) == [train(1)]


def test_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    metrics = written(tmp_path, train(1), tail='{"kind\n{"kind": "train"}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
        read_rows(metrics)


def test_draws_a_picture_and_leaves_nothing_else(tmp_path: Path) -> None:
    metrics = written(tmp_path, train(1), train(2), evaluated(2))
    out = tmp_path / "curve.png"
    out.write_bytes(b"old")
    draw_curve(metrics, out, 0.0076, 1.0, 0.0076, 1.0, title="lake, $tiny_")
    assert out.read_bytes().startswith(PNG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "metrics.jsonl"]


def test_evaluations_and_references_change_the_picture(tmp_path: Path) -> None:
    out = tmp_path / "curve.png"
    pictures = set()
    for rows, optimal in (([train(1)], None), ([train(1)], 1.0), ([train(1), evaluated(1)], 1.0)):
        draw_curve(written(tmp_path, *rows), out, None, optimal)
        pictures.add(out.read_bytes())
    assert len(pictures) == 3


def test_nulls_everywhere_do_no_harm(tmp_path: Path) -> None:
    nothing = dict.fromkeys(evaluated(1), None) | {"kind": "eval", "update": 1}
    metrics = written(tmp_path, train(1, total_reward=None, success_rate=None), nothing)
    draw_curve(metrics, tmp_path / "curve.png", None, None)
    assert (tmp_path / "curve.png").read_bytes().startswith(PNG)


def test_values_without_intervals_are_drawn(tmp_path: Path) -> None:
    row = evaluated(1, mean_total_reward_ci95=None, success_rate=None, success_ci95=None, greedy_success_rate=None)
    draw_curve(written(tmp_path, row), tmp_path / "curve.png", -15.0, -13.0)
    assert (tmp_path / "curve.png").read_bytes().startswith(PNG)


def test_no_rows_no_picture(tmp_path: Path) -> None:
    draw_curve(written(tmp_path), tmp_path / "curve.png", 0.0, 1.0)
    assert not (tmp_path / "curve.png").exists()


def test_starting_is_cheap() -> None:
    code = "import sys, msgrpo_cli.analysis.curve; sys.exit('matplotlib' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, env={"PYTHONPATH": ":".join(sys.path)}).returncode
        == 0
    )
