"""The edge as clients meet it: TLS, routes, cookies, origins, what is internal, what is not believed."""

import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from app.gateway.registry import PATH as REGISTRY
from infra.cluster.pki import Authority
from tests.cluster.platform import edge
from tests.cluster.platform.conftest import Platform, is_ready, pinned
from tests.traders import registered, within

pytestmark = pytest.mark.cluster

ENVOYS = ("-n", "envoy-gateway-system")
ORIGIN = "http://localhost:3000"
"""What Pulumi.local.yaml allows."""


def _get(platform: Platform, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{platform.url}{path}", headers=headers, trust_env=False, timeout=30)


def test_https_is_served_by_the_clusters_own_authority(platform: Platform) -> None:
    context = edge.trusting(edge.authority(platform))
    url = f"https://{edge.host(platform)}:{edge.HTTPS}"
    with httpx.Client(verify=context, trust_env=False, timeout=30) as client:
        page = client.get(url)
        assert page.status_code == 200
        assert "text/html" in page.headers["content-type"]
        assert client.get(f"{url}/api/market/instruments").status_code == 200
        assert re.fullmatch(r"max-age=\d+", page.headers["strict-transport-security"])
    assert "strict-transport-security" not in _get(platform, "/").headers


def test_another_authority_is_not_believed(platform: Platform, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other").pair.certificate
    with pytest.raises(ssl.SSLCertVerificationError):
        edge.handshake(platform, edge.trusting(other))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_of_tls_are_refused(platform: Platform, version: ssl.TLSVersion) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)) as refused:
        edge.handshake(platform, edge.trusting(edge.authority(platform), least=version, most=version))
    assert "PROTOCOL_VERSION" in str(refused.value).upper()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_present_versions_of_tls_are_taken(platform: Platform, version: ssl.TLSVersion) -> None:
    context = edge.trusting(edge.authority(platform), least=version, most=version)
    assert edge.handshake(platform, context) == version.name.replace("_", ".")


@pytest.mark.parametrize(
    "path", ["/metrics", "/readyz", "/livez", "/internal", "/api/market/metrics", "/openapi.json"]
)
def test_what_is_for_probes_and_monitoring_is_not_found(platform: Platform, path: str) -> None:
    answer = _get(platform, path)
    assert answer.status_code == 404
    assert answer.json()["code"] == "not-found"


def test_the_registry_is_refused_outside_and_told_inside(platform: Platform) -> None:
    outside = _get(platform, REGISTRY)
    assert outside.status_code == 403
    assert outside.headers["content-type"] == "application/problem+json"
    assert outside.json()["code"] == "forbidden"
    spoofed = _get(platform, REGISTRY, **{"x-forwarded-for": "10.97.0.9", "x-real-ip": "10.97.0.9"})
    assert spoofed.status_code == 403
    for path in (f"{REGISTRY}/", "//registry", "/%72egistry", "/api/../registry"):
        assert _get(platform, path).status_code in (403, 404), path

    (inside,) = edge.ask_inside(platform, REGISTRY).found
    assert inside["status"] == 200
    for name in ("gateway", "price-service", "auth", "order"):
        assert f'"name":"{name}"' in inside["body"]
    assert '"ready":true' in inside["body"]


def test_the_address_of_a_client_is_its_own(platform: Platform) -> None:
    user = registered(platform.url, "addressed")
    user.http.headers["x-forwarded-for"] = "203.0.113.9"
    again = user.http.post(
        "/api/auth/login", json={"email": user.email, "password": "wobbly-lantern-41-quay"}
    )
    assert again.status_code == 200
    seen = {session["address"] for session in user.call("GET", "/api/auth/sessions")}
    # This machine's end of the link to the node: neither what the client says nor one of our proxies.
    plan = platform.cluster.instance.kept_addresses()
    assert plan is not None
    assert seen == {str(plan.host)}


def test_ambiguous_requests_are_refused(platform: Platform) -> None:
    assert _get(platform, "/api%2fmarket/instruments").status_code == 400
    assert _get(platform, "/", x_api_key="1").status_code == 400
    assert _get(platform, "/", **{"x-padding": "x" * 70_000}).status_code == 431


