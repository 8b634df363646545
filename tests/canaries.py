"""Fifty people who do not exist, the ways in which their data stands in texts and columns, and the search for them.

Their names and addresses share a marker that no word has, so one search finds any piece of any of them that is left.
What belongs here: the identities and the search. What does not: where they are pushed and which sinks are searched
(`tests/e2e/test_canaries.py`).
"""

import base64
import gzip
import html
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, quote_plus

MARKER = "quonvrax"
CONTROL = "zulukettle"
"""A word without personal data: it is pushed and planted where a search must find it."""

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Identity:
    """One synthetic person."""

    number: int

    @property
    def _syllables(self) -> str:
        return "".join("bdfgklmnpt"[int(digit)] + "aeiou"[int(digit) % 5] for digit in f"{self.number:02d}")

    @property
    def first(self) -> str:
        return f"{MARKER}{self._syllables}".capitalize()

    @property
    def last(self) -> str:
        return f"{self._syllables}{MARKER}".capitalize()

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"

    @property
    def local(self) -> str:
        return f"{self.first}.{self.last}".lower()

    @property
    def host(self) -> str:
        """The domain without its ending."""
        return f"{MARKER}-mail{self.number}"

    @property
    def email(self) -> str:
        return f"{self.local}@{self.host}.com"

    @property
    def handle(self) -> str:
        return f"{self.first}_{self.number}".lower()

    @property
    def us_groups(self) -> tuple[str, str, str]:
        """Area, exchange and line of a number in California."""
        return "415", f"{203 + 7 * self.number}", f"{1013 + 137 * self.number}"

    @property
    def german_groups(self) -> tuple[str, str]:
        """Area and line of a number in Berlin."""
        return "30", f"90{182013 + 1379 * self.number}"

    @cached_property
    def email_spellings(self) -> list[str]:
        """Plain, obfuscated, encoded, and in characters that only look like the plain ones."""
        return [
            self.email,
            f"{self.local} at {self.host} dot com",
            f"{self.local} [at] {self.host} [dot] com",
            self.email.replace("@", "%40"),
            self.email.replace("@", "&#64;").replace(".com", "&period;com"),
            f"{_wide(self.local)}\uff20{self.host}.com",
            f"{self.first.lower()}\u200b.{self.last.lower()}@{self.host}.com",
            f"{self.local}@{self.host}-m\u00fcnchen.de",
        ]

    @cached_property
    def phone_spellings(self) -> list[str]:
        """National, international, and as people write them."""
        area, exchange, line = self.us_groups
        german_area, german_line = self.german_groups
        return [
            f"({area}) {exchange}-{line}",
            f"+1 {area} {exchange} {line}",
            f"+1{area}{exchange}{line}",
            f"{area}.{exchange}.{line}",
            f"+1 ({area}) {exchange}-{line} ext. 22",
            f"+49 (0){german_area} {german_line}",
            f"+49 {german_area} {german_line[:4]} {german_line[4:]}",
            f"0049-{german_area}-{german_line}",
        ]

    @property
    def needles(self) -> list[str]:
        """What must be in no sink beside the marker: every number, whole and its ends."""
        area, exchange, line = self.us_groups
        german_area, german_line = self.german_groups
        # The dot before: a time in fractions of a second, which has one dot, can have the same seven digits.
        groups = [f"{exchange}-{line}", f"{exchange} {line}", f".{exchange}.{line}"]
        german = [german_line, f"{german_line[:4]} {german_line[4:]}", f"{german_area}{german_line}"]
        return [f"{area}{exchange}{line}", *groups, *german]


IDENTITIES = [Identity(number) for number in range(50)]

FORMATS: Mapping[str, Callable[[Identity], str]] = {
    "name": lambda who: f"I met {who.name} at the fair, and {who.name.upper()} told me how hooks work.",
    "email": lambda who: "Slides on request:\n" + "\n".join(f"write to {each} today" for each in who.email_spellings),
    "phone": lambda who: "\n".join(f"Call me at {each} for a demo" for each in who.phone_spellings),
    "signature": lambda who: (
        f"Thanks for reading this far.\n\nBest regards,\n{who.name}\nHead of Growth\n"
        f"Tel: {who.phone_spellings[who.number % 8]}\n{who.email}"
    ),
    "greeting": lambda who: f"Hi {who.first},\nmy name is {who.name}. Reply to {who.email} if hooks matter to you.",
    "markup": lambda who: (
        f'<a href="mailto:{who.email}?subject=hooks">{who.name}</a>, <a href="tel:{who.phone_spellings[2]}">call</a>'
    ),
    "json": lambda who: json.dumps({"author": who.name, "email": who.email, "phone": who.phone_spellings[1]}),
    "split over lines": lambda who: (
        f"The talk was by {who.first}\n{who.last}, whose address is {who.local}@\n{who.host}.com for now."
    ),
}
"""The eight ways in which a person stands in the text of a post, a lesson, an outcome."""


