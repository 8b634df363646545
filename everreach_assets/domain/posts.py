"""What names a post, and what recording an outcome answers.

What belongs here: the grammar of platforms and post ids. What does not: the statements that store a post
(`resources/posts.py`).
"""

import re
from dataclasses import dataclass

from everreach_assets.domain.errors import InvalidInput

PLATFORM_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
POST_ID_MAX_BYTES = 95
"""A document id is `platform:post_id` and has at most 128 bytes; a platform's name takes up to 32 of them."""


@dataclass(frozen=True)
class RecordedOutcome:
    """A snapshot that is durably stored. `is_new` is false when the same one was there before."""

    seq: int
    is_new: bool


def check_platform(platform: object) -> str:
    """The platform's name itself, if it is one.

    Raises:
        InvalidInput: it is not 1 to 32 characters of a-z, 0-9 and _ that start with a letter.
    """
    if not isinstance(platform, str) or not PLATFORM_NAME.fullmatch(platform):
        raise InvalidInput(
            f"platform {str(platform)[:40]!a}: a platform's name is 1 to 32 characters of a-z, 0-9 and _, "
            "starting with a letter, such as 'facebook' or 'x'"
        )
    return platform


def check_post_id(post_id: object) -> str:
    """The post id itself, if it is one.

    Raises:
        InvalidInput: empty, longer than 95 bytes, or with a character that cannot be printed.
    """
    if not isinstance(post_id, str) or not post_id:
        raise InvalidInput("post_id is empty: a post id is a text of 1 to 95 bytes")
    if not post_id.isprintable():  # surrogates are among what cannot be printed, so the encoding below cannot fail
        raise InvalidInput(f"post_id {post_id[:40]!a}: it holds a control or separator character")
    if len(post_id.encode()) > POST_ID_MAX_BYTES:
        raise InvalidInput(
            f"post_id {post_id[:40]!r}...: {len(post_id.encode())} bytes, the limit is {POST_ID_MAX_BYTES}"
        )
    return post_id
