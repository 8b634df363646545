"""`everreach retention`: plans, purges, restores. Holds are in `holds.py`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from everreach_assets.commands.holds import hold
from everreach_assets.commands.shared import FILE, open_database, read_settings, user

if TYPE_CHECKING:
    from everreach_assets.domain.retention import PlanItem
    from resources.retention.plans import Plan


@click.group()
def retention() -> None:
    """How long documents are kept: plans, purges, holds, archives."""


retention.add_command(hold)


@retention.command()
@click.option("-n", "shown", default=5, show_default=True, type=click.IntRange(0, 1_000_000), help="Show so many.")
def plan(shown: int) -> None:
    """Say what has expired, and store it as a plan with a hash. Nothing is purged."""
    from everreach_assets import retention as steps
    from everreach_assets.domain.retention import approval_reason
    from everreach_assets.memory import open_retention

    settings = read_settings()
    rules = open_retention(settings)
    with open_database(settings) as database:
        made = steps.make_plan(rules.policy, database=database)
        _print_plan(made, steps.planned_items(made, shown, database=database))
    if reason := approval_reason(made.counts):
        click.echo(f"It needs approval: {reason}.")
    click.echo(f"Plan {made.plan_hash}\n'everreach retention purge --plan HASH' carries it out, within 24 hours.")


@retention.command()
@click.option("--plan", "plan_hash", help="Hash of the plan to carry out; naming it approves of it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(plan_hash: str | None, yes: bool) -> None:
    """Carry out a plan, or make one and carry it out. What goes is archived first."""
    from everreach_assets import retention as steps
    from everreach_assets.memory import open_memory, open_retention

    with open_memory(read_settings()) as memory:
        rules = open_retention(memory.settings)
        if plan_hash is None:
            made = steps.make_plan(rules.policy, database=memory.database)
            _print_plan(made, steps.planned_items(made, 5, database=memory.database))
        expected = steps.purge(
            rules, database=memory.database, vector_db=memory.vector_db, approved_plan_hash=plan_hash or ""
        )
        click.echo(f"{expected}.")
        if not yes:
            click.confirm("Archive and delete them?", abort=True)
        report = steps.purge(
            rules,
            database=memory.database,
            vector_db=memory.vector_db,
            approved_plan_hash=plan_hash or "",
            dry_run=False,
        )
    click.echo(f"{report}.")
    for receipt in report.receipts:
        click.echo(f"{receipt.collection}: {receipt.purged:,} in {rules.archives / receipt.archive}")


@retention.command()
@click.argument("archive", type=FILE)
@click.option("--id", "doc_ids", multiple=True, help="Only this document; may be given again.")
def restore(archive: Path, doc_ids: tuple[str, ...]) -> None:
    """Bring back what was purged into ARCHIVE, as it was, with a hold on each document."""
    from everreach_assets import retention as steps
    from everreach_assets.memory import open_memory

    with open_memory(read_settings()) as memory:
        report = steps.restore(
            archive,
            database=memory.database,
            vector_db=memory.vector_db,
            restored_by=user(),
            doc_ids=doc_ids or None,
        )
    click.echo(f"{report.collection}: {len(report.restored):,} restored and held, {report.left:,} left as they are.")


def _print_plan(made: "Plan", items: "list[PlanItem]") -> None:
    from everreach_assets.reports import item_table, plan_table

    click.echo(plan_table(made.counts))
    click.echo(f"\n{item_table(items)}\n")
