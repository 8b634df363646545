"""The labelled sets of the shared data as texts with spans, for the tests of the scrubber and for its benchmark.

No text of them is printed anywhere. What belongs here: which spans of a set must go. What does not: the floors
(tests/integration/test_scrubbing_on_shared_data.py).
"""

import csv
import hashlib
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import phonenumbers

from everreach_assets.domain.pii_scores import LabelledText
from everreach_assets.domain.scrubbing import Removal, Scrubber
from resources.labelled_files import Shape, read_labelled

Part = Literal["all", "tuned", "held out"]

POSTS_WITH_A_NAME = frozenset(
    ("161c499b5d87", "5988a4450f73", "f3ade7a128fc", "c82623fa2ede", "09d21adfe6ce", "8f7f8b13a56d", "0999cd378ad8",
     "f6d1a71f578b", "78831c55e248")
)  # fmt: skip
"""Of the posts that lost a name, those that were read and do name a person, who greets, introduces himself or signs: by
the first 12 digits of the SHA-256 of their text."""

STYLES = {
    "E164": (phonenumbers.PhoneNumberFormat.E164, "Reach us: {}, thank you"),
    "international": (phonenumbers.PhoneNumberFormat.INTERNATIONAL, "New office {} since May"),
    "national with a cue": (phonenumbers.PhoneNumberFormat.NATIONAL, "Please call me on {} tomorrow"),
    "national without a cue": (phonenumbers.PhoneNumberFormat.NATIONAL, "New office {} since May"),
}


@dataclass(frozen=True)
class LabelledSet:
    """Texts, the kinds that their labels speak of (none: plain posts), and the scrubber that they are given to."""

    name: str
    texts: list[LabelledText]
    kinds: tuple[str, ...]
    scrubber: Scrubber = field(default_factory=Scrubber)


def labelled_sets(folder: Path, part: Part = "all") -> Iterator[LabelledSet]:
    """Every set, one after another. Half of each, by the hash of its texts, was not looked at while rules were made."""
    for each in (
        *_sets_with_names(folder),
        LabelledSet("e-mail syntax", list(email_vectors(folder)), ("email",)),
        *(LabelledSet(f"phones, {style}", list(phone_vectors(folder, style)), ("phone",)) for style in STYLES),
        LabelledSet("signatures", list(signatures(folder)), ("email", "phone")),
        _people(folder),
        *_sets_of_posts(folder),
    ):
        yield LabelledSet(each.name, [text for text in each.texts if _is_in(part, text)], each.kinds, each.scrubber)


def _is_in(part: Part, text: LabelledText) -> bool:
    is_held_out = hashlib.sha256(text.text.encode("utf-8", "replace")).digest()[0] % 2 == 1
    return part == "all" or is_held_out == (part == "held out")


def _sets_with_names(folder: Path) -> Iterator[LabelledSet]:
    files: tuple[tuple[str, str, Shape, tuple[str, ...]], ...] = (
        ("sentences", "pii_presidio_synth/dev_odd_templates.json", "presidio", ("email", "phone")),
        ("tweets", "pii_btc_twitter/btc.dev", "conll", ()),
        ("emerging entities", "pii_wnut17/emerging.dev.conll", "conll", ()),
    )
    for name, path, shape, kinds in files:
        texts = list(read_labelled(folder / path, shape))
        handles = [LabelledText(each.text, tuple(_handles(each))) for each in texts]
        texts = [LabelledText(each.text, tuple(_without_handles(each))) for each in texts]
        yield LabelledSet(f"{name}, strangers", texts, (*kinds, "name"))
        people = {each.text[start:end] for each in texts for start, end, kind in each.labels or () if kind == "name"}
        yield LabelledSet(f"{name}, known people", texts, ("name",), Scrubber(people))
        if any(each.labels for each in handles):
            yield LabelledSet(f"{name}, handles of prospects", handles, ("name",), Scrubber(handles_are_personal=True))


def _handles(text: LabelledText) -> Iterator[Removal]:
    return (each for each in text.labels or () if text.text[each.start] == "@" and each.end - each.start > 1)


def _without_handles(text: LabelledText) -> Iterator[Removal]:
    """The labels that are no handle, which is content of a post, without signs at their ends, which name nobody."""
    for each in text.labels or ():
        label = text.text[each.start : each.end]
        if label[0] != "@" and (words := re.search(r"[^\W_](?:.*[^\W_])?", label, re.S)):
            yield Removal(each.start + words.start(), each.start + words.end(), each.kind)


