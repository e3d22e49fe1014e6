"""Collects the English prose the bundled models learn from.

Why it exists: the models may be trained only on text that anybody can get with a package manager, so that they can be
made again. This script reads documentation already unpacked on a machine (HTML, reStructuredText, Mallard, DocBook,
POD, man pages, Python docstrings, package descriptions), keeps paragraphs that read like sentences, removes duplicates
and writes one JSON object per paragraph, together with the counts of what it used. It never reads `eval/`.
"""

from __future__ import annotations

import argparse
import ast
import bz2
import gzip
import hashlib
import html
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple


class Paragraph(NamedTuple):
    """One paragraph with the nearest heading above it."""

    source: str
    heading: str
    text: str


DROP = re.compile(r"<(script|style|pre|nav|svg|head|programlisting|screen)\b.*?</\1>", re.S | re.I)
BLOCK = re.compile(
    r"<(/?(?:p|para|simpara|li|listitem|dd|dt|term|h[1-6]|title|div|td|th|tr|table|ul|ol|dl|item|section|sect\d|summary"
    r"|details|note|blockquote|figure|figcaption|caption|body|article|main|footer|header)\b)[^>]*>",
    re.I,
)
TAG = re.compile(r"<[^>]+>")
SPACE = re.compile(r"\s+")
COMMON = frozenset(
    "the a an of to is are in and for that this it be with as on by or can if not from when you which has will".split()
)
WORD = re.compile(r"[a-z']+")


def clean(text: str) -> str:
    """Plain text of an inline fragment."""
    text = html.unescape(TAG.sub("", text)).replace("\u00a0", " ").replace("¶", "").replace("§", "")
    text = text.replace("\u2019", "'").replace("\u2018", "'").replace("\u201c", '"').replace("\u201d", '"')
    text = text.replace("\u2014", " - ").replace("\u2013", "-")
    return SPACE.sub(" ", text).strip()


