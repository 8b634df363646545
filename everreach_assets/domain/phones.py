"""Where the telephone numbers of a text are.

Runs of digits are found by one cheap linear pattern, so a post without one never reaches `phonenumbers`. A run is
then kept by its shape (a plus sign, an area code, a trunk zero, 3-3-4) or by its context ("call me on", "fax"), and
dropped for what else it is: date, time, address of a host, card, IBAN, count, id, version. The library decides about
country codes and numbering plans only: at its own leniency POSSIBLE every second number of a post is a phone.

What belongs here: digits. What does not: replacing them, e-mails and names (scrubbing.py).
"""

import re
from collections.abc import Iterator

import phonenumbers

from everreach_assets.domain.text_view import MASK, Span

REGIONS = ("US", "GB", "FR", "DE", "IN", "AU", "IT", "JP", "CN", "ZA")
"""Numbering plans that a number without country code, grouping and cue is held against."""

LIBRARY_CALLS_AT_MOST = 4_000
"""Per text, 30 us each: a megabyte of numbers stays within a second. Beyond it the shape alone decides, for removal."""

DIGITS_AT_MOST = 15  # ITU-T E.164
CONTEXT_CHARACTERS = 48

_RUN = re.compile(r"(?<![A-Za-z0-9_])[+(]{0,3}\d[\d \t./()-]{4,}\d")
_GROUP = re.compile(r"\d+")
_PIECE_BREAK = re.compile(r"[ \t]+/[ \t]*|/[ \t]+|[ \t]{4,}|[.-]{3,}|/{2,}|[()]{3,}|[ \t]-{2,}[ \t]")

_DAY, _MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_LEFT = r"(?<![\d+])(?<!\d[-./])(?<!\+\d )(?<!\+\d\d )(?<!\+\d\d\d )"  # not within a number, not behind a country code
_RIGHT = r"(?![-./]?\d)"
_URL = re.compile(r"(?:https?://|\bwww\.)[^\s\uffff]+")
_SOMETHING_ELSE = re.compile(
    # Asked first: it holds at few places, and the rest is dear.
    r"(?<!\d)(?=[0-9+-]|\b[vV]\.?\d|\b[A-Fa-f][0-9A-Fa-f]{7}-)(?:"
    + "|".join(
        (
            r"\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b",
            rf"{_LEFT}\d{{4}}([-/.]){_MONTH}\1{_DAY}(?:[T ]\d{{1,2}}:\d\d(?::\d\d(?:\.\d{{1,9}})?)?)?{_RIGHT}",
            rf"{_LEFT}{_DAY}([-/.]){_DAY}\2(?:(?:19|20)\d\d|\d\d){_RIGHT}",
            rf"{_LEFT}(?:19|20)\d\d ?[-/] ?(?:19|20)\d\d{_RIGHT}",
            r"(?<!\d)\d{1,2}:\d\d(?::\d\d(?:\.\d{1,9})?)?(?!\d)",
            r"(?<![\d.])\d{1,2}\.\d\d ?- ?\d{1,2}\.\d\d(?![\d.-])",
            rf"(?<![\d.+]){_OCTET}(?:\.{_OCTET}){{3}}(?![\d.]*\d)",
            r"(?<![\d.])[+-]?\d{1,3}\.\d{3,15}°?(?: ?[NS])?[,; ] ?[+-]?\d{1,3}\.\d{3,15}(?![\d.-])",
            r"(?<![\d.+])[+-]?0\.\d+(?![\d.-])",
            r"\b[vV]\.?\d+(?:[.-]\d+)*",
        )
    )
    + ")"
)
_NAMES_A_PHONE = re.compile(r"wa\.me/|whatsapp|phone=|tel=|tel:", re.I)
_IBAN = re.compile(r"\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\d+])(?<!\d[ -])[3-6]\d{3}(?:([ -]?)\d{4}\1\d{4}\1\d{1,7}|([ -]?)\d{6}\2\d{4,5})(?![ -]?\d)")

