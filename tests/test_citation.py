"""CITATION.cff is what GitHub and reference managers read: YAML with the keys that the format (1.2.0) requires."""

from pathlib import Path

import yaml

import osgan

REQUIRED = {"cff-version", "message", "title", "authors"}
CITATION = yaml.safe_load((Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8"))


def test_it_has_the_required_keys():
    assert CITATION.keys() >= REQUIRED
    assert CITATION["cff-version"] == "1.2.0"
    assert all(author.keys() & {"name", "family-names"} for author in CITATION["authors"])


def test_it_cites_this_version():
    assert CITATION["version"] == osgan.__version__
    assert CITATION["license"] == "MIT"


def test_the_paper_is_cited_whole():
    (paper,) = CITATION["references"]
    assert paper.keys() >= {"type", "title", "authors", "year", "url"}
    assert [author["family-names"] for author in paper["authors"]] == ["Shen", "Yin", "Wang", "Li", "Song", "Song"]
