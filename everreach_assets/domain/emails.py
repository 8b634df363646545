r"""Where the e-mail addresses of a text are: plain, quoted, with an address literal, and spelled ("at", "dot").

Every pattern has a left boundary and possessive or bounded repeats, so a megabyte without a boundary is one step, not
a square. What belongs here: the addresses. What does not: decoding of `%40` or full-width forms (text_view.py has
done it) and telephone numbers (phones.py).
"""

import functools
import re
from collections.abc import Callable, Iterator

import phonenumbers

from everreach_assets.domain.text_view import Span

_ATEXT = r"\w\u0300-\u036f.!#$%&'*+/=?^`{|}~-"  # accents may be characters of their own
_DOMAIN = r"(?=[\w\u0300-\u036f.-]*\.[\w-]{2})[\w\u0300-\u036f.-]++"
_LITERAL = r"\[[\w.:-]{2,64}\]"
_PLAIN = re.compile(
    rf"(?<![{_ATEXT}])[{_ATEXT}]++@(?P<gap>[ \t]?(?:\r?\n)?[ \t]?)(?:\([^()\n@]{{0,64}}\))?"
    rf"(?P<domain>{_DOMAIN}|{_LITERAL})"
)
_QUOTED = re.compile(rf'"@(?P<domain>{_DOMAIN}|{_LITERAL})')

_OPEN, _CLOSE = r"\s{0,3}[\[({<]\s?", r"\s?[\])}>]\s{0,3}"
_AT = rf"(?:{_OPEN}(?:at|@){_CLOSE}|\s{{1,3}}at\s{{1,3}}|\s{{0,3}}@\s{{1,3}}|@)"
_SPELLED_DOT = rf"(?:{_OPEN}(?:dot|\.){_CLOSE}|\s{{1,3}}dot\s{{1,3}})"
_WORD = r"[^\W_][\w-]{0,62}+"
_SPELLED = re.compile(
    rf"(?<![{_ATEXT}])[{_ATEXT}]++(?:{_SPELLED_DOT}\w[\w-]{{0,62}}+){{0,4}}(?P<at>{_AT})"
    rf"(?P<domain>{_WORD}(?:(?:\.|{_SPELLED_DOT}){_WORD}){{1,6}})",
    re.I,
)
_MAY_BE_SPELLED = re.compile(r"\bdot\b|[\[({<]\s?(?:at|@|dot|\.)\s?[\])}>]|@\s", re.I)

