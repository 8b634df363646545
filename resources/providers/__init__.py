"""Embedding providers: who turns scrubbed text into vectors, one file for each protocol."""

from resources.providers.hashing import LocalHashingProvider
from resources.providers.openai_compatible import OpenAIProvider
from resources.providers.plain_http import PlainHttpProvider
from resources.providers.protocol import LOCAL, CallLog, EmbeddingProvider, ProviderCall, Purpose
from resources.providers.semantic import SemanticProvider
from resources.providers.voyage import VoyageProvider

__all__ = [
    "LOCAL",
    "CallLog",
    "EmbeddingProvider",
    "LocalHashingProvider",
    "OpenAIProvider",
    "PlainHttpProvider",
    "ProviderCall",
    "Purpose",
    "SemanticProvider",
    "VoyageProvider",
]
