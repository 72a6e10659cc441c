"""The API server of an embedded cluster over one kept connection.

A process for each question would be a load of its own.
"""

import base64
import ssl
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

_TIMEOUT_S = 10.0


class KubernetesApi:
    """Reads with the rights of a kubeconfig that holds its certificates."""

    def __init__(self, kubeconfig: Path) -> None:
        source = yaml.safe_load(kubeconfig.read_text())
        cluster, user = source["clusters"][0]["cluster"], source["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        tls = ssl.create_default_context(cadata=authority)
        # The ssl module reads a client's certificate from files alone.
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder) / "certificate", Path(folder) / "key"
            for path in (certificate, key):
                path.touch(mode=0o600)
                path.write_bytes(base64.b64decode(user[f"client-{path.name}-data"]))
            tls.load_cert_chain(certificate, key)
        self._client = httpx.AsyncClient(
            base_url=cluster["server"], verify=tls, timeout=_TIMEOUT_S, trust_env=False
        )

    async def __aenter__(self) -> Self:
        """Ready to be asked."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def get(self, path: str, **parameters: str) -> dict[str, Any] | None:
        """The answer to a GET; None where the server has none now.

        Raises:
            httpx.HTTPStatusError: the server refuses the question.
        """
        try:
            answer = await self._client.get(path, params=parameters)
        except httpx.TransportError:
            return None
        if answer.status_code in (404, 500, 503):
            return None
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found
