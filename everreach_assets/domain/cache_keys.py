"""What a vector is cached under: everything that it depends on, and nothing else.

What does not belong here: what a cache does with the key (`resources/embedding_cache.py`).
"""

import hashlib

from everreach_assets.domain.spaces import Space


def cache_key(space: Space, scrubber_version: str, text: str) -> bytes:
    """SHA-256 of space, scrubber version and scrubbed text: 32 bytes.

    Each part goes in behind its length: joined by a separator, two lists of parts could give one key, and a text would
    get another text's vector.
    """
    digest = hashlib.sha256()
    for part in (space.provider, space.model, str(space.width), space.version, scrubber_version, text):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.digest()


def text_hash(text: str) -> bytes:
    """SHA-256 of a text as it was before scrubbing: 32 bytes, as `text_sha256` in the tables of documents."""
    return hashlib.sha256(text.encode()).digest()
