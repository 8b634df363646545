"""Every setting of the program, typed, in one place. Nothing else reads the environment.

A setting comes from the environment, else from the `.env` file in the project's folder, else from the default here.
`.env.example` lists them all (a test compares the two).
"""

import contextlib
import ipaddress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from everreach_assets.domain.errors import InvalidInput

PROJECT_FOLDER = Path(__file__).resolve().parent.parent


def check_database_url(address: SecretStr | None) -> SecretStr | None:
    """The address itself, if it is one. No message repeats any of it: a part may be the password.

    Raises:
        ValueError: it is no postgresql:// address, or a character of user or password stands for itself.
    """
    if address is None:
        return None
    hint = "write @ : / ? # % and blanks of a password as %40 %3A %2F %3F %23 %25 %20"
    url = address.get_secret_value()
    try:
        found = conninfo_to_dict(url)
        ports = str(found.get("port") or "").split(",")  # several hosts may stand there, each with its port
        is_url = all(port.isdigit() or not port for port in ports) and "@" not in str(found.get("host", ""))
    except psycopg.ProgrammingError:
        is_url = False
    if not is_url or "#" in url or not url.startswith(("postgresql://", "postgres://")):
        raise ValueError(f"it is no address of the form postgresql://user:password@host:port/database ({hint})")
    return address


def check_redis_url(address: SecretStr | None) -> SecretStr | None:
    """The address itself, if it is one. No message repeats any of it: a part may be the password.

    Raises:
        ValueError: it is no redis://, rediss:// or unix:// address.
    """
    if address is not None and not address.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("it is no address of the form redis://user:password@host:port/number")
    return address


def bracketed(host: str) -> str:
    """The host as it stands in an address: of IPv6 in brackets (RFC 3986, 3.2.2)."""
    with contextlib.suppress(ValueError):
        return f"[{ipaddress.IPv6Address(host)}]"
    return host


def plain_host(host: str) -> str:
    """In lower case, IPv6 in its shortest form and without brackets: two that are the same look the same."""
    return bracketed(host.strip().lower().strip("[]")).strip("[]")


Host = Annotated[str | None, AfterValidator(lambda host: host and bracketed(host))]
RedisAddress = Annotated[SecretStr | None, AfterValidator(check_redis_url)]
DatabaseAddress = Annotated[SecretStr | None, AfterValidator(check_database_url)]


def _absolute(path: Path | None) -> Path | None:
    return path and (PROJECT_FOLDER / path.expanduser()).resolve()


