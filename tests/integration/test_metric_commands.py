"""`everreach metrics record|allow|show` as a person types them, on a real database."""

import pytest
from click.testing import CliRunner, Result

from everreach_assets.cli import main
from everreach_assets.domain.metric_catalogue import OTHER

DMS = "everreach_dms_sent_total"
FOLLOWERS = "everreach_followers"
DISPATCH = "everreach_dispatch_duration_seconds"
DISPATCH_LABELS = ("--label", "service=crm", "--label", "action=dm.send", "--label", "env=production")


@pytest.fixture
def metrics(database_url: str) -> "Metrics":
    return Metrics(database_url)


class Metrics:
    """`everreach metrics` on a database."""

    def __init__(self, database_url: str) -> None:
        self._environment = {"EVERREACH_DATABASE_URL": database_url, "CHROMA_HOST": "127.0.0.1"}

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["metrics", *arguments], env=self._environment)

    def printed(self, *arguments: str) -> list[str]:
        done = self(*arguments)
        assert done.exit_code == 0, done.output
        return done.output.splitlines()


def test_a_counter_grows_and_a_gauge_is_set(metrics: Metrics) -> None:
    for value in ("2", "3"):
        assert metrics.printed("record", DMS, value, "--label", "platform=x") == ["Recorded."]
        assert metrics.printed("record", FOLLOWERS, value, "--label", "platform=x") == ["Recorded."]
    assert metrics.printed("show", DMS) == [f'{DMS}{{platform="x"}}  5']
    assert metrics.printed("show", FOLLOWERS) == [f'{FOLLOWERS}{{platform="x"}}  3']


def test_a_histogram_shows_its_observations_and_their_sum(metrics: Metrics) -> None:
    for value in ("0.25", "40"):
        metrics.printed("record", DISPATCH, value, *DISPATCH_LABELS)
    (line,) = metrics.printed("show", DISPATCH)
    assert line.startswith(f"{DISPATCH}{{")
    assert line.endswith("}  2 observations, sum 40.25")
    assert all(label in line for label in ('service="crm"', 'action="dm.send"', 'env="production"'))


def test_the_same_record_id_adds_nothing_and_says_so(metrics: Metrics) -> None:
    record = ("record", DMS, "2", "--label", "platform=x", "--record-id", "request-7")
    assert metrics.printed(*record) == ["Recorded."]
    assert metrics.printed(*record) == ["request-7 was recorded before; nothing was added."]
    assert metrics.printed("show", DMS) == [f'{DMS}{{platform="x"}}  2']


def test_an_allowed_value_is_a_series_of_its_own_and_starts_at_zero(metrics: Metrics) -> None:
    metrics.printed("record", DMS, "1", "--label", "platform=vero")
    assert metrics.printed("allow", "platform", "vero") == ["platform now holds vero."]
    assert f'{DMS}{{platform="vero"}}  0' in metrics.printed("show", DMS, "--all")
    metrics.printed("record", DMS, "4", "--label", "platform=vero")
    assert metrics.printed("show", DMS) == [f'{DMS}{{platform="{OTHER}"}}  1', f'{DMS}{{platform="vero"}}  4']
    assert metrics.printed("allow", "platform", "vero") == ["platform held vero already."]


def test_of_what_nobody_recorded_it_says_that_it_is_zero_or_not_there(metrics: Metrics) -> None:
    assert metrics.printed("show", DMS) == ["All are 0; --all shows them."]
    assert f'{DMS}{{platform="linkedin"}}  0' in metrics.printed("show", DMS, "--all")
    assert metrics.printed("show", FOLLOWERS) == ["Nothing is recorded yet."]
    assert metrics.printed("show", "everreach_no_such") == ["Nothing is recorded yet."]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("record", "everreach_no_such_total", "1"), "there is no such metric"),
        (("record", DMS, "1"), "it lacks the label platform"),
        (("record", DMS, "1", "--label", "platform=x", "--label", "city=Ulm"), "it has no label city"),
        (("record", DMS, "1", "--label", "platform"), "--label platform: write NAME=VALUE"),
        (("record", DMS, "1", "--label", "=x"), "write NAME=VALUE"),
        (("record", DMS, "1", "--label", "platform=total"), "would double every sum"),
        (("record", DMS, "--label", "platform=x", "--", "-1"), "a counter never goes down, got -1"),
        (("record", DMS, "many", "--label", "platform=x"), "'many' is not a valid float"),
        (("record", DMS, "nan", "--label", "platform=x"), "metrics: "),
        (("record", DMS, "inf", "--label", "platform=x"), "metrics: "),
        (("record", DMS, "1e16", "--label", "platform=x"), "the value is beyond 1e15"),
        (("record", DMS, "1", "--label", "platform=x", "--record-id", ""), "1 to 200 bytes"),
        (("record", DMS, "1", "--label", "platform=x", "--record-id", "a\nb"), "1 to 200 bytes"),
        (("record", "everreach_posts_classified_total", "1"), "it is not recorded from outside"),
        (("record", DMS), "Missing argument 'VALUE'"),
        (("allow", "no_such_set", "x"), "there is no such set; there are backend, "),
        (("allow", "platform", "total"), "'total' would double every sum"),
        (("allow", "platform", OTHER), "a label's value is 1 to 64 characters"),
        (("allow", "platform", "two words"), "a label's value is 1 to 64 characters"),
        (("allow", "platform", "x" * 65), "a label's value is 1 to 64 characters"),
        (("allow", "platform", "x'); DROP TABLE metric_counters;--"), "a label's value is 1 to 64 characters"),
        (("allow", "platform"), "Missing argument 'VALUE'"),
    ],
)
def test_wrong_input_is_refused_with_the_reason_and_changes_nothing(
    metrics: Metrics, arguments: tuple[str, ...], says: str
) -> None:
    before = metrics.printed("show", "--all")
    refused = metrics(*arguments)
    assert refused.exit_code == 2
    assert says in refused.output
    assert "Traceback" not in refused.output
    assert metrics.printed("show", "--all") == before


def test_a_set_takes_no_more_than_fifty_values(metrics: Metrics) -> None:
    taken = [metrics("allow", "env", f"stage-{number}").exit_code for number in range(49)]
    assert taken == [0] * 47 + [2] * 2
    assert "it holds 50 values already" in metrics("allow", "env", "one-more").output
