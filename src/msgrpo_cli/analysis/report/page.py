"""A report as one HTML file that needs nothing but itself.

Knows what a report says, its figures and the template. Knows nothing about run directories or statistics. Everything
that comes from runs, models or games is escaped by the template.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from msgrpo_cli.common.files import write_text
from msgrpo_cli.common.numbers import count, interval, number
from msgrpo_cli.errors import UsageError, shown
from msgrpo_cli.runs.reader import finite

from .findings import ranking
from .groups import brief
from .records import MEASURES, Report
from .seeds import RESAMPLES

_LONGEST = 300  # characters of a value in the table of differences; --json has all
_TEMPLATE = Path(__file__).with_name("page.html.jinja")
MARK = '<meta name="generator" content="msgrpo report">'
"""Among the first lines of every page: what has it may be overwritten."""


def write_html(report: Report, path: Path) -> None:
    """Write the page in one stroke. Raises UsageError where the file is there and is no report of ours."""
    refuse_strangers(path)
    write_text(path, as_html(report))


def refuse_strangers(path: Path) -> None:
    """Raise UsageError where a page may not be written: a directory, or a file that is no report."""
    if path.is_dir():
        raise UsageError(f"{shown(str(path))}: a directory; name a file for the page")
    if not path.exists():
        return
    with path.open("rb") as file:
        if MARK.encode() not in file.read(2000):
            raise UsageError(f"{shown(str(path))}: is there and no report; remove it, or name another file with --html")


def as_html(report: Report) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from .figures import figures_of

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        loose=lambda value: number(finite(value)),  # of a file that nobody has checked
        interval=interval,
        count=count,
        brief=lambda text: brief(text, _LONGEST),
        name=lambda path: PurePath(path).name,
        svg=Markup,
    )
    page: dict[str, Any] = {
        "report": report,
        "mark": Markup(MARK),
        "ranking": ranking(report),
        "measures": MEASURES,
        "figures": figures_of(report),
        "resamples": RESAMPLES,
    }
    return environment.get_template(_TEMPLATE.name).render(page)
