"""What the documentation site takes from outside docs/: README and the pages beside it, and the examples."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# A page at the top of the repository, and the page of the site that it becomes.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "examples/README.md": "examples/index.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages and examples, with their links as they lead on the site."""
    root = Path(config.config_file_path).parent
    for name, address in PAGES.items():
        files.append(File.generated(config, address, content=_for_site((root / name).read_text(encoding="utf-8"))))
    for path in [
        root / "CITATION.cff",
        *sorted((root / "examples").glob("*.py")),
        *(root / "examples").glob("*.ipynb"),
    ]:
        files.append(File.generated(config, path.relative_to(root).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """A page of docs/ with its links as they lead on the site."""
    return _for_site(markdown)


def _for_site(markdown: str) -> str:
    """Links made relative to the top of the site; | in code needs no escape in its tables, as it does elsewhere."""
    text = re.sub(r"\]\((?:docs|\.\.)/", "](", markdown)
    text = re.sub(r"`[^`\n]*`", lambda found: found[0].replace("\\|", "|"), text)
    return re.sub(rf"\]\(({'|'.join(map(re.escape, PAGES))})", lambda found: f"]({PAGES[found[1]]}", text)
