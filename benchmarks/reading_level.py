"""How long the sentences of zoo are, in its README, guides, docstrings, messages and cards.

    python benchmarks/reading_level.py [PART…] [--worst 10]

Print the median, the ninetieth percentile and the maximum of the words of a sentence, for each part. Print the longest sentences,
and those with a construction that docs/writing.md says to avoid. Exit with status 1 if a part is above a limit: a median of 18
words, 30 for nine sentences in ten, and 45 for all. It takes a few seconds, and needs the extra `docs`.

Inline code counts as one word. Headings, code blocks and cells of tables with less than four words are not sentences.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
MEDIAN, NINE_IN_TEN, LONGEST = 18, 30, 45
FEWEST_WORDS = 4
ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|et al|vs|cf|approx|Fig|Eq|No|a\.k\.a)\.")
END = re.compile(r"(?<=[.!?])[\"')\]”]*\s+(?=[\"'(\[“]?[A-Z0-9`“])")
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Source):\s*")
BANNED = {
    "of X, Y": re.compile(r"^Of (?!course)[^,.]{1,60}, "),
    "`what` as a noun": re.compile(r"^What (?!.*\?)|\b(?:than|of|from|for|with|by|to) what (?!is wrong|to do)"),
    "is no": re.compile(r"(?<![Tt]here )\b(?:is|are|was|were) no (?!longer|more|less|fewer)\w+"),
    "none of": re.compile(r"\b[Nn]one of\b"),
    "so … as": re.compile(r"\bso (?!far|long)\w+ as\b"),
    "`where` for `if`": re.compile(r"\b[Ww]here (?:that|there|one|none) (?:is|are|has)\b"),
}


class Sentence(NamedTuple):
    """A sentence, and where it stands."""

    place: str
    text: str

    @property
    def words(self) -> int:
        """Number of words; a token without a letter or a digit is not a word."""
        return sum(any(c.isalnum() for c in token) for token in self.text.split())


# -- sentences -------------------------------------------------------------------------------------------------------


def split_sentences(text: str, place: str) -> Iterator[Sentence]:
    """Split a paragraph into sentences. What has no full stop at its end is one as well."""
    text = ABBREVIATIONS.sub(lambda match: match[1].replace(".", "") + "․", " ".join(text.split()))
    for part in END.split(text):
        sentence = Sentence(place, part.strip())
        if sentence.words >= FEWEST_WORDS:
            yield sentence


def read_markdown(text: str, place: str) -> Iterator[Sentence]:
    """The sentences of paragraphs, items of lists and cells of tables."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in itertools.pairwise(tokens):
        if token.type == "inline" and before.type != "heading_open":
            words = [
                "`code`" if child.type == "code_inline" else " " if child.type.endswith("break") else child.content
                for child in token.children or ()
                if child.type in ("text", "code_inline", "softbreak", "hardbreak")
            ]
            line = token.map[0] + 1 if token.map else 0
            yield from split_sentences("".join(words), f"{place}:{line}")


def read_docstring(text: str, place: str) -> Iterator[Sentence]:
    """The sentences of a docstring. Examples, which are indented, are left out; an entry of `Args:` begins a sentence."""
    units: list[str] = [""]
    in_section = False
    for line in inspect.cleandoc(text).splitlines():
        stripped = line.strip()
        in_section = bool(SECTION.match(stripped)) or (in_section and (line.startswith(" ") or not stripped))
        if line.startswith("    ") and not in_section:
            units.append("")
            continue
        starts = (
            not stripped or stripped.startswith("- ") or re.match(r"^[\w`, *]+: ", stripped)
            if in_section
            else (not stripped or stripped.startswith("- "))
        )
        if starts:
            units.append("")
        units[-1] += " " + re.sub(r"^- |^[\w`, *]+: " if in_section else r"^- ", "", stripped)
    for unit in units:
        yield from split_sentences(re.sub(r"``?[^`]+``?", "`code`", unit), place)


def read_docstrings() -> Iterator[Sentence]:
    """All docstrings of zoo."""
    for path, tree in parse_modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node, clean=False)
                yield from read_docstring(text, f"{path}:{getattr(node, 'lineno', 1)}") if text else ()


