"""Label what came in since the last time: the steps of `feedback/outcome_classifications`."""

from collections.abc import Mapping
from dataclasses import dataclass

from everreach_assets.domain.outcomes import CLASSIFIER_VERSION, classify
from resources import outcomes as outcome_rows
from resources.database import Database
from resources.outcomes import LabelChanges


@dataclass(frozen=True)
class ClassificationReport:
    """What labelling did.

    Attributes:
        new_snapshots: that no label had taken into account.
        changed: posts with a new row in their label history.
        unchanged: posts of the same platforms that keep their label.
        labels: posts by platform and label now.
    """

    new_snapshots: int
    changed: int
    unchanged: int
    labels: Mapping[str, Mapping[str, int]]

    @property
    def labelled_posts(self) -> int:
        return sum(sum(counts.values()) for counts in self.labels.values())


def classify_new_outcomes(database: Database) -> ClassificationReport:
    """Label the platforms that have new snapshots, each in one transaction under a lock."""
    with database.connection() as connection:
        pending = outcome_rows.unlabelled(connection, CLASSIFIER_VERSION)
    changes = [_classify_platform(database, platform) for platform in pending]
    with database.transaction() as connection:
        labels = outcome_rows.label_counts(connection)
        outcome_rows.record_flop_rates(connection)
    return ClassificationReport(
        new_snapshots=sum(pending.values()),
        changed=sum(sum(each.changed.values()) for each in changes),
        unchanged=sum(each.unchanged for each in changes),
        labels=labels,
    )


def _classify_platform(database: Database, platform: str) -> LabelChanges:
    with database.transaction() as connection:
        outcome_rows.lock_labels(connection, platform)
        # First the list, then the posts: a snapshot that comes in between stays unlabelled until the next time.
        snapshots = outcome_rows.unlabelled_snapshots(connection, platform)
        labels = classify(outcome_rows.observed_posts(connection, platform))
        return outcome_rows.write_labels(connection, platform, labels, snapshots, CLASSIFIER_VERSION)
