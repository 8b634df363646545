"""Where names of people are in a text: people we know, names that a cue announces, handles and links to profiles.

What belongs here: what needs no model. What does not: strangers in the middle of a sentence (resources/name_model.py),
and replacing (scrubbing.py).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from everreach_assets.domain.emails import merged
from everreach_assets.domain.text_view import Span, TextView, without_surrogates

_WORD = r"[^\W_](?:[^\W_]|[\u0300-\u036f])*+"
_NAME_WORD = re.compile(_WORD)
_NEXT_NAME_WORD = re.compile(rf"[\s._'\u2019-]{{1,3}}({_WORD})")
LONGEST_WORD = 64
"""Of a name, in characters: none is longer, and one of a megabyte would take a second to fold."""


class KnownNames:
    """Names of people, found as whole words without regard to case, accents and the sign between the words.

    The cost of a text does not grow with their number.

    Args:
        beside: names that are known besides these, and are not read anew.
    """

    def __init__(self, names: Iterable[str], *, beside: "KnownNames | None" = None) -> None:
        new = {words for name in names if (words := _name_words(name))}
        new |= {("".join(words),) for words in new if len(words) > 1 and sum(map(len, words)) >= 8}
        self._names: frozenset[tuple[str, ...]] = frozenset(new) | (beside._names if beside else frozenset())
        self._longest: dict[str, int] = dict(beside._longest) if beside else {}
        for words in new:
            self._longest[words[0]] = max(len(words), self._longest.get(words[0], 0))

    def find(self, view: str) -> list[Span]:
        """Their spans, in order and without overlap; of two that begin at one word, the longer."""
        if not self._names:
            return []
        words = set(_NAME_WORD.findall(view))
        firsts = {word for word in words if len(word) <= LONGEST_WORD and _folded(word) in self._longest}
        if not firsts:
            return []
        found: list[Span] = []
        end = 0
        for match in _NAME_WORD.finditer(view):
            if match.start() >= end and match.group() in firsts and (stop := self._end_of_name(view, match)):
                found.append((match.start(), stop))
                end = stop
        return found

    def _end_of_name(self, view: str, first: re.Match[str]) -> int:
        """Where the longest name that begins with this word ends; 0 if none does."""
        words: tuple[str, ...] = (_folded(first.group()),)
        end, best = first.end(), 0
        for _ in range(self._longest[words[0]]):
            if words in self._names:
                best = end
            following = _NEXT_NAME_WORD.match(view, end)
            if following is None:
                break
            words += (_folded(following[1]),)
            end = following.end()
        return best


def _folded(word: str) -> str:
    """Without case and accents."""
    if word.isascii():
        return word.lower()
    return "".join(each for each in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(each))


def _name_words(name: str) -> tuple[str, ...]:
    view = TextView(without_surrogates(name)).text
    return tuple(_folded(match.group()) for match in _NAME_WORD.finditer(view))


_HANDLE = re.compile(r"(?<![\w@/])(?<!\w\.)(?:@(?=[\w.]{0,29}[^\W\d_])\w(?:[\w.]{0,28}\w)?+)++")
_PROFILE_LINK = re.compile(
    r"(?<![\w.@/-])(?:https?://)?(?:www\.|m\.|[a-z]{2}\.)?(?:(?:twitter|x|instagram|facebook|fb|tiktok|threads|github|medium|pinterest|snapchat)"
    r"\.(?:com|net)|linkedin\.com/(?:in|pub)|youtube\.com/(?:user|c|channel)|youtube\.com(?=/@)|reddit\.com/(?:u|user)|t\.me|wa\.me)"
    r"/@?[\w.%~-]*\w/?|(?<![\w/])/?u/[\w-]{3,20}+",
    re.I,
)


def find_handles(view: str) -> list[Span]:
    """Spans of `@handle` and of links to profiles."""
    links = _PROFILE_LINK.finditer(view) if "/" in view else ()
    handles = _HANDLE.finditer(view) if "@" in view else ()
    return merged([match.span() for matches in (links, handles) for match in matches])


_NOBODY = frozenset(
    re.findall(
        r"\w+",
        "a africa again all alot amazon america and any anyone apple applicant applicants are at auntie australia"
        " babe babes baby back beautiful bestie besties boss boston both boys bro bros brother brothers bud buddy"
        " california canada candidate champ chat chicago chief class client clients colleague colleagues comcast"
        " community cousin customer customers dad darling day dear december diary doctor donor dude dudes e earth"
        " editor employee employees england europe everybody everyone everything executive facebook fam family"
        " fans february fitit folks followers folx for friday friend friends from gang gentlemen germany girl"
        " girls god good google gorgeous grandma grandpa guest guests guys handsome here hey hi hon honey hr i if"
        " imgur in instagram internet investor is it its january july kids kitty ladies lads linkedin listen"
        " look lord lot love lovelies lovely luck ma madam man management march mate mates member members men"
        " microsoft mods mom monday moon morning mum my nation neighbor neighbors neighbour neighbours netflix new"
        " night nintendo no not november october of officer ok okay on our pal pals parent parents participant"
        " partner partners patient paypal peeps people pinterest playstation please reader readers recruiter"
        " reddit resident samsung santa saturday seattle september sir sirs sis sister sisters sleepy snapchat so"
        " sony sorry spotify spring staff starbucks steam stranger strangers student students subreddit subscriber"
        " subscribers sunday sunshine support supporter sweetie team texas that the there these this though"
        " thursday tiktok to toronto tuesday tumblr tweeps twitch twitter uncle universe us user verizon viewers"
        " wait walmart we wednesday weekend well what wikipedia winter women world xbox yall yeah year yep yes yo"
        " you your yours youtube",
    )
)
"""Words that follow a greeting or a closing and name nobody."""

_MANY_PEOPLE = re.compile(r"\w{4,}(?:ers|eurs|ors|ists|ians)|\w{2,}(?:dd|tt)it", re.I)
"""Redditors, gamers, photographers; shorter ones (Anders) are names. And communities that call themselves Fittit."""

_GREETING = re.compile(
    r"(?:^|(?<=[.!?>\"])[ \t]|\n)[ \t>\"]{0,4}"
    r"(?:hi|hiya|hello|hey|dear|good (?:morning|afternoon|evening)"
    r"|thanks|thank you|hola|bonjour|hallo|ciao)"
    r"(?: (?:mr|mrs|ms|miss|dr|prof|doctor|professor|president|officer|chief|coach|uncle|aunt|auntie|grandma|grandpa"
    r"|cousin|brother|sister|darling)\b\.?)?,? {1,2}"
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
        named = [word for word in _leading_capitals(words) if not _is_nobody(word)]
        if pattern is _INTRODUCTION:
            named = named or ([words[0]] if words[0].lower() not in _NOBODY else [])
        elif pattern is _GREETING and _is_salutation_of_one(view, match):
            named = words
        elif len(named) < len(words):
            continue
        if named and words[: len(named)] == named:
            start = match.start("name")
            yield start, start + len(" ".join(named))


def _is_salutation_of_one(view: str, match: re.Match[str]) -> bool:
    """Whether it is a line's "hi anna," with one word in lower case that is no word for anybody else."""
    name = match["name"]
    is_at_a_line = match.start() == 0 or view[match.start() - 1 : match.start() + 1].count("\n") > 0
    return is_at_a_line and name.isalpha() and view[match.end() : match.end() + 1] == "," and not _is_nobody(name)


def _is_nobody(word: str) -> bool:
    return word.rstrip(".").lower() in _NOBODY or _MANY_PEOPLE.fullmatch(word) is not None


def _leading_capitals(words: list[str]) -> Iterator[str]:
    for word in words:
        if not (word[0].isupper() or not word[0].islower()):
            return
        yield word
