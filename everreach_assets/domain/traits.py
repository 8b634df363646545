"""What can be said of a post by itself: its format, slot, length, hook, hashtags, and whether it has a link.

What belongs here: reading traits off one post, and naming the claim about a trait. What does not: which traits go
with success (`claims.py`), and topics, which are found among many posts (`topics.py`).
"""

import datetime as dt
import hashlib
import re
from dataclasses import dataclass

from everreach_assets.domain.strategy_model import ClaimKind

HASHTAG = re.compile(r"#(\w{2,40})")
LINK = re.compile(r"https?://")
HOOKS = {
    "opens with a question": re.compile(r"[^\n]*\?"),
    "opens with a number": re.compile(r"\d"),
    "opens with how to": re.compile(r"(?i)how (to|we|i)\b"),
    "opens with a story": re.compile(
        r"(?i)((my |a )?true story|story ?time|once|when i|last (week|month|year)|i (was|had))\b"
    ),
}
"""Matched at the start of the text: what a reader sees before he decides to go on."""
SLOT_HOURS = 4
"""Six slots a day: with the hours of `make run`'s sample a slot of a platform has 20 to 40 posts, an hour under ten."""
SHORT_CHARACTERS, LONG_CHARACTERS = 80, 240


@dataclass(frozen=True, order=True)
class Trait:
    """What posts may share. The name is in words, without the kind; that of a topic is its `topic_id`."""

    kind: ClaimKind
    name: str


def traits_of(text: str, post_type: str, published_at: dt.datetime | None) -> list[Trait]:
    """The traits of a post or of a draft, each once, in the order of their kinds.

    Args:
        text: scrubbed.
        post_type: as the platform calls it; empty where it is unknown.
        published_at: in UTC; without it the post has no slot.
    """
    found = [Trait("format", f"type {post_type}")] if post_type else []
    if published_at is not None:
        day = f"published on a {'weekend' if published_at.weekday() >= 5 else 'weekday'}"
        start = published_at.hour // SLOT_HOURS * SLOT_HOURS
        hours = f"{start:02d}:00 to {start + SLOT_HOURS:02d}:00 UTC"
        found += [Trait("slot", name) for name in (day, f"published {hours}", f"{day}, {hours}")]
    length = len(text)
    found.append(
        Trait(
            "length",
            f"text under {SHORT_CHARACTERS} characters"
            if length < SHORT_CHARACTERS
            else f"text of {SHORT_CHARACTERS} to {LONG_CHARACTERS} characters"
            if length <= LONG_CHARACTERS
            else f"text over {LONG_CHARACTERS} characters",
        )
    )
    start_of_text = text.strip()
    found += [Trait("hook", name) for name, pattern in HOOKS.items() if pattern.match(start_of_text)]
    if LINK.search(text):
        found.append(Trait("link", "has a link"))
    tags = dict.fromkeys(tag.lower() for tag in HASHTAG.findall(text))
    return found + [Trait("hashtag", f"#{tag}") for tag in tags]


def claim_id(platform: str, trait: Trait) -> str:
    """The id of the claim about this trait, the same in every strategy of the platform."""
    return f"{platform}-{trait.kind}-{hashlib.sha256(trait.name.encode()).hexdigest()[:12]}"