def read_messages() -> Iterator[Sentence]:
    """Messages: texts that are raised, warned of, said, or describe a field or an option."""
    calls = {"say", "warn", "error", "write", "Finding", "Mistake"}
    for path, tree in parse_modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            texts = [word.value for word in node.keywords if word.arg in ("description", "help")]
            if name in calls or name.endswith(("Error", "Warning")):
                texts += node.args
            for text in map(read_constant, texts):
                yield from split_sentences(re.sub(r"``?[^`]+``?", "`code`", text), f"{path}:{node.lineno}")


def read_constant(node: ast.expr) -> str:
    """The text of a string, in which a value counts as one word; empty for another expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(read_constant(part) if isinstance(part, ast.Constant) else "X" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return read_constant(node.left) + read_constant(node.right)
    return ""


def parse_modules() -> Iterator[tuple[Path, ast.Module]]:
    """All modules of zoo, with their paths from the root."""
    for path in sorted((ROOT / "zoo").rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def read_cards() -> Iterator[Sentence]:
    """The templates of cards, in which a value counts as one word."""
    for path in sorted((ROOT / "cards").glob("*.md")):
        text = re.sub(r"\{%.*?%\}|\{#.*?#\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        yield from read_markdown(re.sub(r"\{\{.*?\}\}", "X", text, flags=re.DOTALL), f"cards/{path.name}")


def read_pages(*patterns: str) -> Iterator[Sentence]:
    """Pages of Markdown, by globs that start at the root."""
    for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
        if not {"_build", "measured", "model-zoo", "project"} & set(path.relative_to(ROOT).parts):
            yield from read_markdown(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))


PARTS: dict[str, Callable[[], Iterator[Sentence]]] = {
    "readme": lambda: read_pages("*.md"),
    "docs": lambda: read_pages("docs/**/*.md"),
    "docstrings": read_docstrings,
    "messages": read_messages,
    "cards": read_cards,
}


# -- the table -------------------------------------------------------------------------------------------------------


def measure(sentences: list[Sentence]) -> tuple[float, float, int]:
    """Median, ninetieth percentile and maximum of the words of a sentence."""
    counts = [sentence.words for sentence in sentences]
    return float(np.median(counts)), float(np.percentile(counts, 90)), max(counts)


def find_banned(sentence: Sentence) -> list[str]:
    """Names of the constructions of docs/writing.md that a sentence has. That page shows them, so its own are not counted."""
    if sentence.place.startswith("docs/writing.md"):
        return []
    return [name for name, pattern in BANNED.items() if pattern.search(sentence.text)]


def list_problems(sentences: list[Sentence]) -> list[str]:
    """What is above a limit, and the sentences with a banned construction."""
    median, nine_in_ten, _ = measure(sentences)
    problems = [f"the median is {median:g} words, above {MEDIAN}"] if median > MEDIAN else []
    problems += [f"one sentence in ten has more than {nine_in_ten:g} words"] if nine_in_ten > NINE_IN_TEN else []
    problems += [f"{s.place}: {s.words} words: {s.text}" for s in sentences if s.words > LONGEST]
    return problems + [f"{s.place}: {', '.join(found)}: {s.text}" for s in sentences if (found := find_banned(s))]


def main() -> int:
    """Print the table and the problems."""
    parser = argparse.ArgumentParser(description=textwrap.dedent(str(__doc__)).splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=f"among {', '.join(PARTS)}")
    parser.add_argument("--worst", type=int, default=5, help="longest sentences to print of each part")
    arguments = parser.parse_args()
    read = {name: list(PARTS[name]()) for name in arguments.parts or PARTS}
    print("| part | sentences | median | 90 % | longest | banned |\n|:---|---:|---:|---:|---:|---:|")
    for name, sentences in read.items():
        median, nine_in_ten, longest = measure(sentences)
        banned = sum(bool(find_banned(sentence)) for sentence in sentences)
        print(f"| {name} | {len(sentences)} | {median:g} | {nine_in_ten:g} | {longest} | {banned} |")
    problems = 0
    for name, sentences in read.items():
        worst = sorted(sentences, key=lambda sentence: -sentence.words)[: arguments.worst]
        print(f"\nlongest of {name}:", *(f"  {s.place}: {s.words} words: {s.text}" for s in worst), sep="\n")
        found = list_problems(sentences)
        print(*(f"above a limit: {problem}" for problem in found), sep="\n")
        problems += len(found)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