def email_vectors(folder: Path) -> Iterator[LabelledText]:
    """Grammatical addresses whose domain has a dot and an ending of two letters or more, and what is no address.

    `test@io` looks like any word before a handle, and no ending is a number or a single letter. Malformed ones that
    hold a good address ("(test@iana.org") count neither way.
    """
    grammatical = ("VALID_CATEGORY", "DNSWARN", "RFC5321", "CFWS")
    has_an_ending = re.compile(r".*@(?:.+\.[^.]*[^.\d][^.]|\[.+\])", re.S)
    for row in _rows(folder / "vectors_email_isemail/tests.csv"):
        address = re.sub(r"^\(comment(\(comment\))?\)", "", row["address"].strip(" ␍␊"))
        diagnosis = row["diagnosis"].removeprefix("ISEMAIL_")
        if row["category"].removeprefix("ISEMAIL_") in grammatical and has_an_ending.fullmatch(address):
            yield LabelledText(f"Write to {address} today", (Removal(9, 9 + len(address), "email"),))
        elif diagnosis.removeprefix("ERR_") in ("NODOMAIN", "NOLOCALPART"):
            yield LabelledText(f"Write to {address} today", ())


def phone_vectors(folder: Path, style: str) -> Iterator[LabelledText]:
    """A number of every region and type, in one of the `STYLES`."""
    number_format, sentence = STYLES[style]
    for row in _rows(folder / "vectors_phone/example_numbers.csv"):
        shown = phonenumbers.format_number(phonenumbers.parse(row["e164"]), number_format)
        start = sentence.index("{}")
        yield LabelledText(sentence.format(shown), (Removal(start, start + len(shown), "phone"),))


def signatures(folder: Path) -> Iterator[LabelledText]:
    """E-mails; nobody labelled them, so plain addresses and the one form of number that they have are the labels."""
    personal = re.compile(r"(?P<email>[\w.+=-]+@[\w-]+(?:\.[\w-]+)+)|(?P<phone>\(?\b555\b\)?[ -]\d{3}-\d{4})")
    for part in ("signature", "standard_replies"):
        for path in sorted((folder / "pii_talon_signatures" / part).rglob("*")):
            if path.is_file() and path.name != ".gitignore":
                text = path.read_bytes().decode("utf-8", "replace")
                labels = (Removal(*match.span(), str(match.lastgroup)) for match in personal.finditer(text))
                yield LabelledText(text, tuple(labels))


def _people(folder: Path) -> LabelledSet:
    texts, names = [], []
    for row in _rows(folder / "prospects_fakenamegenerator/dev_names_disjoint.csv", "utf-8-sig"):
        names.append(f"{row['GivenName']} {row['Surname']}")
        parts = {"name": names[-1], "email": row["EmailAddress"], "phone": row["TelephoneNumber"]}
        text = "{name} ({email}) is a {job}, phone: {phone}".format(job=row["Occupation"], **parts)
        labels = [Removal(text.index(part), text.index(part) + len(part), kind) for kind, part in parts.items()]
        texts.append(LabelledText(text, tuple(sorted(labels))))
    return LabelledSet("known people in a table", texts, ("email", "phone", "name"), Scrubber(names))


def posts(folder: Path) -> dict[str, list[str]]:
    """The texts of the four sets of posts."""
    return {
        "facebook": [row["status_message"] for row in _rows(folder / "facebook_pages_2016/dev_7pages.csv")],
        "reddit": [
            html.unescape(f"{row['title']}\n{row['selftext']}")
            for row in _rows(folder / "reddit_top_2013/dev_6subs.csv")
        ],
        "x": [html.unescape(row["text"]) for row in _rows(folder / "twitter_538_2017/BarackObama.csv", "cp1252")],
        "youtube": [
            f"{row['title']}\n{row['description']}"
            for path in sorted((folder / "youtube_trending_20181101").glob("*.csv"))
            for row in _rows(path)
        ],
    }


def _sets_of_posts(folder: Path) -> Iterator[LabelledSet]:
    """The posts without labels, and last those that were read and name a person."""
    with_a_name: list[LabelledText] = []
    for name, texts in posts(folder).items():
        found = [LabelledText(text, None) for text in texts if text.strip()]
        with_a_name += filter(_names_a_person, found)
        yield LabelledSet(f"posts, {name}", [each for each in found if not _names_a_person(each)], ())
    yield LabelledSet("posts that name a person", with_a_name, ())


def _names_a_person(post: LabelledText) -> bool:
    return hashlib.sha256(post.text.encode("utf-8", "replace")).hexdigest()[:12] in POSTS_WITH_A_NAME


def _rows(path: Path, encoding: str = "utf-8") -> list[dict[str, str]]:
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        return list(csv.DictReader(file))