_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_TLD = re.compile(r"(?i:xn--[a-z0-9-]{2,59}|[a-z](?:[a-z-]{0,61}[a-z]))|[^\W\d_a-zA-Z]{2,63}")
_VERSION = re.compile(r"v?\d+(?:\.\d+)+(?:[.-].*)?|v?\d+\.\w*\d", re.I)
_FILE_ENDINGS = frozenset(
    ("png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "html", "json", "pdf", "exe", "xml", "yaml")
)
_KNOWN_TLDS = frozenset(
    re.findall(
        r"\w+",
        "com org net edu gov mil int info biz name pro mobi io co app dev me tv ai xyz online site store shop tech blog"
        " email agency studio design media club live news cloud digital world life social eu uk",
    )
) | frozenset(region.lower() for region in phonenumbers.SUPPORTED_REGIONS)
"""For addresses with spaces or words in them, where "at" and "@" may be English: the endings that people have."""

_PROGRAMS = frozenset(("git", "hg", "svn"))
"""`git@github.com` names a host, not a person."""


def find_emails(view: str) -> list[Span]:
    """Spans of the e-mail addresses, in order and without overlap.

    Args:
        view: the normalised text; what was found before is masked by a character that is in no address.
    """
    spans: list[Span] = []
    if "@" in view:
        spans += _matches(_PLAIN, view, functools.partial(_plain_span, view))
        spans += [span for match in _QUOTED.finditer(view) if (span := _quoted_span(view, match))]
    if _MAY_BE_SPELLED.search(view):
        spans += _matches(_SPELLED, view, _spelled_span)
    return merged(spans)


def _matches(pattern: re.Pattern[str], view: str, span_of: Callable[[re.Match[str]], Span | None]) -> Iterator[Span]:
    """Spans of the matches that hold.

    Where one does not, its domain is read again: in "x@ john@example.com" it is the name of the next.
    """
    place = 0
    while match := pattern.search(view, place):
        span = span_of(match)
        if span:
            yield span
        place = match.end() if span else match.start("domain")


def merged(spans: list[Span]) -> list[Span]:
    """The spans in order, those that overlap as one."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start < result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def _plain_span(view: str, match: re.Match[str]) -> Span | None:
    start, domain = match.start(), match["domain"]
    local = match.group()[: match.group().index("@")]
    if "://" in view[max(0, start - 1) : start + 2] or local.startswith(("//", "www.")):
        cut = local.rfind("/") + 1
        start, local = start + cut, local[cut:]
    stripped = local.lstrip("'`*")
    start, local = start + len(local) - len(stripped), stripped
    if not local.isascii() and not _CJK.match(local[-1:]) and (cjk := list(_CJK.finditer(local))):
        start, local = start + cjk[-1].end(), local[cjk[-1].end() :]
    if not local.strip("./") or local.lower() in _PROGRAMS:
        return None
    if domain.startswith("["):
        end = match.end()
    else:
        length = _domain_length(domain, is_strict=bool(match["gap"]))
        if not length:
            return None
        end = match.start("domain") + length
    if local.startswith(".") and view[start - 1 : start] == '"' and (quote := _quote_start(view, start - 1)) >= 0:
        start = quote
    return start, end


def _quoted_span(view: str, match: re.Match[str]) -> Span | None:
    """A quoted local part with its domain; what stands between quotes before a handle ("so @anna.b) is none."""
    start = _quote_start(view, match.start())
    local, domain = view[start + 1 : match.start()], match["domain"]
    if start < 0 or local[:1].isspace() != local[-1:].isspace():
        return None
    if domain.startswith("["):
        return start, match.end()
    length = _domain_length(domain, is_strict=False)
    return (start, match.start("domain") + length) if length else None


def _domain_length(domain: str, *, is_strict: bool) -> int:
    """How many characters of it are the domain; 0 if it is none."""
    if (
        not domain.isascii()
        and not _CJK.match(domain[:1])
        and (cjk := _CJK.search(domain))
        and "." in domain[: cjk.start()].rstrip(".")
    ):
        domain = domain[: cjk.start()]
    domain = domain.rstrip("._-")
    labels = domain.split(".")
    tld = labels[-1]
    if len(labels) < 2 or not any(labels[:-1]) or _VERSION.fullmatch(domain) or tld.lower() in _FILE_ENDINGS:
        return 0
    if not _TLD.fullmatch(tld) or (is_strict and tld.lower() not in _KNOWN_TLDS):
        return 0
    return len(domain)


def _quote_start(view: str, closing: int) -> int:
    """The quote that opens the local part whose closing quote is at `closing`; -1 if none is near or on its line."""
    nearest = max(0, closing - 66, view.rfind("\n", max(0, closing - 66), closing) + 1)
    opening = view.rfind('"', nearest, closing)
    while opening > nearest and view[opening - 1] == "\\":
        opening = view.rfind('"', nearest, opening)
    return opening


def _spelled_span(match: re.Match[str]) -> Span | None:
    """A spelled address, cut after its last ending that is known: in "at example dot com dot that" it is "com"."""
    at, domain = match["at"].lower(), match["domain"]
    is_spelled_dot = re.search(_SPELLED_DOT, match.group(), re.I) is not None
    if (at.strip() == "at" and not is_spelled_dot) or (at == "@" and not is_spelled_dot):
        return None
    if match.group()[: match.start("at") - match.start()].lower() in _PROGRAMS:
        return None
    end = 0
    for part in re.finditer(rf"(?:\.|{_SPELLED_DOT})({_WORD})", domain, re.I):
        if part[1].lower() in _KNOWN_TLDS:
            end = part.end()
    return (match.start(), match.start("domain") + end) if end else None
