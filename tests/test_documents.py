"""The documentation: every file that it names is there, every link leads somewhere, and no line is too long."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")])
PACKAGE = ROOT / "src/blemish"
CODE = re.compile(r"`([\w./-]+\.(?:py|toml|j2))`")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
WIDEST = 120


def prose(page: Path) -> str:
    """A page's text without its code blocks and generated tables."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"<!-- panel:.*?<!-- /panel:\w+ -->", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_source_file_that_a_page_names_is_there(page: Path) -> None:
    named = [name for name in CODE.findall(prose(page)) if "/" in name and "NAME" not in name]
    assert [name for name in named if not any((root / name).exists() for root in (PACKAGE, ROOT, page.parent))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = [link for link in LINK.findall(prose(page)) if "://" not in link]
    assert [link for link in targets if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_prose_is_longer_than_120_characters(page: Path) -> None:
    lines = prose(page).splitlines()
    assert [line for line in lines if len(line) > WIDEST and not line.startswith("|")] == []
