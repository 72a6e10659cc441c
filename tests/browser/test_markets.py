"""What a person sees: prices that move, whatever happens behind them."""

import re
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import Platform

pytestmark = pytest.mark.browser

LIVE = "#connection[data-state=live]"
MOVED = """() => {
    const cells = [...document.querySelectorAll('[data-field=price]')].map((cell) => cell.textContent);
    window.first ??= cells;
    return cells.filter((text, index) => text !== window.first[index]).length >= 3;
}"""
DRAWN = """() => {
    const chart = document.querySelector('#chart');
    const data = chart.getContext('2d').getImageData(0, 0, chart.width, chart.height).data;
    let green = 0, red = 0;
    for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] < 200) continue;
        if (data[at + 1] > 150 && data[at] < 100) green++;
        if (data[at] > 200 && data[at + 1] < 140) red++;
    }
    return green > 100 && red > 100;
}"""
"""Whether there are candles of both colours."""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    made = context.new_page()
    problems: list[str] = []
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on(
        "console",
        lambda message: problems.append(message.text) if "Content Security" in message.text else None,
    )
    yield made
    context.close()
    assert problems == []


def price(page: Page, symbol: str) -> str:
    return page.locator(f'tr[data-symbol="{symbol}"] [data-field=price]').inner_text()


def watch(page: Page) -> None:
    page.evaluate("window.first = undefined")
    page.wait_for_function(MOVED)


def test_prices_move(platform: Platform, page: Page) -> None:
    page.goto(platform.url)
    page.wait_for_selector(LIVE)
    expect(page.locator("#markets tbody tr")).to_have_count(22)
    watch(page)
    expect(page.locator('tr[data-symbol="AAPL"] [data-field=price]')).to_have_text(
        re.compile(r"^[\d,]+\.\d\d$")
    )


def test_an_instrument_shows_its_candles(platform: Platform, page: Page) -> None:
    page.goto(platform.url)
    page.wait_for_selector(LIVE)
    with page.expect_response(re.compile(r"/candles/ETH-USD\?interval=1m")):
        page.get_by_role("button", name="ETH-USD").click()
    expect(page.locator("#detail-symbol")).to_have_text("ETH-USD")
    expect(page.locator("#legend")).to_have_text(re.compile(r"O [\d.]+\s+H [\d.]+\s+L [\d.]+\s+C [\d.]+"))
    page.wait_for_function(DRAWN)
    with page.expect_response(re.compile(r"/candles/ETH-USD\?interval=5m")):
        page.get_by_role("button", name="5m", exact=True).click()
    expect(page.locator("#stats dd").first).not_to_be_empty()


def test_candles_that_are_stored_after_the_page_came_are_shown(platform: Platform, page: Page) -> None:
    answers = []

    def none_at_first(route: Route) -> None:
        answers.append(route)
        if len(answers) > 2:
            route.continue_()
        else:
            route.fulfill(json={"candles": []})

    page.route(re.compile("/candles/"), none_at_first)
    page.goto(f"{platform.url}#ETH-USD")
    page.wait_for_selector(LIVE)
    page.wait_for_function(DRAWN)
    assert len(answers) > 2


def test_survives_a_restart_of_the_server(platform: Platform, page: Page) -> None:
    page.goto(platform.url)
    page.wait_for_selector(LIVE)
    platform.process.kill()
    page.wait_for_selector("#connection:not([data-state=live])")
    platform.start()
    page.wait_for_selector(LIVE)
    watch(page)


def test_is_told_when_the_server_ends_politely(platform: Platform, page: Page) -> None:
    page.add_init_script("""
        const Native = WebSocket;
        window.codes = [];
        window.WebSocket = class extends Native {
            constructor(url) {
                super(url);
                this.addEventListener("close", (event) => window.codes.push(event.code));
            }
        };
    """)
    page.goto(platform.url)
    page.wait_for_selector(LIVE)
    platform.process.signal(signal.SIGTERM)
    page.wait_for_selector("#connection[data-state=offline]")
    assert platform.process.wait(60) == 0
    assert page.evaluate("window.codes[0]") == 1012


