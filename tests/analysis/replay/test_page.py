"""The page of a replay: what is in it, and how it works in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from msgrpo_cli.analysis.replay.page import LIMIT, spread
from msgrpo_cli.analysis.replay.replay import open_replay, write_page
from msgrpo_cli.analysis.replay.selection import Selection
from support.browser_pages import WITH_BROWSER, opened
from support.recorded_episodes import Row, episode, step, written

EVIL = "</script><script>window.owned = 1</script><img src=x onerror='window.owned = 2'><!-- \u2028 & \x1b[2J"


def page_of(folder: Path, rows: list[Row], wanted: Selection = Selection()) -> Path:  # noqa: B008 - frozen
    out = folder / "page.html"
    write_page(open_replay(str(written(folder / "run", rows)), None, wanted), out)
    return out


def test_the_data_are_json_that_cannot_end_its_element(tmp_path: Path) -> None:
    text = page_of(tmp_path, [episode(step(EVIL, completion=EVIL))]).read_text()
    found = re.search(r'<script type="application/json" id="episodes">(.*?)</script>', text, re.DOTALL)
    assert found is not None and not set("<>&'") & set(found[1])
    [one] = json.loads(found[1])
    assert one["steps"][0]["completion"] == EVIL.replace("\u2028", "\\u2028").replace("\x1b", "\\x1b")
    assert text.count("<script") == 2, "the data and our own"


def test_many_episodes_are_thinned_out_evenly_and_it_says_so(tmp_path: Path) -> None:
    rows = [episode(seed=n) for n in range(LIMIT * 2)]
    text = page_of(tmp_path, rows).read_text()
    assert f"{LIMIT} of them are here, at even distances; {LIMIT} are left out to keep the page small." in text
    assert text.count('"label"') == LIMIT and "episode 400," in text
    text = page_of(tmp_path, rows, Selection(limit=300)).read_text()
    assert text.count('"label"') == 300 and "100 more match and are left out." in text


def test_spread() -> None:
    assert spread(range(5), 9) == [0, 1, 2, 3, 4]
    assert spread(range(101), 3) == [0, 50, 100]
    assert spread(range(9), 1) == [0]


def test_the_page_asks_nobody(tmp_path: Path) -> None:
    text = page_of(tmp_path, [episode()]).read_text()
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", text)
    assert "default-src 'none'" in text and '<html lang="en">' in text


@pytest.mark.slow
@WITH_BROWSER
def test_in_a_browser(tmp_path: Path) -> None:
    rows = [
        episode(step("P . G"), step(". P G", action="up", regret=0.5, reward=-1.0), step(EVIL, None, regret=None)),
        episode(ended_by=EVIL, success=None, advantage=None, drawn=None, update=None),
    ]
    path = page_of(tmp_path, rows)
    with opened(path) as page:

        def text(name: str) -> str:
            return str(page.value(f"document.getElementById('{name}').textContent"))

        assert (text("observation"), text("verdict"), text("place")) == ("P . G", "✓ optimal", "1 of 3")
        page.value("document.getElementById('step').focus()")
        page.press("ArrowRight")
        assert (text("observation"), text("verdict")) == (". P G", "▼ 0.500 worse than right")
        assert [text(name) for name in ("action", "optimal", "regret", "reward", "total")] == [
            "up",
            "right",
            "0.500",
            "-1.000",
            "-1.000",
        ]
        page.press("End")
        assert text("verdict") == "× invalid: no action in the answer" and "</script>" in text("observation")
        page.value("document.getElementById('step').value = 2; 0")
        page.value("document.getElementById('step').dispatchEvent(new Event('input')); 0")
        assert text("place") == "2 of 3"
        page.value("document.activeElement.blur()")
        page.press("n")
        assert (text("place"), page.value("document.getElementById('episode').value")) == ("1 of 2", "1")
        assert "</script>" in text("outcome") and "advantage" not in text("outcome")
        page.value("const list = document.getElementById('episode'); list.value = '0'; 0")
        page.value("list.dispatchEvent(new Event('change')); 0")
        assert "advantage +0.500, drawn for training" in text("outcome")
        assert page.value("document.getElementById('strip').children.length") == 3
        assert page.value("document.getElementById('strip').querySelectorAll('[aria-current]').length") == 1
        page.value("document.getElementById('play').click()")
        page.value("new Promise((done) => setTimeout(done, 2000))")
        assert (text("place"), text("play")) == ("3 of 3", "Play"), "it played to the end and stopped"
        assert page.value("typeof window.owned") == "undefined"
        assert page.errors == []
        assert page.requests == [path.absolute().as_uri()], "itself and nothing else"


@pytest.mark.slow
@WITH_BROWSER
def test_a_narrow_window_scrolls_in_one_direction_only(tmp_path: Path) -> None:
    path = page_of(tmp_path, [episode(step("x" * 90, completion="word " * 900))])
    with opened(path, width=360, height=640) as page:
        assert page.value("document.documentElement.scrollWidth") <= 360
        assert page.violations() == []


@pytest.mark.slow
@WITH_BROWSER
def test_without_scripts_it_says_what_it_needs(tmp_path: Path) -> None:
    with opened(page_of(tmp_path, [episode()]), scripts=False) as page:
        shown = page._ask("Accessibility.getFullAXTree")["nodes"]
        assert any("needs JavaScript" in str(node.get("name", {}).get("value")) for node in shown)
        assert page.errors == []
