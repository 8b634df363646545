"""Removal of personal data from free text: `ScrubbedText` is the only thing that an embedder takes.

What belongs here: the order of the finders, the replacement, and the type that proves it. What does not: how things
look (emails.py, phones.py, names.py), and metadata, which passes an allow-list instead. Nothing here logs, and no error
carries text.
"""

import copy
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn, Protocol

from everreach_assets.domain.emails import find_emails
from everreach_assets.domain.errors import Refused
from everreach_assets.domain.names import KnownNames, find_cued_names, find_handles
from everreach_assets.domain.phones import find_phones
from everreach_assets.domain.text_view import MASK, Span, TextView, without_surrogates

SCRUBBER_VERSION = "3"
"""Part of every content hash: raise it whenever the same text may come out differently."""

PLACEHOLDERS = {"email": "[EMAIL]", "phone": "[PHONE]", "name": "[NAME]"}

PASSES_AT_MOST = 8
"""A removal may bring two neighbours together. Real texts settle in the second pass; what does not is refused."""

_PLACEHOLDER = re.compile(r"\[(EMAIL|PHONE|NAME)\]")
_DECIDED = re.compile(r"\[(?:EMAIL|PHONE|NAME)\]|\{(?:EMAIL|PHONE|NAME)\}")
_ESCAPED = r"{\1}"
"""Of a placeholder that the author typed; as long as it, so that places stay."""

_SEAL = object()


@dataclass(frozen=True, slots=True)
class ScrubbedText:
    """A text that went through a `Scrubber`; nothing else can make one, and no copy of it by pickle either.

    Attributes:
        text: valid Unicode, with `[EMAIL]`, `[PHONE]` and `[NAME]` in place of what was found. Where anything was
            found, a placeholder that the author typed is in braces: those in brackets are ours, `redactions` in number.
        redactions: how often each kind (email, phone, name) was removed; kinds without a hit are left out.
    """

    text: str
    redactions: Mapping[str, int] = field(hash=False)
    _seal: InitVar[object]

    def __post_init__(self, _seal: object) -> None:
        if _seal is not _SEAL:
            raise TypeError("a ScrubbedText is made by Scrubber.scrub only")

    def __init_subclass__(cls, **_: Any) -> NoReturn:
        raise TypeError("a ScrubbedText has no other kinds: what takes one relies on where it came from")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ScrubbedText is not pickled: what is read back may be anybody's; scrub again")


def plain_texts(scrubbed: Iterable[ScrubbedText]) -> list[str]:
    """The texts themselves, for a provider: the last place where one that was not scrubbed is stopped.

    Raises:
        TypeError: one of them is no `ScrubbedText`, whatever attributes it has.
    """
    texts = list(scrubbed)
    if any(type(each) is not ScrubbedText for each in texts):
        raise TypeError("a provider embeds what Scrubber.scrub made, and nothing else")
    return [each.text for each in texts]


class NameModel(Protocol):
    """A model that finds people's names in running text (resources/name_model.py)."""

    @property
    def version(self) -> str:
        """Another one whenever the same text may come out differently."""

    def find(self, view: str) -> list[Span]:
        """Spans of names. May raise Refused: the text is then not embedded."""


class Removal(NamedTuple):
    """A span of a text that holds personal data, as places of its characters."""

    start: int
    end: int
    kind: str


