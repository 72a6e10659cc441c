"""Names and folders of instances, and what is kept of them."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from infra.cluster import instance as module
from infra.cluster.instance import Instance, instances
from infra.errors import TradestackError


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADESTACK_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(module, "reached_networks", lambda *, except_link: [])


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a/b", "..", "1a", "a" * 32])
def test_names_that_cannot_be_used_everywhere_are_refused(name: str) -> None:
    with pytest.raises(TradestackError, match="cluster name"):
        Instance.named(name)


@pytest.mark.parametrize("name", ["a", "tradestack", "a" * 31])
def test_link_names_fit_the_kernel_and_sockets_fit_their_limit(name: str) -> None:
    instance = Instance.named(name)
    assert len(instance.link) <= 15
    assert len(str(instance.containerd_socket)) < 107


def test_long_names_with_a_common_start_have_different_links() -> None:
    assert Instance.named("a" * 20).link != Instance.named("a" * 21).link


def test_addresses_are_kept_and_not_given_twice() -> None:
    first, second = Instance.named("first"), Instance.named("second")
    assert first.addresses().slot == 0
    assert second.addresses().slot == 1
    assert Instance.named("first").addresses().slot == 0
    assert [each.name for each in instances()] == ["first", "second"]


def test_looking_does_not_keep_an_address() -> None:
    assert Instance.named("first").peek_addresses().slot == 0
    assert Instance.named("first").kept_addresses() is None


def test_a_kept_range_that_is_now_routed_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Instance.named("first").addresses()
    taken = [IPv4Network("10.97.0.0/16")]
    monkeypatch.setattr(module, "reached_networks", lambda *, except_link: taken)
    with pytest.raises(TradestackError, match=r"now routes 10\.97\.0\.0/16 elsewhere"):
        Instance.named("first").addresses()