def handles(who: Identity) -> str:
    """How a prospect's notes name the profile: a handle and links. In a post they are content."""
    return f"Found as @{who.handle}, https://www.linkedin.com/in/{who.handle} and instagram.com/{who.handle}/"


class Search:
    """Finds texts in bytes, in the encodings in which programs write them down."""

    def __init__(self, texts: list[str]) -> None:
        self._needles = {spelling for text in texts for spelling in _spellings(text)}
        whole = [text for text in texts if text.isalnum()]
        self._cased_needles = {
            spelling for text in whole for case in _cases(text) for spelling in _base64_spellings(case)
        }

    def hits(self, content: bytes) -> list[str]:
        """The needles that the bytes hold, packed or not."""
        found: list[str] = []
        for each in _unpacked(content):
            folded = each.lower()
            found += [needle.decode("latin-1") for needle in self._needles if needle in folded]
            found += [needle.decode() for needle in self._cased_needles if needle in each]
        return sorted(found)


def people_search() -> Search:
    """The search for every identity."""
    return Search([MARKER, *(needle for who in IDENTITIES for needle in who.needles)])


def _cases(text: str) -> set[str]:
    return {text.lower(), text.capitalize(), text.upper()}


def _spellings(text: str) -> Iterator[bytes]:
    """The text in lower case: plain, escaped for JSON, URLs and HTML, as hexadecimal digits, and in wide characters.

    A number is plain, or escaped for URLs: there are hundreds of them, and each spelling is a pass over every sink.
    """
    if not any(map(str.isalpha, text)):
        yield from (text.encode(), quote(text, safe="").encode(), quote_plus(text).encode())
        return
    wide = {_wide(case) for case in _cases(text)}  # which lower() of bytes leaves as they are
    for each in (text.lower(), *wide):
        yield from (
            spelled.encode().lower()
            for spelled in (each, json.dumps(each)[1:-1], quote(each, safe=""), quote_plus(each), html.escape(each))
        )
    for case in _cases(text):
        yield case.encode().hex().encode()
    yield text.lower().encode("utf-16-le")


def _wide(text: str) -> str:
    """The text in full-width characters."""
    return "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in text)


def _base64_spellings(text: str) -> Iterator[bytes]:
    """What base64 makes of the text at each of its three alignments, without the ends that hang on the neighbours."""
    raw = text.encode()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        first, last = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6
        yield encoded[first:last]
        yield encoded[first:last].translate(bytes.maketrans(b"+/", b"-_"))


def _unpacked(content: bytes) -> Iterator[bytes]:
    """The bytes, and what is packed in them as gzip, however often."""
    yield content
    place = content.find(GZIP_MAGIC)
    while place >= 0:
        try:
            unpacked = zlib.decompressobj(wbits=31).decompress(content[place:])
        except zlib.error:
            unpacked = b""  # two bytes that only look like the start of a gzip member
        if unpacked:
            yield from _unpacked(unpacked)
        place = content.find(GZIP_MAGIC, place + 1)


def in_every_encoding(text: str) -> dict[str, bytes]:
    """The text as each encoding that the search promises to see through: for the proof that it does."""
    return {
        "plain": f"a {text} b".encode(),
        "upper case": text.upper().encode(),
        "JSON": json.dumps({"text": f"\u00e9{text}"}).encode(),
        "percent": quote(f"\u00e9 {text}").encode(),
        "wide": _wide(text).encode(),
        "wide in JSON": json.dumps(_wide(text)).encode(),
        "hexadecimal": text.encode().hex().encode(),
        "UTF-16": text.encode("utf-16-le"),
        "gzip": gzip.compress(text.encode()),
        "gzip within a file": b"\x1f\x8b head" + gzip.compress(gzip.compress(f"- {text} -".encode())) + b"tail",
        **{f"base64 at {shift}": base64.b64encode(b"-" * shift + text.encode() + b"-") for shift in range(5)},
    }