_CUE = re.compile(
    r"(?P<phone>\b(?:tel(?:efon\w{0,2}|ephone|éfono|e?f?)?|tlf|phone|ph|mobile?|mob|handy|cell(?:phone)?|fax|call(?:ing)?|dial|ring"
    r"|sms|text|hotline|landline|whats?app|wa\.me|viber|signal|contact|reach"
    r"|(?:my|our|his|her|their|your|the) (?:number|digits))\b"
    r"|(?<![a-z])[tfmpc][.:](?=\s*$)|[\u260e\u260f\u2706\U0001f4de\U0001f4f1\U0001f4f2])"
    r"|(?P<other>\b(?:card|credit|account|acct|order|invoice|ticket|ref|reference|tracking|case|ssn|social security|zip"
    r"|postcode|postal|iban|id|ids|serial|sku|isbn|issn|doi|asin|vin|passport|licen[cs]e|policy|model|part|version|build|issue|commit"
    r"|booking|flight|room|code|pin|otp|tax|vat|ein|registration|patent|timestamp|epoch|hash|lat|lon|coordinates|population"
    r"|score|total|amount|price|nmls)\b)",
)
"""In lower case, as `_cue` looks at it: without re.I the engine tells the words apart by their first letters."""

_ENDS_A_CUE = re.compile(rf"[0-9{MASK}]")
_PHONE_GAP = re.compile(
    r"(?:[\s:=(.,/|*#>\\'\"!\ufe0f-]|\b(?:me|us|him|her|them|at|on|is|are|number|no|nr|or|text|call|whatsapp|now|today|the|my|our"
    r"|your|office|line|to|and|via|under|directly|anytime|please|by|phone|mobile|cell|fax|tel|home|work|free)\b)*",
)
_OTHER_GAP = re.compile(r"[^\d\n]{0,20}")
_CUE_AFTER = re.compile(
    r"[ \t,:(\\-]{0,3}(?:office|fax|mobile|cell|home|work|direct|phone|tel|whatsapp|landline)\b"
    r"[ \t)]*(?:$|[\r\n,;.|/\\])",
    re.I,
)
_COUNT_AFTER = re.compile(
    r"[ \t]*(?:%|€|£|\$|°|(?:k|m|bn|likes?|views?|followers?|subscribers?|subs|comments?|shares?|retweets?|plays?"
    r"|downloads?|users?|people|persons|votes?|points?|pts|times|streams?|impressions?|clicks?|visit(?:or)?s?|members?|fans?|posts?|upvotes?"
    r"|reactions?|listens|listeners?|viewers?|hits|copies|units|sales|dollars?|usd|eur|euros?|gbp|pounds?|yen"
    r"|rupees|km|miles|kg|mb|gb|ms|seconds|minutes|hours|days|years|rows|items|bytes|tokens|million|billion|tweets?|replies|saves)\b)",
    re.I,
)
_MONEY_BEFORE = re.compile(r"(?:[$€£¥₹]|\b(?:USD|EUR|GBP|Rs\.?)) ?$")
_PART_OF_AN_ID = re.compile(r"(?:[A-Za-z0-9][-./]|[=&_#@/]|(?<!\d)\d{1,3},)$")
_EXTENSION = re.compile(
    r"[ \t]?[,;]?[ \t]?(?:\(?(?:e?xt(?:ensi[oó]n|n)?|int|poste|durchwahl|доб)\.?[ \t]?[:=.]?"
    r"[ \t]?\d{1,7}\)?|x[ \t]?\d{1,7}|#\d{2,6})(?!\w)",
    re.I,
)

_STRONG = re.compile(
    r"(?<!\d)(?:\((?!(?:19|20)\d\d\))\d{1,5}\)[ .-]{0,2}\d{2,5}(?:[ .-]\d{2,5}){1,3}"
    r"|\((?!(?:19|20)\d\d\))\d{2,5}\)[ .-]{0,2}\d{5,8}"
    r"|\d{3}[-./]\d{3}[-./]\d{4}|\d{3} \d{3}[- ]\d{4})(?!\d)"
)
STRONG_AT_LEAST = 12
"""Characters of a number of that shape without a bracket."""

_TRUNK_ZERO = re.compile(r"0\d{1,5}(?:[ ./-]{1,3}\d{2,8}){1,5}")
_YEAR_FIRST = re.compile(r"\(?(?:19|20)\d\d\b")
_THOUSANDS = re.compile(r"\d{1,3}(?:([ .])\d{3})(?:\1\d{3})*")
_PLUS_OR_00 = re.compile(r"[+(]{0,2}(?:\+|00)")