def test_prices_stick_to_one_pod_by_a_cookie(platform: Platform) -> None:
    def both_pods() -> bool:
        spread = f"/ws/{uuid4()}"
        for _ in range(24):
            _get(platform, spread)
        return len(set(edge.upstreams(platform, spread, 24))) == 2

    with pinned(platform, 2):
        # Envoy learns of the second pod some moments after it is ready, and then deals the cookies out anew.
        within(120, "clients without a cookie reach both pods", both_pods)
        _expect_that_a_cookie_leads_to_one_pod(platform)


def _expect_that_a_cookie_leads_to_one_pod(platform: Platform) -> None:
    first = _get(platform, "/ws")
    cookie = first.headers["set-cookie"]
    name, _, value = cookie.partition(";")[0].partition("=")
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert (name, bool(value)) == ("TRADING_AFFINITY", True)
    assert {"max-age=172800", "path=/", "samesite=strict", "httponly"} <= attributes

    same = f"/ws/{uuid4()}"
    for _ in range(12):
        answer = _get(platform, same, cookie=f"TRADING_AFFINITY={value}")
        assert "set-cookie" not in answer.headers
    assert len(set(edge.upstreams(platform, same, 12))) == 1


def _preflight(platform: Platform, origin: str, method: str = "POST") -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization,content-type",
    }
    url = f"{platform.url}/api/orders"
    return httpx.options(url, headers=headers, trust_env=False, timeout=30)


def test_pages_of_allowed_origins_may_use_the_api_and_no_others(platform: Platform) -> None:
    allowed = _preflight(platform, ORIGIN)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    methods = {method.strip() for method in allowed.headers["access-control-allow-methods"].split(",")}
    assert methods == {"GET", "POST", "PUT", "DELETE", "OPTIONS"}
    headers = allowed.headers["access-control-allow-headers"].lower()
    assert {"authorization", "content-type", "x-requested-with"} <= {
        each.strip() for each in headers.split(",")
    }
    for origin in ("https://evil.example", f"{ORIGIN}.evil.example", "null"):
        refused = _preflight(platform, origin)
        assert "access-control-allow-origin" not in refused.headers, origin
    simple = _get(platform, "/api/market/instruments", origin="https://evil.example")
    assert "access-control-allow-origin" not in simple.headers
    assert _get(platform, "/api/market/instruments", origin=ORIGIN).headers[
        "access-control-allow-origin"
    ] == (ORIGIN)


@pytest.fixture
def two_envoys(platform: Platform) -> Iterator[list[str]]:
    """Names of Envoy's pods: a single one is bound to be replaced in time only on a machine with time."""

    def envoys(count: int) -> list[str]:
        spec = {"provider": {"kubernetes": {"envoyDeployment": {"replicas": count}}}}
        patch = ("--type=merge", "-p", json.dumps({"spec": spec}))
        platform.cluster.kubectl("patch", "envoyproxy", "edge", "-n", "trading-system", *patch)

        def ready() -> list[str] | None:
            pods = platform.get("pods", *ENVOYS, "-l", "app.kubernetes.io/name=envoy")["items"]
            serving = [pod["metadata"]["name"] for pod in pods if is_ready(pod)]
            return serving if len(serving) == len(pods) == count else None

        found: list[str] = within(300, f"{count} Envoys", ready)
        return found

    yield envoys(2)
    envoys(1)


def test_an_envoy_that_goes_loses_no_request(platform: Platform, two_envoys: list[str]) -> None:
    goes = two_envoys[0]
    platform.cluster.kubectl("delete", "pod", goes, *ENVOYS, "--wait=false")
    statuses = []

    def gone() -> bool:
        # A connection of its own each time, so that each could be refused.
        statuses.append(_get(platform, "/api/market/instruments").status_code)
        pods = platform.get("pods", *ENVOYS, "-l", "app.kubernetes.io/name=envoy")["items"]
        return goes not in {pod["metadata"]["name"] for pod in pods}

    within(300, "the old Envoy is gone", gone)
    assert set(statuses) == {200}
