"""Which embedding providers the settings choose."""

from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.spaces import Space
from resources.providers import (
    EmbeddingProvider,
    LocalHashingProvider,
    OpenAIProvider,
    PlainHttpProvider,
    SemanticProvider,
    VoyageProvider,
)
from resources.settings import Settings


@dataclass(frozen=True)
class Providers:
    """Who embeds.

    Attributes:
        in_force: what may leave the machine; None: the local one does.
        backup: that too, in its own space, where `in_force` cannot; None: nobody does.
        local: what may not leave; None: nobody does.
    """

    in_force: EmbeddingProvider | None
    backup: EmbeddingProvider | None
    local: EmbeddingProvider | None


def open_providers(settings: Settings) -> Providers:
    """The providers, none of which is asked anything yet.

    Raises:
        InvalidInput: one that is chosen lacks a setting, or provider and backup have the same space.
    """
    local = _local(settings)
    in_force = _remote(settings, settings.chosen_provider)
    if not settings.embedding_fallback_enabled:
        return Providers(in_force, None, local)
    backup = _remote(settings, settings.embedding_backup_provider) or local
    if backup is None or backup.space == (in_force or local or backup).space:
        raise InvalidInput("EMBEDDING_FALLBACK_ENABLED needs an EMBEDDING_BACKUP_PROVIDER other than the provider")
    return Providers(in_force, backup, local)


def open_provider_of(settings: Settings, space: Space) -> EmbeddingProvider | None:
    """The provider of the space, made with the keys that the settings hold; None where they hold none for it.

    Raises:
        InvalidInput: as `open_providers`.
    """
    provider = _provider_named(settings, space.provider, space.model, space.width)
    return provider if provider is not None and provider.space == space else None


def space_named(settings: Settings, name: str, width: int | None = None) -> Space:
    """The space of `provider/model`, made with the keys that the settings hold.

    Args:
        settings: with them.
        name: such as `openai/text-embedding-3-large`.
        width: components of the model's vectors, where the model leaves a choice; None: EMBEDDING_WIDTH.

    Raises:
        InvalidInput: no such provider, or its key is not set.
    """
    provider, _, model = name.partition("/")
    found = _provider_named(settings, provider, model, width or settings.embedding_width) if model else None
    if found is None or str(found.space) != name:
        raise InvalidInput(
            f"there is no provider for {name!r}: there are {LocalHashingProvider.space}, openai/MODEL and voyage/MODEL "
            "where their keys are set, and the models that EMBEDDING_HTTP_URL and EMBEDDING_LOCAL_MODEL name"
        )
    return found.space


def _provider_named(settings: Settings, provider: str, model: str, width: int) -> EmbeddingProvider | None:
    of_model: dict[str, object]
    match provider:
        case "openai" if settings.openai_api_key is not None:
            of_model = {"embedding_model": model, "embedding_width": width}
            return _remote(settings.model_copy(update=of_model), "openai")
        case "voyage" if settings.voyage_api_key is not None:
            return _remote(settings.model_copy(update={"voyage_model": model}), "voyage")
        case "http" if settings.embedding_http_url is not None:
            return _remote(settings, "http")
        case "local":
            return LocalHashingProvider() if model == LocalHashingProvider.space.model else _local(settings)
        case _:
            return None


def _remote(settings: Settings, name: Literal["local", "openai", "voyage", "http"]) -> EmbeddingProvider | None:
    match name:
        case "local":
            return None
        case "openai":
            return OpenAIProvider(
                api_key=_key(settings.openai_api_key, "OPENAI_API_KEY"),
                base_url=settings.openai_base_url,
                model=settings.embedding_model,
                width=settings.embedding_width,
                max_input_tokens=settings.embedding_max_input_tokens,
            )
        case "voyage":
            return VoyageProvider(
                api_key=_key(settings.voyage_api_key, "VOYAGE_API_KEY"),
                model=settings.voyage_model,
                base_url=settings.voyage_base_url,
            )
        case "http":
            if settings.embedding_http_url is None:
                raise InvalidInput("the provider 'http' needs EMBEDDING_HTTP_URL")
            token = settings.embedding_http_token
            return PlainHttpProvider(
                address=settings.embedding_http_url,
                model=settings.embedding_http_model,
                width=settings.embedding_http_width,
                field=settings.embedding_http_field,
                max_inputs=settings.embedding_http_batch,
                max_input_tokens=settings.embedding_max_input_tokens,
                token=None if token is None else token.get_secret_value(),
            )


def _local(settings: Settings) -> EmbeddingProvider | None:
    match settings.embedding_local_provider:
        case "none":
            return None
        case "hashing":
            return LocalHashingProvider()
        case "semantic":
            if settings.embedding_local_model is None:
                raise InvalidInput("EMBEDDING_LOCAL_PROVIDER=semantic needs EMBEDDING_LOCAL_MODEL, a model's folder")
            return SemanticProvider(settings.embedding_local_model.expanduser().resolve())


def _key(key: SecretStr | None, setting: str) -> str:
    if key is None:
        raise InvalidInput(f"the provider that is chosen needs {setting}")
    return key.get_secret_value()
