"""The page of a sweep that was really trained, in a real browser; and pages of hostile runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from msgrpo_cli.analysis.report.build import report_on
from msgrpo_cli.analysis.report.figures import figures_of
from msgrpo_cli.analysis.report.page import as_html, write_html
from support.browser_pages import WITH_BROWSER, Page, opened
from support.run_copies import copy_of, seeds_of, sweep_json
from support.small_run import SMALL

TABLES = {
    "Groups, table",
    "Final scores, table",
    "Probability of improvement, table",
    "What differs, table",
    "Cost, table",
    "Failed and missing jobs, table",
    "Episodes, table",
}


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups of three seeds, trained, and one job that never began."""
    from msgrpo_cli.config.compose import compose
    from msgrpo_cli.training.train import train_job

    folder, jobs = tmp_path_factory.mktemp("sweeps") / "sweep", []
    for fraction in (0.25, 1.0):
        for seed in (0, 1, 2):
            overrides = [f"seed={seed}", f"algo.sample_fraction={fraction}"]
            name = f"{fraction}-{seed}"
            train_job(compose("train", [*SMALL, *overrides]), folder / name, command=["test"], overrides=overrides)
            jobs.append({"overrides": overrides, "run": name})
    sweep_json(folder, [*jobs, {"overrides": ["seed=3"], "run": "never"}])
    return folder


@pytest.mark.slow
@WITH_BROWSER
def test_page_of_a_sweep_in_a_browser(sweep: Path, tmp_path: Path) -> None:
    page_file = sweep / "report.html"
    write_html(report_on([sweep]), page_file)
    with opened(page_file) as page:
        assert page.value("document.querySelector('h1').textContent").endswith("7 runs")
        assert set(_texts(page, "[role=region]", "getAttribute('aria-label')")) >= TABLES
        assert _texts(page, "figure svg", "id") == []  # figures are told by their headings
        named = _texts(page, "figure svg", "getAttribute('aria-labelledby')")
        assert [name.split("-")[0] for name in named] == ["scores", "improvement", "curves"]
        assert "never" in page.value("document.querySelector('#jobs').parentElement.textContent")
        rows = page.value("document.querySelectorAll('[aria-label=\"Groups, table\"] tbody tr').length")
        assert rows == 2
        page.value("document.querySelector('a[href=\"#episode-A-worst\"]').focus()")
        page.press("Enter")
        page.wait_until("location.hash === '#episode-A-worst' && document.getElementById('episode-A-worst').open")
        page.value("document.querySelectorAll('details').forEach(found => { found.open = true; })")
        assert page.violations() == []
        assert page.errors == []
        assert page.requests == [page_file.absolute().as_uri()]


@WITH_BROWSER
def test_hostile_texts_stay_texts(finished_run: Path, tmp_path: Path) -> None:
    """Whatever a model says or a config holds: no element, no script, no request comes of it."""
    evil = '</pre></script><script>window.evil=1</script><img src="http://127.0.0.1:9/x" onerror="window.evil=1">'
    runs = [
        copy_of(finished_run, tmp_path / f"run-{n}", config={"seed": n, "env.name": f"a{evil}{n % 2}"})
        for n in range(4)
    ]
    for run in runs:
        episodes = run / "eval" / "best.episodes.jsonl"
        rows = [json.loads(line) for line in episodes.read_text().splitlines()]
        for row in rows:
            row["ended_by"] = evil
            row["steps"][0] |= {"completion": evil, "observation": evil}
        episodes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    copy_of(finished_run, tmp_path / "lost", record={"status": "failed", "error": evil, "overrides": [evil]})
    page_file = tmp_path / "page.html"
    write_html(report_on([*runs, tmp_path / "lost"]), page_file)
    with opened(page_file) as page:
        assert page.value("window.evil") is None
        assert page.value("document.querySelectorAll('img').length") == 0
        assert evil in page.value("document.querySelector('pre').textContent")
        assert (page.errors, page.requests) == ([], [page_file.absolute().as_uri()])


def test_page_has_no_address_to_load_from(finished_run: Path, tmp_path: Path) -> None:
    text = as_html(report_on(seeds_of(finished_run, tmp_path, "run", [0.1, 0.3])))
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', re.sub(r'xmlns(:\w+)?="[^"]*"', "", text))
    assert "@import" not in text
    assert len(re.findall(r"<script", text)) == 1


def test_figures_are_sound_and_tell_groups_apart_without_colour(finished_run: Path, tmp_path: Path) -> None:
    runs = [
        run
        for name, fraction in (("a", 0.25), ("b", 0.75))
        for run in seeds_of(finished_run, tmp_path, name, [0.1, 0.3], algo__sample_fraction=fraction)
    ]
    figures = figures_of(report_on(runs))
    assert [figure.id for figure in figures] == ["curves-0", "scores-0", "improvement-0"]
    ids = [found for figure in figures for found in re.findall(r'\bid="([^"]*)"', figure.svg)]
    assert len(ids) == len(set(ids))
    for figure in figures:
        ElementTree.fromstring(figure.svg)
    curves = figures[0].svg
    assert len(set(re.findall(r"stroke-dasharray: ([\d. ,]+)", curves))) >= 2  # lines differ in their dashes
    assert {">A<", ">B<"} <= set(re.findall(r">[AB]<", curves))  # and have a letter at their end


def test_many_groups_are_drawn_in_parts(finished_run: Path, tmp_path: Path) -> None:
    runs = [
        run
        for number in range(8)
        for run in seeds_of(finished_run, tmp_path, f"g{number}", [0.1, 0.2], algo__sample_fraction=0.1 + number / 10)
    ]
    report = report_on(runs)
    curves = [figure for figure in figures_of(report) if figure.id.startswith("curves")]
    assert [figure.title.rpartition("groups ")[2] for figure in curves] == ["A, B, C, D, E, F", "G, H"]
    assert len(report.comparisons) == 28


def _texts(page: Page, selector: str, of: str) -> list[str]:
    found = page.value(f"JSON.stringify([...document.querySelectorAll('{selector}')].map(found => found.{of}))")
    return [text for text in json.loads(found) if text]