class Settings(BaseSettings):
    """The settings, each named after its environment variable in lower case."""

    model_config = SettingsConfigDict(
        env_file=PROJECT_FOLDER / ".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    everreach_home: Path = Field(
        Path(".everreach"), description="Folder of the embedded servers' data and of Dagster's"
    )
    everreach_database_url: DatabaseAddress = Field(
        None, description="postgresql:// address of a Postgres with pgvector >= 0.8.4; empty: an embedded one"
    )
    everreach_dagster_database_url: DatabaseAddress = Field(
        None, description="postgresql:// address of Dagster's own database; empty: `dagster` on the same server"
    )
    vector_backend: Literal["chroma", "pgvector"] = Field("chroma", description="Who answers searches")
    chroma_host: Host = Field(None, description="Host of a Chroma server; empty: an embedded one")
    chroma_port: int = Field(8000, ge=1, le=65535, description="Port of the Chroma server")
    everreach_trusted_hosts: str | None = Field(
        None, description="Hosts of yours outside private networks that may hold every row, with commas between them"
    )
    cloud_vector_backend: Literal["none", "chroma", "pgvector"] = Field(
        "none", description="The cloud that gets a copy of what may leave"
    )
    cloud_chroma_host: Host = Field(None, description="Host of the cloud's Chroma server")
    cloud_chroma_port: int = Field(443, ge=1, le=65535, description="Port of the cloud's Chroma server")
    cloud_chroma_ssl: bool = Field(True, description="Reach it by https; anything else only on this machine")
    cloud_chroma_token: SecretStr | None = Field(None, description="Key that the cloud's Chroma server asks for")
    cloud_chroma_tenant: str = Field("default_tenant", description="Tenant on the cloud's Chroma server")
    cloud_chroma_database: str = Field("default_database", description="Database on the cloud's Chroma server")
    cloud_database_url: DatabaseAddress = Field(
        None, description="postgresql:// address of the cloud's Postgres, sslmode=require or stricter"
    )
    everreach_webserver_port: int = Field(3000, ge=1, le=65535, description="Port of the Dagster UI, on 127.0.0.1")
    everreach_service_host: str = Field("127.0.0.1", description="Address that the service listens on")
    everreach_metrics_port: int = Field(9090, ge=1, le=65535, description="Port of the service: /metrics and the API")
    everreach_api_tokens: SecretStr | None = Field(
        None,
        description="Tokens that callers of the service present, comma-separated; empty: no call needing one passes",
    )
    everreach_api_tokens_file: Path | None = Field(
        None, description="File of further tokens, one on a line; read for every call, so a change is in force at once"
    )
    everreach_tls_certificate: Path | None = Field(
        None, description="PEM file of the service's certificate with its chain; with its key, the service speaks https"
    )
    everreach_tls_key: Path | None = Field(None, description="PEM file of the certificate's key")
    everreach_behind_tls_proxy: bool = Field(
        False, description="A proxy in front of the service speaks TLS with its callers"
    )
    cloud_cost_cap_usd: float = Field(400.0, gt=0, description="What the cloud services may cost in a month")
    embedding_daily_quota: int = Field(10_000, ge=0, description="Provider calls that a UTC day may have")
    embedding_cache_url: RedisAddress = Field(
        None, description="redis:// address of the cache of vectors; empty: a table of the database"
    )
    embedding_cache_ttl_seconds: int = Field(
        604_800, ge=1, le=2_592_000, description="How long a vector is kept in the cache, in seconds; 30 days at most"
    )
    embedding_cache_max_entries: int = Field(
        100_000, ge=0, description="Vectors in the cache, of 6 KB each; beyond it the oldest go"
    )
    everreach_alert_token: SecretStr | None = Field(
        None, description="What Alertmanager shows to the relay; empty: one of our own in <EVERREACH_HOME>/alert-token"
    )
    dispatch_url: SecretStr | None = Field(
        None,
        description="Where alert messages and weekly changes go; empty: alerts to http://local-terminal:8080/dispatch",
    )
    prometheus_port: int = Field(9095, ge=1, le=65535, description="Port of Prometheus under `make monitoring`")
    alertmanager_port: int = Field(9093, ge=1, le=65535, description="Port of Alertmanager under `make monitoring`")
    embedding_provider: Literal["auto", "local", "openai", "voyage", "http"] = Field(
        "auto", description="auto: OpenAI where OPENAI_API_KEY is set, else local"
    )
    embedding_local_provider: Literal["hashing", "semantic", "none"] = Field(
        "hashing", description="Who embeds what may not leave this machine; none: such collections are an error"
    )
    embedding_local_model: Path | None = Field(
        None, description="Folder of the sentence-transformers model of EMBEDDING_LOCAL_PROVIDER=semantic"
    )
    embedding_fallback_enabled: bool = Field(
        False, description="Whether the backup embeds, in its own space, what the provider cannot"
    )
    embedding_backup_provider: Literal["voyage", "openai", "http", "local"] = Field("voyage", description="The backup")
    embedding_model: str = Field("text-embedding-3-small", description="Model of the OpenAI-compatible provider")
    embedding_width: int = Field(
        1536, ge=1, le=1536, description="Components of that model's vectors; a wider model is asked for 1536"
    )
    openai_api_key: SecretStr | None = Field(None, description="Key of the OpenAI-compatible provider")
    openai_base_url: str | None = Field(None, description="Address of an OpenAI-compatible server; empty: OpenAI's")
    voyage_api_key: SecretStr | None = Field(None, description="Key of Voyage")
    voyage_model: str = Field("voyage-3.5", description="Model of Voyage")
    voyage_base_url: str | None = Field(None, description="Address of a server with Voyage's API; empty: Voyage's")
    embedding_http_url: str | None = Field(None, description="Address of a POST /embed server, without /embed")
    embedding_http_token: SecretStr | None = Field(None, description="Token that it asks for, if any")
    embedding_http_model: str = Field("default", description="Name of the model that it runs; another is another space")
    embedding_http_width: int = Field(768, ge=1, le=1536, description="Components of that model's vectors")
    embedding_http_field: Literal["texts", "inputs"] = Field(
        "texts", description="Where it takes the texts; inputs: Hugging Face's text-embeddings-inference"
    )
    embedding_http_batch: int = Field(32, ge=1, le=10_000, description="Texts that it takes in one request")
    embedding_max_input_tokens: int = Field(
        8191, ge=16, description="Tokens of one text that the OpenAI-compatible or POST /embed server takes"
    )
    embedding_long_texts: Literal["split", "refuse"] = Field(
        "split", description="A text over that: the mean of its parts' vectors, or no vector"
    )
    embedding_concurrency: int = Field(4, ge=1, le=64, description="Provider calls of a batch under way at once")
    embedding_timeout_seconds: float = Field(30.0, gt=0, description="Limit of one provider call")
    embedding_deadline_seconds: float = Field(120.0, gt=0, description="Limit of one request with its retries")

    embedding_space_kept_days: int = Field(
        14, ge=0, le=3650, description="How long the vectors of a model are kept after a change to another"
    )
    pii_name_model: Path | None = Field(
        None, description="Folder of a spaCy pipeline that finds strangers' names; needs the extra `names`"
    )
    strategy_wording_url: str | None = Field(
        None, description="Address of a server with OpenAI's chat API that phrases claims; empty: nobody does"
    )
    strategy_wording_model: str | None = Field(None, description="Model that it is asked for")
    strategy_wording_key: SecretStr | None = Field(None, description="Key that it asks for, if any")
    strategy_wording_timeout_seconds: float = Field(30.0, gt=0, le=300, description="Limit of its call")
    grafana_url: str | None = Field(None, description="Address of a Grafana that dashboards are imported into")
    grafana_token: SecretStr | None = Field(None, description="Token of a service account there")
    label_rules_file: Path | None = Field(
        None, description="YAML file of what posts are judged by; empty: the table of docs/outcomes.md"
    )
    retention_policy_file: Path | None = Field(
        None, description="YAML file of how long documents are kept; empty: everreach_assets/retention.yaml"
    )
    everreach_destructive: bool = Field(True, description="0 refuses every purge; plans and dry runs go on")

    @cached_property
    def home(self) -> Path:
        """The data folder. A relative one starts at the project's folder: from wherever a command or a service is
        started, it opens the same store, and never a new empty one."""
        return (PROJECT_FOLDER / self.everreach_home.expanduser()).resolve()

    @property
    def api_tokens(self) -> list[str]:
        """The tokens of EVERREACH_API_TOKENS, each by itself."""
        given = self.everreach_api_tokens.get_secret_value() if self.everreach_api_tokens else ""
        return [token.strip() for token in given.split(",") if token.strip()]

    @property
    def api_tokens_file(self) -> Path | None:
        """The file of further tokens, absolute as the home is."""
        return _absolute(self.everreach_api_tokens_file)

    @property
    def tls_files(self) -> tuple[Path, Path] | None:
        """Certificate and key, absolute; None where the service speaks plain HTTP.

        Raises:
            InvalidInput: one of the two is missing.
        """
        certificate, key = _absolute(self.everreach_tls_certificate), _absolute(self.everreach_tls_key)
        if (certificate is None) != (key is None):
            raise InvalidInput("EVERREACH_TLS_CERTIFICATE and EVERREACH_TLS_KEY belong together: set both, or neither")
        return (certificate, key) if certificate and key else None

    @property
    def service_host_here(self) -> str:
        """The address at which this machine reaches the service."""
        listened_on = self.everreach_service_host
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listened_on, listened_on)  # noqa: S104 - not listened on here

    @property
    def alert_dispatch_url(self) -> str:
        """Where the relay hands over alert messages."""
        return self.dispatch_url.get_secret_value() if self.dispatch_url else "http://local-terminal:8080/dispatch"

    @property
    def policy_file(self) -> Path | None:
        """The file of the retention policy, absolute as the home is; None: the one that the project ships."""
        return self.retention_policy_file and self.retention_policy_file.expanduser().resolve()

    @property
    def rules_file(self) -> Path | None:
        """The file of the label rules, absolute as that of the policy is; None: nothing is changed."""
        return self.label_rules_file and self.label_rules_file.expanduser().resolve()

    def database_url(self) -> str:
        """The address of the database, for a process that was told it.

        Raises:
            InvalidInput: it was not. The commands start the embedded one and tell their children.
        """
        if self.everreach_database_url is None:
            raise InvalidInput("EVERREACH_DATABASE_URL is not set: start with 'make up', or name a Postgres server")
        return self.everreach_database_url.get_secret_value()

    @property
    def trusted_hosts(self) -> frozenset[str]:
        """The hosts that the operator says are theirs, each as `plain_host` writes it."""
        return frozenset(host for each in (self.everreach_trusted_hosts or "").split(",") if (host := plain_host(each)))

    @property
    def chosen_provider(self) -> Literal["local", "openai", "voyage", "http"]:
        """The provider of what may leave the machine."""
        if self.embedding_provider != "auto":
            return self.embedding_provider
        return "local" if self.openai_api_key is None else "openai"