class _Library:
    """Answers of `phonenumbers`, counted."""

    def __init__(self) -> None:
        self.calls_left = LIBRARY_CALLS_AT_MOST

    def is_international(self, digits: str) -> bool:
        """Whether country code and length belong together (the number need not be allocated)."""
        if self.calls_left <= 0:
            return True
        self.calls_left -= 1
        try:
            number = phonenumbers.parse("+" + digits)
        except phonenumbers.NumberParseException:
            return False
        possible: bool = (
            phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE
        )
        return possible

    def is_national(self, digits: str) -> bool:
        """Whether one of the common numbering plans has allocated it."""
        for region in REGIONS:
            if self.calls_left <= 0:
                return True
            self.calls_left -= 1
            try:
                if phonenumbers.is_valid_number(phonenumbers.parse(digits, region)):
                    return True
            except phonenumbers.NumberParseException:
                continue
        return False


def find_phones(view: str) -> list[Span]:
    """Spans of the telephone numbers, extensions included, in order and without overlap.

    Args:
        view: the normalised text: ASCII digits, "-" for every dash; `MASK` where something was found before.
    """
    if _RUN.search(view) is None:
        return []
    view = _without_other_things(view)
    library = _Library()
    found: list[Span] = []
    for run in _RUN.finditer(view):
        for piece in _pieces(view, run.span()):
            for start, end in _phones_in(view, piece, library):
                extension = _EXTENSION.match(view, end)
                found.append((start, extension.end() if extension else end))
    return found


def _without_other_things(view: str) -> str:
    """The text, as long as before, with dates, hosts, links, cards and the like masked."""

    def mask(match: re.Match[str]) -> str:
        return MASK * len(match.group())

    if "://" in view or "www." in view:
        view = _URL.sub(lambda match: match.group() if _NAMES_A_PHONE.search(match.group()) else mask(match), view)
    view = _IBAN.sub(lambda match: mask(match) if _is_iban(match.group()) else match.group(), view)
    view = _CARD.sub(lambda match: mask(match) if _passes_luhn(match.group()) else match.group(), view)
    return _SOMETHING_ELSE.sub(mask, view)


def _is_iban(text: str) -> bool:
    """ISO 13616: letters as numbers, the first four characters last, 1 modulo 97."""
    compact = text.replace(" ", "")
    return int("".join(str(int(each, 36)) for each in compact[4:] + compact[:4])) % 97 == 1


