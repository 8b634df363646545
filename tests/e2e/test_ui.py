"""What a person sees in a browser after `everreach run` and `everreach up`: the graph, the runs, the strategies."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser import open_page
from tests.everreach import Everreach

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700), pytest.mark.xdist_group("ui")]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The UI of `everreach up` on a folder in which `everreach run` ran before."""
    everreach = Everreach(tmp_path_factory.mktemp("ui"))
    everreach("run")
    with everreach.running():
        yield everreach.ui


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Page]:
    with open_page(address) as page:
        yield page


def test_the_lineage_shows_the_groups(page: Page) -> None:
    page.goto("/asset-groups/")
    for group in ("sources", "feedback", "vectors", "cloud", "retention", "spaces"):
        expect(page.get_by_text(group, exact=True).first).to_be_visible()


def test_the_runs_of_the_main_job_are_there_and_succeeded(page: Page) -> None:
    page.goto("/runs")
    expect(page.get_by_text("memory_refresh_job").first).to_be_visible()
    expect(page.get_by_text("partition: youtube").first).to_be_visible()
    for job in ("cloud_sync_job", "retention_job", "heal_embeddings_job", "embedding_migration_job"):
        expect(page.get_by_text(job).first).to_be_visible()
    expect(page.get_by_text("Success")).to_have_count(11)  # one for each of five platforms, and six more


def test_a_strategy_shows_its_claims_and_their_plot(page: Page) -> None:
    page.goto("/assets/feedback/strategies")
    expect(page.get_by_text("strategy_id").first).to_be_visible()
    summary, effects = (page.get_by_text("[Show Markdown]").nth(place) for place in (0, 1))
    summary.click()
    expect(page.get_by_text("opens with a number").first).to_be_visible()
    page.keyboard.press("Escape")
    effects.click()
    plot = page.locator("img[alt=effects]").first
    expect(plot).to_be_attached()
    assert plot.evaluate("image => image.naturalWidth") > 100


def test_the_sensor_and_the_schedules_are_listed(page: Page) -> None:
    page.goto("/automation")
    for name in (
        "strategy_rebuild_sensor",
        "memory_refresh_schedule",
        "strategy_refresh_schedule",
        "retention_schedule",
    ):
        expect(page.get_by_text(name).first).to_be_visible()
