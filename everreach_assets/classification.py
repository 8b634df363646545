"""Label what came in since the last time: the steps of `feedback/outcome_classifications`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.label_changes import classify_changed
from everreach_assets.domain.label_rules import LabelRules, read_label_rules
from everreach_assets.domain.outcomes import CLASSIFIER_VERSION
from resources import label_states as states
from resources import outcomes as outcome_rows
from resources.database import Database


@dataclass(frozen=True)
class ClassificationReport:
    """What labelling did.

    Attributes:
        new_snapshots: that no label had taken into account.
        accounts: of the platforms that had something new.
        judged_accounts: those of them whose labels could be others, and whose posts were judged.
        changed: posts with a new row in their label history.
        unchanged: posts that were judged and keep their label.
        labels: posts by platform and label now.
    """

    new_snapshots: int
    accounts: int
    judged_accounts: int
    changed: int
    unchanged: int
    labels: Mapping[str, Mapping[str, int]]

    @property
    def labelled_posts(self) -> int:
        return sum(sum(counts.values()) for counts in self.labels.values())


@dataclass(frozen=True)
class _Platform:
    """What labelling one platform did."""

    accounts: int
    judged_accounts: int
    changed: int
    unchanged: int


def load_label_rules(path: Path | None) -> LabelRules:
    """The rules of the platforms, changed by that file where there is one.

    Raises:
        InvalidInput: there is no such file, or it holds no rules.
    """
    if path is None:
        return LabelRules()
    try:
        return read_label_rules(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"label rules {path}: {error}; set LABEL_RULES_FILE to a file that exists") from error


def classify_new_outcomes(database: Database, rules: LabelRules | None = None) -> ClassificationReport:
    """Label the platforms that have new snapshots, other posts or other rules, each in one transaction under a lock."""
    rules = rules or LabelRules()
    with database.connection() as connection:
        # The hashes before the posts: a post that changes in between is looked at again the next time.
        posts_hashes = states.posts_hashes(connection)
        labelled_with = states.labelled_with(connection)
        snapshots = outcome_rows.unlabelled(connection)
        observed = set(outcome_rows.label_counts(connection)) | set(snapshots)
    current = {name: (rules.key(name, CLASSIFIER_VERSION), posts_hashes[name]) for name in sorted(observed)}
    pending = [name for name in current if name in snapshots or labelled_with.get(name) != current[name]]
    done = [_classify_platform(database, name, rules, *current[name]) for name in pending]
    with database.transaction() as connection:
        labels = outcome_rows.label_counts(connection)
        outcome_rows.record_flop_rates(connection)
        states.record_anchor_ratios(connection)
    return ClassificationReport(
        new_snapshots=sum(snapshots.values()),
        accounts=sum(each.accounts for each in done),
        judged_accounts=sum(each.judged_accounts for each in done),
        changed=sum(each.changed for each in done),
        unchanged=sum(each.unchanged for each in done),
        labels=labels,
    )


def _classify_platform(
    database: Database, platform: str, rules: LabelRules, rules_key: str, posts_hash: int
) -> _Platform:
    with database.transaction() as connection:
        outcome_rows.lock_labels(connection, platform)
        # First the list, then the posts: a snapshot that comes in between stays unlabelled until the next time.
        snapshots = outcome_rows.unlabelled_snapshots(connection, platform)
        changes = classify_changed(
            outcome_rows.observed_posts(connection, platform),
            rules.of(platform),
            rules_key,
            fingerprints=states.fingerprints(connection, platform),
            frozen=states.anchors(connection, platform),
        )
        written = outcome_rows.write_labels(
            connection, platform, changes.classifications, snapshots, CLASSIFIER_VERSION
        )
        states.freeze_anchors(connection, platform, changes.anchors)
        states.replace_fingerprints(connection, platform, changes.fingerprints)
        states.note_labelled(connection, platform, rules_key, posts_hash)
    return _Platform(
        len(changes.fingerprints), changes.judged_accounts, sum(written.changed.values()), written.unchanged
    )
