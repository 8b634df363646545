"""A text as a reader sees it, with the way back to the bytes that were written.

What belongs here: full-width and other compatibility forms, invisible characters, HTML entities, percent codes. What
does not: what is looked for in the view (emails.py, phones.py, names.py).
"""

import functools
import re
import unicodedata
from bisect import bisect_right
from html import unescape

Span = tuple[int, int]

MASK = "\uffff"
"""Takes the place of what is decided already. A noncharacter: no word, no space, no digit, no punctuation."""

LONGEST_PLAIN_FORM = 3
"""Characters that one may stand for, as "℡", "⑴" and "ﬃ" do. What stands for a sentence is in no address, and a
megabyte of it would be eighteen."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_ENCODED = re.compile(
    r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|commat|period|nbsp|plus|lowbar|hyphen|zwnj|zwj|shy);|%(?:25)?(?:40|20|28|29|2[BbDdEe])"
)
_PLAIN_OF = {"\t": "\t", "\n": "\n", "\r": "\r", "\x85": "\n", "\u2028": "\n", "\u2029": "\n", "\u2212": "-"}
_PLAIN_OF |= {"\u3002": "."}  # the ideographic full stop separates labels too (RFC 3490, 3.1)
_PLAIN_OF |= dict.fromkeys(map(chr, range(0xFE00, 0xFE10)), "")  # variation selectors
_PLAIN_OF_CATEGORY = {"Cf": "", "Cc": "", "Me": "", "Pd": "-", "Zs": " "}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class TextView:
    """The text as a reader takes it.

    Full-width and other compatibility forms, digits of any script, dashes and spaces become plain ones; invisible
    characters vanish; HTML entities and percent codes that occur in addresses and numbers are decoded.

    Attributes:
        text: what is seen.
    """

    def __init__(self, original: str) -> None:
        self.text = original
        self._starts: list[int] = []
        self._origins: list[Span | int] = []
        is_encoded = ("&" in original or "%" in original) and _ENCODED.search(original) is not None
        if original.isascii() and not is_encoded and not _CONTROL.search(original):
            return
        shown = {ord(each): plain for each in set(original) if (plain := _plain(each)) != each}
        hidden = "".join(re.escape(chr(each)) for each, plain in shown.items() if not plain)
        wide = "".join(re.escape(chr(each)) for each, plain in shown.items() if len(plain) > 1)
        uneven = [f"[{hidden}]+" * bool(hidden), f"[{wide}]" * bool(wide), _ENCODED.pattern * is_encoded]
        if any(uneven):
            self._build(original, shown, re.compile("|".join(filter(None, uneven))))
        elif shown:
            self.text = original.translate(shown)

    def _build(self, original: str, shown: dict[int, str], uneven: re.Pattern[str]) -> None:
        """The view in segments: characters that stand for one each, and spans of the original shown as some others."""
        parts: list[str] = []
        length = 0

        def append(shown_here: str, origin: Span | int) -> None:
            nonlocal length
            if shown_here:
                parts.append(shown_here)
                self._starts.append(length)
                self._origins.append(origin)
                length += len(shown_here)

        place = 0
        for match in uneven.finditer(original):
            append(original[place : match.start()].translate(shown), place)
            piece = match.group()
            is_code = len(piece) > 1 and piece[0] in "&%"
            append("".join(map(_plain, _decoded(piece))) if is_code else shown[ord(piece[0])], match.span())
            place = match.end()
        append(original[place:].translate(shown), place)
        self.text = "".join(parts)

    def original_span(self, start: int, end: int) -> Span:
        """The span of the original that the view shows from `start` to `end`, which is behind `start`."""
        if not self._starts:
            return start, end
        return self._original_of(start)[0], self._original_of(end - 1)[1]

    def _original_of(self, place: int) -> Span:
        segment = bisect_right(self._starts, place) - 1
        origin = self._origins[segment]
        if isinstance(origin, int):
            origin += place - self._starts[segment]
            return origin, origin + 1
        return origin


def without_surrogates(text: str) -> str:
    """The text with U+FFFD in place of each lone surrogate, which is no character."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _decoded(code: str) -> str:
    return unescape(code) if code.startswith("&") else chr(int(code[-2:], 16))


@functools.lru_cache(maxsize=8192)
def _plain(character: str) -> str:
    """What a reader takes the character for; nothing if it is invisible."""
    if character in _PLAIN_OF:
        return _PLAIN_OF[character]
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category in _PLAIN_OF_CATEGORY:
        return _PLAIN_OF_CATEGORY[category]
    plain = unicodedata.normalize("NFKC", character)
    return plain if len(plain) <= LONGEST_PLAIN_FORM else character
