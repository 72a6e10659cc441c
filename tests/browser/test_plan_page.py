"""The page of a plan in a real browser: searched, in both themes, without network, with hostile names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from infra.plan import page as html
from infra.plan.report import assemble
from tests.plan.synthetic import plan, resource, urn

pytestmark = pytest.mark.browser

EVIL = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    component = resource("tradestack:aws:Messaging", "messaging", custom=False)
    inside = urn("tradestack:aws:Messaging", "messaging")
    old = plan(component, resource("aws:sqs/queue:Queue", "orders", {"delaySeconds": 0}, parent=inside))
    new = plan(
        component,
        resource("aws:sqs/queue:Queue", "orders", {"delaySeconds": 5, "policy": EVIL}, parent=inside),
        resource("aws:sns/topic:Topic", EVIL, parent=inside),
        resource("aws:rds/instance:Instance", "trading", {"engine": "postgres"}),
    )
    path = tmp_path_factory.mktemp("page") / "plan.html"
    path.write_text(html.text(assemble(new, "before", old)))
    return path


@pytest.fixture
def page(browser: Browser, file: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page as a file, offline; every request but its own is an error."""
    context = browser.new_context(color_scheme=getattr(request, "param", "light"), offline=True)
    page = context.new_page()
    problems: list[str] = []
    page.on("request", lambda made: problems.append(made.url) if made.url != file.as_uri() else None)
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert problems == []


def test_search_shows_what_matches_with_its_parents(page: Page) -> None:
    page.get_by_label("Search").fill("queue orders")
    expect(page.get_by_role("status")).to_have_text("1 of 5 resources")
    expect(page.locator("#tree summary", has_text="Messaging")).to_be_visible()
    expect(page.locator("#tree summary", has_text="Queue")).to_be_visible()
    expect(page.locator("#tree summary", has_text="Instance")).to_be_hidden()
    page.get_by_label("Search").fill("")
    expect(page.locator("#tree summary", has_text="Instance")).to_be_visible()
    expect(page.get_by_role("status")).to_be_empty()


def test_search_finds_inputs_too(page: Page) -> None:
    page.get_by_label("Search").fill("postgres")
    expect(page.locator("#tree summary", has_text="Instance")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("1 of 5 resources")


def test_names_from_a_plan_run_nothing(page: Page) -> None:
    assert page.evaluate("window.hacked") is None
    expect(page.locator("#tree img")).to_have_count(0)
    expect(page.locator(".change code", has_text="onerror").first).to_be_visible()


@pytest.mark.parametrize(("page", "dark"), [("light", False), ("dark", True)], indirect=["page"])
def test_both_themes(page: Page, dark: bool) -> None:
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    paper = page.evaluate("getComputedStyle(document.querySelector('.diagram .paper')).fill")
    channels = [int(part) for part in background[4:-1].split(",")]
    assert (sum(channels) < 150) is dark
    assert paper == background


def test_nothing_is_wider_than_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_sections_are_all_there(page: Page) -> None:
    assert page.locator("h2").all_text_contents() == ["Changes", "Cost", "Findings", "Diagram", "Resources"]
