"""Removal of personal data from free text: `ScrubbedText` is the only thing that an embedder takes.

What belongs here: the normalised view in which things are looked for, people's names, handles, and the replacement.
What does not: how an address or a telephone number looks (emails.py, phones.py), and metadata, which passes an
allow-list instead. Nothing here logs, and no error carries text.
"""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import InitVar, dataclass, field
from html import unescape
from types import MappingProxyType

from everreach_assets.domain.emails import Span, find_emails, merged
from everreach_assets.domain.errors import Refused
from everreach_assets.domain.phones import MASK, find_phones

SCRUBBER_VERSION = "1"
"""Part of every content hash: raise it whenever the same text may come out differently."""

PLACEHOLDERS = {"email": "[EMAIL]", "phone": "[PHONE]", "name": "[NAME]"}

PASSES_AT_MOST = 8
"""A removal may bring two neighbours together. Real texts settle in the second pass; what does not is refused."""

_SEAL = object()


@dataclass(frozen=True)
class ScrubbedText:
    """A text that went through a `Scrubber`; nothing else can make one.

    Attributes:
        text: valid Unicode, with `[EMAIL]`, `[PHONE]` and `[NAME]` in place of what was found.
        redactions: how often each kind (email, phone, name) was removed; kinds without a hit are left out.
    """

    text: str
    redactions: Mapping[str, int] = field(hash=False)
    _seal: InitVar[object]

    def __post_init__(self, _seal: object) -> None:
        if _seal is not _SEAL:
            raise TypeError("a ScrubbedText is made by Scrubber.scrub only")


class Scrubber:
    """Replaces e-mail addresses, telephone numbers and names of people.

    Args:
        known_names: people's names, matched as whole words without regard to case, accents and the sign between
            the words. The cost of a text does not grow with their number.
        handles_are_personal: whether `@handle` and links to profiles are names. They are for prospects; in posts
            they are content.
    """

    def __init__(self, known_names: Iterable[str] = (), *, handles_are_personal: bool = False) -> None:
        self._names = frozenset(words for name in known_names if (words := _name_words(name)))
        self._names |= {("".join(words),) for words in self._names if len(words) > 1 and sum(map(len, words)) >= 8}
        longest: dict[str, int] = {}
        for words in self._names:
            longest[words[0]] = max(len(words), longest.get(words[0], 0))
        self._longest_by_first_word = longest
        self._handles_are_personal = handles_are_personal

    def knowing(self, names: Iterable[str]) -> "Scrubber":
        """A scrubber that knows these names too; those that this one knows are not read anew."""
        new = Scrubber(names, handles_are_personal=self._handles_are_personal)
        new._names |= self._names
        for word, length in self._longest_by_first_word.items():
            new._longest_by_first_word[word] = max(length, new._longest_by_first_word.get(word, 0))
        return new

    def scrub(self, text: str) -> ScrubbedText:
        """The text without personal data; byte for byte the same if it holds none.

        Scrubbing twice gives what scrubbing once gives. A placeholder that the text holds already is kept and not
        counted. Lone surrogates become U+FFFD.

        Raises:
            Refused: the text changes with every pass (nothing that people write does): do not embed it.
        """
        text = _SURROGATE.sub("\ufffd", text)
        redactions: Counter[str] = Counter()
        for _ in range(PASSES_AT_MOST):
            found = self._find(text)
            if not found:
                return ScrubbedText(text, MappingProxyType(dict(redactions)), _SEAL)
            redactions.update(kind for _, kind in found)
            text = _replaced(text, found)
        raise Refused(f"a text of {len(text)} characters does not settle in {PASSES_AT_MOST} passes: leave it out")

    def _find(self, text: str) -> list[tuple[Span, str]]:
        view, origin = text_view(text)
        view = _PLACEHOLDER.sub(lambda match: MASK * len(match.group()), view)
        found: list[tuple[Span, str]] = []
        for kind, find in (
            ("email", find_emails),
            ("phone", find_phones),
            ("name", self._find_handles),
            ("name", self._find_known_names),
            ("name", find_cued_names),
        ):
            spans = find(view)
            found += [(span, kind) for span in spans]
            view = _masked(view, spans)
        if origin is not None:
            found = [((origin[start][0], origin[end - 1][1]), kind) for (start, end), kind in found]
        return sorted(found)

    def _find_handles(self, view: str) -> list[Span]:
        if not self._handles_are_personal:
            return []
        return merged([match.span() for pattern in (_PROFILE_LINK, _HANDLE) for match in pattern.finditer(view)])

    def _find_known_names(self, view: str) -> list[Span]:
        if not self._names:
            return []
        tokens = [(match.span(), _folded(match.group())) for match in _NAME_WORD.finditer(view)]
        found: list[Span] = []
        place = 0
        while place < len(tokens):
            size = self._name_length_at(view, tokens, place)
            if size:
                found.append((tokens[place][0][0], tokens[place + size - 1][0][1]))
            place += size or 1
        return found

    def _name_length_at(self, view: str, tokens: list[tuple[Span, str]], place: int) -> int:
        """How many words from here are a known name, the longest one; 0 if none."""
        words: list[str] = []
        best = 0
        for (start, _), word in tokens[place : place + self._longest_by_first_word.get(tokens[place][1], 0)]:
            if words and not _NAME_GAP.fullmatch(view, tokens[place + len(words) - 1][0][1], start):
                break
            words.append(word)
            if tuple(words) in self._names:
                best = len(words)
        return best


