"""The papers of the project: citation, licences, the paper's page, the contents."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, StringConstraints

import mmwa_utils

ROOT = Path(__file__).parents[2]
Words = Annotated[str, StringConstraints(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Person(_Strict):
    family: Words = Field(alias="family-names")
    given: Words = Field(alias="given-names")


class _Entity(_Strict):
    name: Words


class _Reference(_Strict):
    type: Literal["article"]
    title: Words
    authors: list[_Person | _Entity] = Field(min_length=1)
    journal: Words
    year: int
    month: int = Field(ge=1, le=12)
    url: HttpUrl


class _Citation(_Strict):
    """The part of the Citation File Format 1.2.0 that the project uses; any other key is a slip."""

    cff_version: Literal["1.2.0"] = Field(alias="cff-version")
    message: Words
    title: Words
    type: Literal["software", "dataset"]
    authors: list[_Person | _Entity] = Field(min_length=1)
    version: Words
    released: datetime.date = Field(alias="date-released")
    license: list[Literal["MIT", "CC-BY-4.0"]]
    abstract: Words
    keywords: list[Words]
    references: list[_Reference]


def test_the_citation_is_valid_and_names_the_version() -> None:
    raw = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert _Citation.model_validate(raw).version == mmwa_utils.__version__


def test_the_changelog_begins_with_the_version() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "book" / "changelog.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == mmwa_utils.__version__


def test_the_licences_say_what_they_cover() -> None:
    code = (ROOT / "LICENSE").read_text(encoding="utf-8")
    text = (ROOT / "LICENSE-text").read_text(encoding="utf-8")
    assert code.startswith("MIT License")
    assert "SPDX-License-Identifier: CC-BY-4.0" in text
    assert "https://creativecommons.org/licenses/by/4.0/legalcode" in text


def test_every_notebook_is_in_the_contents_and_nothing_else() -> None:
    """A chapter that is not there would fail the build; one that is not listed would be lost."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    chapters = [name for name in listed if name.startswith("notebooks/")]
    assert chapters == [f"notebooks/{path.stem}" for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))]


def test_contributing_fits_one_page() -> None:
    """One printed page is some sixty lines; the list of exceptions stands below."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Exceptions")[0]
    assert len(page.splitlines()) <= 60
