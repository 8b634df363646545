"""How each post did: `feedback/outcome_classifications`."""

import dagster as dg

from everreach_assets import classification
from everreach_assets.domain.label_rules import LabelRules
from everreach_assets.domain.outcomes import CLASSIFIER_VERSION
from everreach_assets.freshness import HOURLY
from everreach_assets.reports import label_table
from everreach_assets.retries import retrying_when_unavailable
from resources.database import Database


@dg.asset(
    key=["feedback", "outcome_classifications"],
    deps=[["sources", "posts"], ["sources", "outcomes"]],
    group_name="feedback",
    owners=["team:everreach"],
    kinds={"python", "postgres"},
    code_version=CLASSIFIER_VERSION,
    freshness_policy=HOURLY,
)
def outcome_classifications(
    database: dg.ResourceParam[Database], label_rules: dg.ResourceParam[LabelRules]
) -> dg.MaterializeResult[None]:
    """One row is a label of a post: viral, hit, average, underperform, flop or insufficient_data.

    Key: platform and post id, with a history: a new label supersedes the old one, which stays. It runs when outcomes
    have come that no label took into account; accounts whose labels cannot be others than before are left alone.
    """
    with retrying_when_unavailable():
        report = classification.classify_new_outcomes(database, label_rules)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": report.labelled_posts,
            "new_snapshots": report.new_snapshots,
            "accounts": report.accounts,
            "judged_accounts": report.judged_accounts,
            "inserted": report.changed,
            "skipped_unchanged": report.unchanged,
            "labels": dg.MarkdownMetadataValue(label_table(report.labels)),
        }
    )
