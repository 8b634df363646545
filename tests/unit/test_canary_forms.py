"""The search for canaries sees what it looks for, however it is written down, and nothing else."""

import pytest

from everreach_assets.domain.scrubbing import Scrubber
from tests.canaries import CONTROL, FORMATS, IDENTITIES, MARKER, Search, handles, in_every_encoding, people_search


@pytest.mark.parametrize("encoding", in_every_encoding("x"))
@pytest.mark.parametrize("text", [MARKER, MARKER.capitalize(), CONTROL])
def test_a_text_is_found_in_every_encoding(text: str, encoding: str) -> None:
    assert Search([text]).hits(in_every_encoding(text)[encoding])
    assert not Search([text]).hits(in_every_encoding(text.replace("u", "o"))[encoding])


def test_every_spelling_of_every_person_is_found() -> None:
    search = people_search()
    for who in IDENTITIES:
        for spelled in (who.name, who.handle, *who.email_spellings, *who.phone_spellings):
            assert search.hits(spelled.encode()), spelled
        for text in (handles(who), *(write(who) for write in FORMATS.values())):
            assert search.hits(text.encode()), text


def test_the_scrubber_leaves_nothing_of_any_of_them() -> None:
    search, names = people_search(), [who.name for who in IDENTITIES]
    for_posts, for_prospects = Scrubber(names), Scrubber(names, handles_are_personal=True)
    missed = [
        (kind, found)
        for who in IDENTITIES
        for kind, write in FORMATS.items()
        if (found := search.hits(for_posts.scrub(write(who)).text.encode()))
    ]
    missed += [
        ("handles", found)
        for who in IDENTITIES
        if (found := search.hits(for_prospects.scrub(handles(who)).text.encode()))
    ]
    assert missed == []
