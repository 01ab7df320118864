"""Room for checkpoints, by arithmetic on the config."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.planning.disk import check_room, checkpoint_bytes


def test_a_checkpoint_holds_weights_and_two_numbers_of_adam_for_each() -> None:
    qwen = compose("train", ["model=qwen3b"])
    assert checkpoint_bytes(qwen) == 3_085_938_688 * 12
    half = compose("train", ["model=qwen3b", "model.dtype=bfloat16", "trainer.optim=sgd"])
    assert checkpoint_bytes(half) == 3_085_938_688 * 2
    unknown = compose("train", ["model=qwen3b", "trainer.optim=lion_32bit"])
    assert checkpoint_bytes(unknown) == 3_085_938_688 * 12, "of an optimizer that is not known, the most"


def test_a_real_checkpoint_is_as_large_as_said(finished_run: Path) -> None:
    folder = finished_run / "checkpoints" / "checkpoint-3"
    really = sum(file.stat().st_size for file in folder.iterdir())
    said = checkpoint_bytes(compose("train", []))
    assert said is not None and said == pytest.approx(really, rel=0.1)


def test_of_an_adapter_the_base_is_not_saved_again() -> None:
    lora = compose("train", ["model=qwen3b", "lora.enabled=true", "model.dtype=bfloat16"])
    assert checkpoint_bytes(lora) == 59_867_136 * 12, "the adapter is in float32 whatever the base is in"


def test_no_disk_has_room_for_five_checkpoints_of_a_large_model(tmp_path: Path) -> None:
    config = compose("train", ["model=qwen72b", "max_updates=700", "save.every=1", "save.keep_last=1000"])
    line = r"save.keep_last=1000: 702 checkpoints of [\d,.]+ GB need [\d,.]+ GB, and .*/new/run has [\d,.]+ GB free; "
    with pytest.raises(UsageError, match=line + re.escape("keep fewer, or choose a larger disk with hydra.run.dir")):
        check_room(config, tmp_path / "new" / "run")


def test_what_is_there_already_needs_no_room(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    one = checkpoint_bytes(compose("train", []))
    assert one is not None
    many = free // one + 10
    config = compose("train", [f"max_updates={2 * many}", "save.every=1", f"save.keep_last={many}"])
    with pytest.raises(UsageError, match=f"save.keep_last={many}"):
        check_room(config, tmp_path)
    check_room(config, tmp_path, existing=many)


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        (["save.every=2", "save.keep_last=10"], 3 + 1 + 1),  # after updates 2, 4, 5; the best; one being written
        (["save.every=2", "save.keep_last=10", "save.keep_best=false"], 3 + 1),
        (["save.every=1", "save.keep_last=2"], 2 + 1 + 1),
    ],
)
def test_as_many_are_counted_as_will_lie_side_by_side(tmp_path: Path, overrides: list[str], count: int) -> None:
    config = compose("train", ["model=qwen72b", "max_updates=5", *overrides])
    with pytest.raises(UsageError, match=f": {count} checkpoints of "):
        check_room(config, tmp_path)
    with pytest.raises(UsageError, match=f": {count} checkpoints of "):
        check_room(config, tmp_path, existing=100)  # one is written before another goes