# --- the view ---------------------------------------------------------------------------------------------------

_SURROGATE = re.compile("[\ud800-\udfff]")
_PLACEHOLDER = re.compile("|".join(map(re.escape, PLACEHOLDERS.values())))
_ENCODED = re.compile(
    r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|commat|period|nbsp|plus|lowbar|hyphen|zwnj|zwj|shy);|%(?:25)?(?:40|20|28|29|2[BbDdEe])"
)
_PLAIN_OF = {"\t": "\t", "\n": "\n", "\r": "\r", "\x85": "\n", "\u2028": "\n", "\u2029": "\n", "\u2212": "-"}
_PLAIN_OF |= {"\u3002": "."}  # the ideographic full stop separates labels too (RFC 3490, 3.1)
_PLAIN_OF |= dict.fromkeys(map(chr, range(0xFE00, 0xFE10)), "")  # variation selectors
_PLAIN_OF_CATEGORY = {"Cf": "", "Cc": "", "Me": "", "Pd": "-", "Zs": " "}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def text_view(text: str) -> tuple[str, list[Span] | None]:
    """The text as a reader sees it, and for each of its characters the span of the original that it stands for.

    Full-width and other compatibility forms, digits of any script, dashes and spaces become plain ones; invisible
    characters vanish; HTML entities and percent codes that occur in addresses and numbers are decoded.

    Returns:
        The view and its origins; the text itself and None where nothing differs.
    """
    is_encoded = ("&" in text or "%" in text) and _ENCODED.search(text) is not None
    if not is_encoded:
        if text.isascii():
            if not _CONTROL.search(text):
                return text, None
        elif all(_plain(each) == each for each in set(text)):
            return text, None
    parts: list[str] = []
    origin: list[Span] = []
    place = 0
    for match in _ENCODED.finditer(text):
        _append_plain(text, (place, match.start()), parts, origin)
        shown = "".join(map(_plain, _decoded(match.group())))
        parts.append(shown)
        origin += [match.span()] * len(shown)
        place = match.end()
    _append_plain(text, (place, len(text)), parts, origin)
    return "".join(parts), origin


def _append_plain(text: str, span: Span, parts: list[str], origin: list[Span]) -> None:
    for place in range(*span):
        shown = _plain(text[place])
        parts.append(shown)
        origin += [(place, place + 1)] * len(shown)


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
    return unicodedata.normalize("NFKC", character)


def _masked(view: str, spans: list[Span]) -> str:
    parts: list[str] = []
    place = 0
    for start, end in spans:
        parts += (view[place:start], MASK * (end - start))
        place = end
    return "".join((*parts, view[place:]))


def _replaced(text: str, found: list[tuple[Span, str]]) -> str:
    parts: list[str] = []
    place = 0
    for (start, end), kind in found:
        parts += (text[place:start], PLACEHOLDERS[kind])
        place = max(place, end)
    return "".join((*parts, text[place:]))


# --- names ------------------------------------------------------------------------------------------------------

_NAME_WORD = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f])*+")
_NAME_GAP = re.compile(r"[\s._'\u2019-]{1,3}")


def _folded(word: str) -> str:
    """Without case and accents."""
    if word.isascii():
        return word.lower()
    return "".join(each for each in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(each))


def _name_words(name: str) -> tuple[str, ...]:
    view, _ = text_view(_SURROGATE.sub("\ufffd", name))
    return tuple(_folded(match.group()) for match in _NAME_WORD.finditer(view))


