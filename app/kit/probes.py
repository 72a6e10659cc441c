"""The three paths that every role answers beside its own; /metrics only where the port is not public."""

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, disable_created_metrics, generate_latest

from app.kit.runtime import Runtime

JSON = "application/json"
disable_created_metrics()  # type: ignore[no-untyped-call]


def answer(runtime: Runtime, path: str) -> tuple[int, str, bytes] | None:
    """Status, media type and body of a probe path; None for any other path.

    /livez says that the process is alive and depends on nothing; /readyz is 503 while starting or draining,
    and tells the revision of the image where that is known.
    """
    if path == "/livez":
        return 200, JSON, b'{"status":"alive"}'
    if path == "/readyz":
        if runtime.ready:
            revision = runtime.settings.revision
            return 200, JSON, orjson.dumps({"status": "ready"} | ({"revision": revision} if revision else {}))
        return 503, JSON, orjson.dumps({"status": "not ready", "reason": runtime.pending})
    if path == "/metrics" and runtime.role.metrics_port is None:
        return 200, CONTENT_TYPE_LATEST, generate_latest()
    return None