class Scrubber:
    """Replaces e-mail addresses, telephone numbers and names of people.

    Args:
        known_names: people's names, matched as whole words without regard to case, accents and the sign between
            the words.
        handles_are_personal: whether `@handle` and links to profiles are names. They are for prospects; in posts
            they are content.
        name_model: finds strangers' names, where one is installed.
    """

    def __init__(
        self,
        known_names: Iterable[str] = (),
        *,
        handles_are_personal: bool = False,
        name_model: NameModel | None = None,
    ) -> None:
        self._finders = [("email", find_emails), ("phone", find_phones)]
        if handles_are_personal:
            self._finders.append(("name", find_handles))
        self._known = KnownNames(known_names)
        self._finders += [("name", self._known.find), ("name", find_cued_names)]
        self.version = SCRUBBER_VERSION
        if name_model is not None:
            self._finders.append(("name", name_model.find))
            self.version += f"+{name_model.version}"

    def knowing(self, names: Iterable[str], *, only: bool = False) -> "Scrubber":
        """A scrubber like this one that knows these names too, or with `only` no others."""
        known = KnownNames(names, beside=None if only else self._known)
        other = copy.copy(self)
        other._finders = [(kind, known.find if find == self._known.find else find) for kind, find in self._finders]
        other._known = known
        return other

    def scrub(self, text: str) -> ScrubbedText:
        """The text without personal data; byte for byte the same if it holds none.

        Scrubbing twice gives what scrubbing once gives. Lone surrogates become U+FFFD.

        Raises:
            Refused: the text changes with every pass (nothing that people write does): do not embed it.
        """
        rewritten = self._settled(without_surrogates(text))
        counts = Counter(each.kind for each in rewritten.removals)
        return ScrubbedText(rewritten.text, MappingProxyType(dict(counts)), _SEAL)

    def removals(self, text: str) -> list[Removal]:
        """What `scrub` takes out of the text, in order and without overlap.

        Raises:
            Refused: as `scrub`.
        """
        return self._settled(without_surrogates(text)).removals

    def _settled(self, text: str) -> "_Rewritten":
        rewritten = _Rewritten(text, [])
        for _ in range(PASSES_AT_MOST):
            found = self._find(rewritten.text)
            if not found:
                return rewritten
            new = [Removal(*rewritten.original_span(*span), kind) for span, kind in found]
            rewritten = _Rewritten(text, _united([*rewritten.removals, *new]))
        raise Refused(f"a text of {len(text)} characters does not settle in {PASSES_AT_MOST} passes: leave it out")

    def _find(self, text: str) -> list[tuple[Span, str]]:
        seen = TextView(text)
        view = seen.text
        if "[" in view or "{" in view:
            view = _DECIDED.sub(lambda match: MASK * len(match.group()), view)
        found: list[tuple[Span, str]] = []
        for kind, find in self._finders:
            spans = find(view)
            if spans:
                found += [(seen.original_span(*span), kind) for span in spans]
                view = _masked(view, spans)
        return found


class _Rewritten:
    """A text with placeholders in place of its removals, and the way back to where things were.

    A placeholder that the author typed is put in braces where there is any removal: it would pass for ours. Where there
    is none it stays, and no redaction is counted: only so is scrubbing twice the same as scrubbing once.
    """

    def __init__(self, original: str, removals: list[Removal]) -> None:
        self.removals = removals
        self._ends: list[int] = []
        if removals:
            original = _PLACEHOLDER.sub(_ESCAPED, original)
        parts: list[str] = []
        place = length = 0
        for start, end, kind in removals:
            placeholder = PLACEHOLDERS[kind]
            parts += (original[place:start], placeholder)
            length += start - place + len(placeholder)
            self._ends.append(length)
            place = end
        self.text = "".join((*parts, original[place:]))

    def original_span(self, start: int, end: int) -> Span:
        if not self.removals:
            return start, end
        return self._original_of(start)[0], self._original_of(end - 1)[1]

    def _original_of(self, place: int) -> Span:
        """The span of the original that a character stands for: all of a removal, if it is in a placeholder."""
        before = bisect_right(self._ends, place)
        if before < len(self.removals):
            following = self.removals[before]
            if place >= self._ends[before] - len(PLACEHOLDERS[following.kind]):
                return following.start, following.end
        shift = self.removals[before - 1].end - self._ends[before - 1] if before else 0
        return place + shift, place + shift + 1


def _united(removals: list[Removal]) -> list[Removal]:
    """The removals in order, those that overlap as one, of the kind of the first."""
    result: list[Removal] = []
    for each in sorted(removals):
        if result and each.start < result[-1].end:
            last = result.pop()
            each = Removal(last.start, max(last.end, each.end), last.kind)  # noqa: PLW2901 - they become one
        result.append(each)
    return result


def _masked(view: str, spans: list[Span]) -> str:
    parts: list[str] = []
    place = 0
    for start, end in spans:
        parts += (view[place:start], MASK * (end - start))
        place = end
    return "".join((*parts, view[place:]))