def prose(text: str) -> bool:
    """Whether a paragraph reads like English sentences rather than code, tables or lists of names."""
    if not 45 <= len(text) <= 900 or not text.isascii():
        return False
    letters = sum(c.isalpha() or c == " " for c in text)
    if letters / len(text) < 0.88 or not text[0].isalpha():
        return False
    words = WORD.findall(text.lower())
    return len(words) >= 8 and sum(w in COMMON for w in words) >= max(2, len(words) // 8)


def from_markup(raw: str) -> Iterator[tuple[str, str]]:
    """(heading, paragraph) pairs of an HTML, Mallard or DocBook file."""
    raw = DROP.sub(" ", raw)
    heading, tag = "", ""
    parts = BLOCK.split(raw)
    for i in range(0, len(parts), 2):
        if i:
            tag = parts[i - 1].lower()
        body = clean(parts[i])
        if not body:
            continue
        if re.fullmatch(r"h[1-6]|title|dt|term", tag):
            heading = body[:120]
        else:
            yield heading, body


def from_plain(raw: str) -> Iterator[tuple[str, str]]:
    """(heading, paragraph) pairs of reStructuredText or POD."""
    heading = ""
    for block in re.split(r"\n\s*\n", raw):
        lines = block.strip("\n").split("\n")
        pod = re.match(r"=head\d (.+)", lines[0])
        if pod:
            heading = pod.group(1)
            continue
        if len(lines) == 2 and re.fullmatch(r"([=\-~^\"'`#*+])\1{2,}", lines[1].strip()):
            heading = lines[0].strip()
            continue
        if lines[0].startswith((" ", "\t", "..", "=")):
            continue
        text = re.sub(r":[a-z:]+:`~?([^`<]+?)(?: <[^`]*>)?`", r"\1", " ".join(lines))
        text = re.sub(r"[BCFILSX]<+ ?([^<>]*?) ?>+", r"\1", text)
        yield heading, clean(re.sub(r"``?|\*\*?|\|", "", text))


def from_man(raw: str) -> Iterator[tuple[str, str]]:
    """(heading, paragraph) pairs of a manual page in man or mdoc macros."""
    heading, lines = "", []
    for line in [*raw.split("\n"), ".PP"]:
        macro = re.match(r"[.'](\w+)\s*(.*)", line)
        if macro is None:
            lines.append(line)
            continue
        name, rest = macro.groups()
        if name in {"B", "I", "BR", "IR", "RB", "RI", "BI", "IB", "Xr", "Nm", "Ar", "Fl", "Pa", "Cm"}:
            lines.append(rest.replace('"', ""))
            continue
        if lines:
            text = re.sub(r"\\f[A-Z0-9]|\\f\(..|\\[&|^c/%]", "", " ".join(lines))
            text = text.replace("\\-", "-").replace("\\(aq", "'").replace("\\(em", " - ").replace("\\e", "\\")
            yield heading, clean(text)
            lines = []
        if name in {"SH", "SS", "Sh", "Ss"}:
            heading = rest.strip('" ').capitalize()


def from_python(raw: str) -> Iterator[tuple[str, str]]:
    """(name and summary, paragraph) pairs of a Python file's docstrings."""
    try:
        tree = ast.parse(raw)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        doc = ast.get_docstring(node)
        if not doc:
            continue
        name = getattr(node, "name", "").replace("_", " ").strip()
        for heading, text in from_plain(doc):
            yield heading or name, text


def read(path: Path) -> str:
    """A text file, packed or not; empty when it cannot be read."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        elif path.suffix == ".bz2":
            data = bz2.decompress(data)
    except OSError:
        return ""
    return data[:2_000_000].decode("utf-8", errors="replace")


def extract(job: tuple[str, str, str]) -> list[Paragraph]:
    """All usable paragraphs of one file."""
    source, kind, name = job
    path = Path(name)
    reader = {"man": from_man, "python": from_python}.get(kind)
    if reader is None:
        inner = path.with_suffix("") if path.suffix in {".gz", ".bz2"} else path
        markup = inner.suffix in {".html", ".xhtml", ".htm", ".page", ".docbook", ".xml"}
        reader = from_markup if markup else from_plain
    return [Paragraph(source, h, t) for h, t in reader(read(path)) if prose(t)]


def descriptions(path: Path) -> Iterator[Paragraph]:
    """Package descriptions of a decompressed Debian `Translation-en` file."""
    for entry in path.read_text(encoding="utf-8").split("\n\n"):
        match = re.search(r"^Description-en: (.*)\n((?: .*\n?)*)", entry, re.M)
        if match is None:
            continue
        for block in re.split(r"\n \.\n", match.group(2)):
            text = clean(block)
            if prose(text) and not text.startswith("This package contains"):
                yield Paragraph("package descriptions", match.group(1), text)


def jobs_of(args: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Every file to read, with the name under which it is counted."""
    suffixes = (".html", ".html.gz", ".txt", ".txt.gz", ".page", ".pod", ".docbook", ".docbook.bz2", ".xhtml")
    skip = ("/src/", "/trait.impl/", "/type.impl/", "/core_arch/", "/core/", "/alloc/", "/arch/", "/_sources/")
    for root in args.docs:
        for path in sorted(root.rglob("*")):
            text = str(path)
            if not text.endswith(suffixes) or any(s in text for s in skip) or not path.is_file():
                continue
            relative = path.relative_to(root).parts
            source = relative[3] if relative[:3] == ("usr", "share", "doc") else relative[min(2, len(relative) - 1)]
            yield source, "docs", text
    for root in args.man:
        for path in sorted(p for s in args.man_sections for p in root.glob(f"man{s}/*")):
            yield "manual pages", "man", str(path)
    for root in args.python:
        for path in sorted(root.rglob("*.py")):
            yield "python docstrings", "python", str(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, action="append", default=[], help="folder of unpacked documentation")
    parser.add_argument("--man", type=Path, action="append", default=[], help="folder that holds man1, man2, …")
    parser.add_argument("--man-sections", nargs="+", default=["1", "2", "5", "7", "8"])
    parser.add_argument("--python", type=Path, action="append", default=[], help="folder of Python sources")
    parser.add_argument("--descriptions", type=Path, action="append", default=[], help="decompressed Translation-en")
    parser.add_argument("--per-source", type=int, default=60_000, help="most paragraphs of one source")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=17)
    args = parser.parse_args()

    seen: set[bytes] = set()
    kept: dict[str, list[Paragraph]] = {}

    def keep(paragraph: Paragraph) -> None:
        digest = hashlib.blake2b(paragraph.text.lower().encode(), digest_size=8).digest()
        if digest not in seen:
            seen.add(digest)
            kept.setdefault(paragraph.source, []).append(paragraph)

    with Pool(args.workers) as pool:
        for found in pool.imap(extract, jobs_of(args), chunksize=32):
            for paragraph in found:
                keep(paragraph)
    for path in args.descriptions:
        for paragraph in descriptions(path):
            keep(paragraph)

    rng = random.Random(args.seed)
    counts: Counter[str] = Counter()
    with args.out.open("w", encoding="utf-8") as out:
        for source, paragraphs in sorted(kept.items()):
            if len(paragraphs) > args.per_source:
                start = sorted(rng.sample(range(len(paragraphs)), args.per_source))
                paragraphs = [paragraphs[i] for i in start]
            counts[source] = len(paragraphs)
            for paragraph in paragraphs:
                out.write(json.dumps(paragraph._asdict()) + "\n")
    report = {"paragraphs": sum(counts.values()), "sources": dict(counts.most_common())}
    args.out.with_suffix(".counts.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