_HANDLE = re.compile(r"(?<![\w@./])@(?=[\w.]{0,29}[^\W\d_])\w(?:[\w.]{0,28}\w)?+")
_PROFILE_LINK = re.compile(
    r"(?<![\w.@/-])(?:https?://)?(?:www\.|m\.|[a-z]{2}\.)?(?:(?:twitter|x|instagram|facebook|fb|tiktok|threads|github|medium|pinterest|snapchat)"
    r"\.(?:com|net)|linkedin\.com/(?:in|pub)|youtube\.com/(?:user|c|channel)|youtube\.com(?=/@)|reddit\.com/(?:u|user)|t\.me|wa\.me)"
    r"/@?[\w.%~-]*\w/?|(?<![\w/])/?u/[\w-]{3,20}+",
    re.I,
)

_NOBODY = frozenset(
    re.findall(
        r"\w+",
        "a all and anyone any are at back both colleague colleagues community customer customers dad day dear"
        " doctor e everybody everyone executive fam fans folks followers for friend friends from gang gentlemen"
        " girl girls good guys here honey hr i if in is it its kitty ladies love madam management mate mom morning"
        " mum my neighbor no not of officer on our parents people please reader readers sir sirs so staff stranger"
        " subscribers sunshine support team that the there these this to twitter universe us viewers we weekend"
        " what world yes you your yours",
    )
)
"""Words that follow a greeting or a closing and name nobody."""

_GREETING = re.compile(
    r"(?:^|(?<=[.!?>\"])[ \t]|\n)[ \t>\"]{0,4}"
    r"(?:hi|hiya|hello|hey|dear|good (?:morning|afternoon|evening)"
    r"|thanks|thank you|hola|bonjour|hallo|ciao)"
    r"(?: (?:mr|mrs|ms|miss|dr|prof)\b\.?)?,? {1,2}"
    r"(?P<name>[^\W\d_][\w'\u2019-]{0,30}(?: [^\W\d_][\w'\u2019.-]{0,30}){0,2}?)"
    r"(?=[ \t]?(?:[,!:]|$|\r?\n))",
    re.I,
)
_INTRODUCTION = re.compile(
    r"\b(?:my name(?:'s|\u2019s| is)|me llamo|je m['\u2019]appelle|ich hei(?:ß|ss)e|mi chiamo) {1,2}"
    r"(?P<name>[^\W\d_][\w'\u2019-]{0,30}+(?: [^\W\d_](?:[\w'\u2019-]{0,30}+|\.)){0,2})",
    re.I,
)
_SIGN_OFF = re.compile(
    r"(?:^|\n)[ \t>]{0,4}"
    r"(?:(?:(?:best|kind|warm|with|many|with best|with kind) )?(?:regards|wishes|thanks)|best|cheers"
    r"|thank you|thx"
    r"|thanks(?: so much| again| in advance)?|sincerely(?: yours)?|yours(?: truly| sincerely| faithfully)?"
    r"|love|xoxo"
    r"|mit freundlichen grüßen|viele grüße|cordialement|saludos|\u0441 уважением|-{2,})"
    r"[ \t]{0,4}[,.!]?(?:[ \t]{0,4}\r?\n[ \t>]{0,4}){1,2}"
    r"(?P<name>[^\W\d_][\w'\u2019.-]{0,30}+(?: [^\W\d_][\w'\u2019.-]{0,30}+){0,3})"
    r"(?=[ \t]{0,4},?[ \t]{0,4}(?:$|\r?\n))",
    re.I,
)


def find_cued_names(view: str) -> list[Span]:
    """Spans of names that a greeting, an introduction or a signature announces; strangers elsewhere stay."""
    return merged([span for pattern in (_GREETING, _INTRODUCTION, _SIGN_OFF) for span in _cued(view, pattern)])


def _cued(view: str, pattern: re.Pattern[str]) -> Iterator[Span]:
    for match in pattern.finditer(view):
        words = match["name"].split()
        named = [word for word in _leading_capitals(words) if word.rstrip(".").lower() not in _NOBODY]
        if pattern is _INTRODUCTION:
            named = named or ([words[0]] if words[0].lower() not in _NOBODY else [])
        elif len(named) < len(words):
            continue
        if named and words[: len(named)] == named:
            start = match.start("name")
            yield start, start + len(" ".join(named))


def _leading_capitals(words: list[str]) -> Iterator[str]:
    for word in words:
        if not (word[0].isupper() or not word[0].islower()):
            return
        yield word
