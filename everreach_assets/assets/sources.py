"""The tables that other services and `everreach ingest` write. Nothing here makes them: they are observed."""

import warnings
from collections.abc import Iterator

import dagster as dg

from resources import sources as source_rows
from resources.database import Database

OWNERS = ["team:everreach"]
OBSERVER_VERSION = "1"
"""Raise it when the same rows may come to another data version."""

SPECS = [
    dg.AssetSpec(
        ["sources", noun],
        description=description,
        group_name="sources",
        owners=OWNERS,
        kinds={"postgres"},
        code_version=OBSERVER_VERSION,
        metadata={"dagster/table_name": source_rows.TABLES[noun]},
    )
    for noun, description in {
        "posts": "One row is a post of a platform, keyed by platform and post id.",
        "outcomes": "One row is a snapshot of a post's metrics at a time. Rows are added, never changed.",
        "prospects": "One row is a person we may write to. Personal data: it never leaves this database.",
        "lessons": "One row is something learned, in a sentence.",
    }.items()
]


with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.BetaWarning)  # its form may change; the locked version cannot
    observed = dg.multi_observable_source_asset(specs=SPECS, can_subset=True)


@observed  # type: ignore[untyped-decorator]
def sources(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> Iterator[dg.ObserveResult]:
    """Count the rows of each table; the data version changes when one is added or changed."""
    with database.connection() as connection:
        for key in sorted(context.selected_asset_keys):
            state = source_rows.state(connection, key.path[-1])
            yield dg.ObserveResult(
                asset_key=key,
                data_version=dg.DataVersion(state.version),
                metadata={"dagster/row_count": state.rows, "changed_at": state.changed_at_text},
            )
