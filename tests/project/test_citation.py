"""CITATION.cff: the keys that its format requires, our version and licence, and the paper."""

from __future__ import annotations

import yaml

from msgrpo_cli import __version__
from support.places import ROOT


def test_the_citation_is_of_this_software_and_names_the_paper() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert (cited["type"], str(cited["version"]), cited["license"]) == ("software", __version__, "Apache-2.0")
    [paper] = cited["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Dilkes", "Yazdanpanah", "Stein"]
    assert paper["title"] == "Reinforced Language Models for Sequential Decision Making"
    assert paper["url"].endswith("2508.10839")