def test_missed_numbers_are_caught_up_by_a_snapshot(platform: Platform, page: Page) -> None:
    """Ticks are thrown away between the server and the page; the page notices and asks again."""
    page.add_init_script("""
        const Native = WebSocket;
        let dropped = 0;
        window.WebSocket = class extends Native {
            set onmessage(handler) {
                super.onmessage = (event) => {
                    const isTick = event.data.startsWith('{"type":"tick"');
                    if (isTick && window.losing && dropped < 5) { dropped++; return; }
                    handler(event);
                };
            }
        };
    """)
    page.goto(platform.url)
    page.wait_for_selector(LIVE)
    watch(page)
    page.evaluate("window.losing = true")
    page.wait_for_function("() => Number(document.body.dataset.resyncs) >= 1")
    watch(page)


def test_sequence_tracking_in_the_page(platform: Platform, page: Page) -> None:
    page.goto(platform.url)
    verdicts = page.evaluate("""async () => {
        const { SequenceTracker } = await import('/js/sequence.js');
        const tracker = new SequenceTracker();
        const see = (epoch, seq) => tracker.observe({ symbol: 'S', epoch, seq });
        const seen = [see('a', 5), see('a', 6), see('a', 6), see('a', 8), see('a', 7), see('b', 1)];
        tracker.reset({ symbol: 'S', epoch: 'b', seq: 1 });
        return [...seen, see('b', 2)];
    }""")
    assert verdicts == ["first", "next", "repeated", "gap", "next", "new-epoch", "next"]


def test_a_broken_address_shows_the_first_instrument(platform: Platform, page: Page) -> None:
    page.goto(f"{platform.url}#%")
    page.wait_for_selector(LIVE)
    expect(page.locator("#detail-symbol")).to_have_text("BTC-USD")


def test_a_connection_that_never_opens_is_tried_again(platform: Platform, page: Page) -> None:
    # A page without a stream of its own, which would count as a try when it connects late.
    page.goto(f"{platform.url}js/stream.js")
    tries = page.evaluate(
        """async () => {
            let now = 0, watch = null;
            const made = [];
            performance.now = () => now;
            globalThis.setInterval = (each) => (watch = each);
            globalThis.WebSocket = class {
                static CONNECTING = 0;
                static OPEN = 1;
                readyState = 0;
                constructor() { made.push(this); }
                close() {}
            };
            const { PriceStream } = await import("/js/stream.js?fresh");
            new PriceStream("ws://nowhere/").connect();
            now = 60000;
            watch();
            const deadline = Date.now() + 30000;
            while (made.length < 2 && Date.now() < deadline) {
                await new Promise((done) => setTimeout(done, 20));
            }
            return made.length;
        }"""
    )
    assert tries == 2


def test_pauses_grow_with_jitter_and_are_bounded(platform: Platform, page: Page) -> None:
    page.goto(platform.url)
    shortest, longest = page.evaluate("""async () => {
        const { pauseBefore } = await import('/js/stream.js');
        const attempts = [0, 1, 2, 3, 4, 5, 6, 20];
        return [attempts.map((n) => pauseBefore(n, 0)), attempts.map((n) => pauseBefore(n, 1))];
    }""")
    assert longest == [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]
    assert all(low * 4 == high for low, high in zip(shortest, longest, strict=True))


def test_fits_a_phone(platform: Platform, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.goto(platform.url)
    page.wait_for_selector(LIVE)
    watch(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    clipped = page.evaluate("""() => [...document.querySelectorAll('#markets td, #markets th')]
        .filter((cell) => cell.offsetParent && cell.getBoundingClientRect().right > innerWidth - 12)
        .length""")
    assert clipped == 0
    page.get_by_role("button", name="FX", exact=True).tap()
    expect(page.locator("#markets tbody tr:visible")).to_have_count(6)
    context.close()


def test_works_with_the_keyboard(platform: Platform, page: Page) -> None:
    page.goto(platform.url)
    page.wait_for_selector(LIVE)
    page.get_by_role("button", name="SOL-USD").focus()
    page.keyboard.press("Enter")
    expect(page.locator('tr[data-symbol="SOL-USD"]')).to_have_attribute("aria-selected", "true")
    assert price(page, "SOL-USD")
