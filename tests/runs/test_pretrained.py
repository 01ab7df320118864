"""Where a model lies: local paths first, the hub's refusals in words, and no long wait for a hub that is silent."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from msgrpo_cli.runs.pretrained import is_local, local_path
from support.hub import Hub, running_hub

TOKEN = "hf_" + "Ab1" * 11
LAKE = ("model=tiny", "eval.episodes=8")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def msgrpo(*arguments: str, home: Path, address: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "msgrpo_cli", *arguments, home=home, address=address, **environment)


def python(*arguments: str, home: Path, address: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "0", **environment}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=home,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


OWNERS = ("gated", "private", "locked", "broken", "empty")
TRAIN_ALL = f"""
import sys
from msgrpo_cli.cli.app import main
for owner in {OWNERS}:
    sys.argv = ["msgrpo", "train", "model=any", f"model.path={{owner}}/model"]
    try:
        main()
    except SystemExit as end:
        assert end.code == 1
    else:
        raise AssertionError("it began")
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `msgrpo train` says of a model of each owner, in one process that has a token."""
    home = tmp_path_factory.mktemp("home")
    with running_hub() as hub:
        ended = python("-c", TRAIN_ALL, home=home, address=hub.address, HF_TOKEN=TOKEN)
        tokens = [token for _, token in hub.asked]
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    assert tokens == [f"Bearer {TOKEN}"] * len(OWNERS), "the token reaches the hub, and nothing else"
    assert TOKEN not in ended.stderr
    assert [path.name for path in home.iterdir()] in ([], ["hf"]), "nothing was started"
    return dict(zip(OWNERS, ended.stderr.splitlines(), strict=True))


@pytest.mark.parametrize(
    ("owner", "said"),
    [
        ("gated", "a gated model: ask for access on its page on the hub, then log in with `hf auth login`"),
        ("private", "no such model on the hub, or a private one: then log in with `hf auth login`"),
        ("locked", "the hub refuses the token that it was given: log in with `hf auth login`"),
        (
            "broken",
            "no such local directory, not in the local cache, and the hub cannot be reached (Server error '500",
        ),
        ("empty", "the hub has it, but without a config.json"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(owner: str, said: str, refusals: dict[str, str]) -> None:
    line = refusals[owner]
    assert line.startswith(f"error: model.path={owner}/model: {said}")
    assert line.endswith("or model.init=random for random weights")


def test_a_token_is_asked_for_where_a_gated_model_got_none(hub: Hub, tmp_path: Path) -> None:
    ended = msgrpo("eval", "gated/model", home=tmp_path, address=hub.address, HF_TOKEN="")
    assert ended.returncode == 1 and "set the variable HF_TOKEN to a token" in ended.stderr
    assert hub.asked[0][1] is None


@pytest.mark.slow
def test_a_silent_hub_is_asked_once_and_left_after_eight_seconds(hub: Hub, tmp_path: Path) -> None:
    """It would never answer."""
    ended = msgrpo("eval", "silent/model", home=tmp_path, address=hub.address)
    assert ended.returncode == 1
    assert re.search(r"the hub cannot be reached \((no answer within 8 s|.*timed out)", ended.stderr), ended.stderr
    assert len(hub.asked) == 1


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    ended = msgrpo("eval", "some/model", home=tmp_path, address=address)
    assert ended.returncode == 1 and "the hub cannot be reached ([Errno 111] Connection refused)" in ended.stderr


def test_offline_means_that_nobody_is_asked(hub: Hub, tmp_path: Path) -> None:
    ended = msgrpo("eval", "open/tiny", home=tmp_path, address=hub.address, HF_HUB_OFFLINE="1")
    assert ended.returncode == 1
    assert "open/tiny: not in the local cache, and HF_HUB_OFFLINE is set" in ended.stderr
    assert hub.asked == []


def test_a_local_directory_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_local("owner/model") and local_path("owner/model") == "owner/model"
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert is_local("owner/model") and local_path("owner/model") == "owner/model"


@pytest.mark.slow
def test_a_hub_model_trains_and_is_read_from_the_cache_when_the_hub_is_gone(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    small = ("experiment=smoke", "max_updates=1", "eval.episodes=8", "algo.groups_per_update=2", "algo.group_size=4")
    hub_model = ("model.path=open/tiny", "model.init=pretrained")
    with running_hub() as hub:
        ended = msgrpo("train", *small, *hub_model, "hydra.run.dir=run", home=tmp_path, address=hub.address)
        assert ended.returncode == 0, ended.stderr
    [card, *_] = (tmp_path / "run" / "checkpoints").glob("*/README.md")
    front = yaml.safe_load(card.read_text().split("---\n")[1])
    assert front["license"] == "other" and front["license_name"] == "some-research"
    assert front["license_link"] == "https://huggingface.co/open/tiny/blob/main/LICENSE"
    assert front["base_model"] == "open/tiny"
    with running_hub() as hub:  # it answers nobody, but the name resolves: the worst case
        silent = hub.address + "/silent"
        for environment in ({"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0"}):
            ended = msgrpo("eval", *hub_model, *LAKE, "--json", home=tmp_path, address=silent, **environment)
            assert ended.returncode == 0, ended.stderr
            assert json.loads(ended.stdout)["episodes"] == 8
        assert len(hub.asked) == 1, "eight seconds; afterwards everything comes from the cache"
