"""What the price collector needs for the feeds of a stack."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from components.kubernetes.network_policy import Allow, Network
from infra.settings.model import FeedSettings

COLLECTOR = "price-collector"
"""The role that has feeds."""
ALPHA_VANTAGE_KEY = "app_alpha_vantage_key"
"""Under this name the role finds the key of Alpha Vantage."""

_HTTPS = 443
_EVERYWHERE = Network("0.0.0.0/0")


def environment(feed: FeedSettings) -> dict[str, str]:
    """Variables of the role; of sources that the stack does not use nothing is told."""
    told = {
        "APP_FEED": ",".join(feed.sources),
        "APP_FEED_SEED": str(feed.seed),
        "APP_FEED_RATE": str(feed.ticks_per_second),
    }
    if "binance" in feed.sources:
        told["APP_FEED_BINANCE_URL"] = feed.binance_url
    if "alpha-vantage" in feed.sources:
        told |= {
            "APP_FEED_ALPHA_VANTAGE_URL": feed.alpha_vantage_url,
            "APP_FEED_ALPHA_VANTAGE_PER_MINUTE": str(feed.alpha_vantage_per_minute),
            "APP_FEED_ALPHA_VANTAGE_PER_DAY": str(feed.alpha_vantage_per_day),
        }
    return told


def egress(feed: FeedSettings) -> list[Allow]:
    """Where the role may connect to outside: the ports of the addresses of its sources, on any network, for
    the networks behind their names change."""
    urls = {"binance": feed.binance_url, "alpha-vantage": feed.alpha_vantage_url}
    ports = {urlsplit(url).port or _HTTPS for name, url in urls.items() if name in feed.sources}
    return [Allow(_EVERYWHERE, port) for port in sorted(ports)]


def secrets(secret: str | None) -> Mapping[str, str]:
    """Key of the role's optional secret → the Secret `secret` that holds it, if there is one."""
    return {} if secret is None else {ALPHA_VANTAGE_KEY: secret}