def _passes_luhn(text: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    digits = [int(each) for each in reversed(text) if each.isdigit()]
    return sum(each if place % 2 == 0 else sum(divmod(2 * each, 10)) for place, each in enumerate(digits)) % 10 == 0


def _pieces(view: str, run: Span) -> Iterator[Span]:
    """The run, cut where no single number goes on: wide gaps, rows of signs, a slash between spaces."""
    start = run[0]
    if (
        run[1] - start <= DIGITS_AT_MOST or _digits(view[start : run[1]]) <= DIGITS_AT_MOST
    ):  # "030 / 901820" is one number, not two
        yield run
        return
    for gap in _PIECE_BREAK.finditer(view, *run):
        yield start, gap.start()
        start = gap.end()
    yield start, run[1]


def _digits(piece: str) -> int:
    return sum(map(str.isdigit, piece))


def _phones_in(view: str, piece: Span, library: _Library) -> Iterator[Span]:
    start, end = piece
    opening = _PLUS_OR_00.match(view, start, end) if view[start] in "+(0" else None
    if opening:
        stop = _international_end(view, start, end, opening.end(), library)
        if stop:
            yield start, stop
            following = _GROUP.search(view, stop, end)
            if following is None:
                return
            start = following.start()
    groups = _GROUP.findall(view, start, min(end, start + 2 * CONTEXT_CHARACTERS))
    whole = end - start < 2 * CONTEXT_CHARACTERS and sum(map(len, groups)) <= DIGITS_AT_MOST
    before, after = view[max(0, start - CONTEXT_CHARACTERS) : start], view[end : end + CONTEXT_CHARACTERS]
    # Most pieces are too short for one without a bracket.
    may_be_strong = end - start >= STRONG_AT_LEAST or "(" in view[start:end]
    strong = list(_STRONG.finditer(view, start, end)) if may_be_strong else []
    if whole and not strong:
        if _is_phone(groups, view[start:end], before, after, library):
            yield start, _closed(view, start, end)
        return
    for match in strong:
        before = view[max(0, match.start() - CONTEXT_CHARACTERS) : match.start()]
        after = view[match.end() : match.end() + CONTEXT_CHARACTERS]
        lead = view[start : match.start()]
        # A short lead is a country or trunk code more often than a number of its own: nothing of a phone may stay.
        left = start if lead and len(_GROUP.findall(lead)) == 1 and _digits(lead) <= 3 else match.start()
        if left == start:
            before = view[max(0, start - CONTEXT_CHARACTERS) : start]
        if _is_not_ruled_out(_cue(before), before, after):
            yield left, _closed(view, left, match.end())
        start = match.end()
    if (
        not strong
        and len(groups) <= 12
        and end - start < 2 * CONTEXT_CHARACTERS
        and _cue(before) == "phone"
        and len(groups) > 1
    ):
        yield start, end


def _international_end(view: str, start: int, end: int, digits_from: int, library: _Library) -> int | None:
    """Where the number behind a plus sign or 00 ends: the longest row of groups that its country allows."""
    ends: list[tuple[int, str]] = []
    digits = ""
    for group in _GROUP.finditer(view, digits_from, end):
        digits += group.group()
        if len(digits) > DIGITS_AT_MOST + 1:  # one more for the zero in "+49 (0) 30"
            break
        ends.append((group.end(), digits))
    for stop, number in reversed(ends):
        if len(number) < 7 or _COUNT_AFTER.match(view, stop):
            continue
        zero = re.search(r"\( ?0 ?\)", view[start:stop])
        without_zero = re.sub(r"\D|\( ?0 ?\)", "", view[digits_from:stop]) if zero else number
        if library.is_international(without_zero) or library.is_international(number):
            return _closed(view, start, stop)
    if "+" not in view[start:digits_from] or not ends or len(ends[-1][1]) < 8 or _COUNT_AFTER.match(view, ends[-1][0]):
        return None
    has_a_country_code = len(ends) == 2 and len(ends[0][1]) <= 3 and len(ends[-1][1]) >= 10
    is_a_number = (
        has_a_country_code or len(ends) >= 3 or _cue(view[max(0, start - CONTEXT_CHARACTERS) : start]) == "phone"
    )
    return _closed(view, start, ends[-1][0]) if is_a_number else None


def _is_phone(groups: list[str], piece: str, before: str, after: str, library: _Library) -> bool:
    digits = "".join(groups)
    if len(digits) < 6:
        return False
    cue = _cue(before)
    if not _is_not_ruled_out(cue, before, after):
        return False
    if cue == "phone" or _CUE_AFTER.match(after):
        return True
    if (after[:1].isalpha() or after[:1] == "_") and not _EXTENSION.match(after):
        return False
    return _has_the_shape(groups, piece, library)


def _has_the_shape(groups: list[str], piece: str, library: _Library) -> bool:
    """Whether digits without a cue are a number: by a trunk zero, or allocated and grouped as no count is."""
    digits = "".join(groups)
    if len(groups) == 1:
        return len(digits) in (10, 11) and digits[0] != "1" * (len(digits) == 10) and library.is_national(digits)
    if not 9 <= len(digits) <= 12 or _YEAR_FIRST.match(piece):
        return False
    if _TRUNK_ZERO.fullmatch(piece):
        return True
    is_grouped_like_one = all(2 <= len(each) <= 5 for each in groups[1:]) and len(groups) <= 5
    return is_grouped_like_one and not _THOUSANDS.fullmatch(piece) and library.is_national(digits)


def _is_not_ruled_out(cue: str | None, before: str, after: str) -> bool:
    if _COUNT_AFTER.match(after) or _MONEY_BEFORE.search(before[-6:]):
        return False
    return cue != "other" and (cue == "phone" or _PART_OF_AN_ID.search(before[-6:]) is None)


def _cue(before: str) -> str | None:
    """What the words before a number say it is: "phone", "other" or nothing. The nearest word counts."""
    backwards = before[::-1]
    end = _ENDS_A_CUE.search(backwards)
    before = (backwards[: end.start()] if end else backwards)[::-1].lower()
    if not before or before.isspace():
        return None
    cues = list(_CUE.finditer(before))
    if not cues:
        return None
    last = cues[-1]
    kind = last.lastgroup
    gap = _PHONE_GAP if kind == "phone" else _OTHER_GAP
    return kind if gap.fullmatch(before, last.end()) else None


def _closed(view: str, start: int, end: int) -> int:
    """The end, with the bracket that the number itself opened."""
    number = view[start:end]
    return end + 1 if number.count("(") > number.count(")") and view[end : end + 1] == ")" else end
