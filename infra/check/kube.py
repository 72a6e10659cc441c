"""kube-score and kubeconform over the Kubernetes part of a plan."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from infra.check import schemas, tools
from infra.check.manifests import Manifests
from infra.check.model import Scan
from infra.cluster.binaries import KUBERNETES_VERSION
from infra.errors import TradestackError
from infra.policy import Finding
from infra.progress import Steps

SCORE = "kube-score"
CONFORM = "kubeconform"
_CRITICAL = 1
_TIMEOUT_S = 120
_INVALID = {"statusInvalid": "schema", "statusError": "schema-missing", "statusSkipped": "schema-missing"}


def score(manifests: Manifests, steps: Steps) -> Scan:
    """kube-score's checks; what it grades critical is a finding, its warnings are not.

    Raises:
        TradestackError: it cannot be built or did not answer.
    """
    version = f"v{KUBERNETES_VERSION.rsplit('.', 1)[0]}"
    command = [str(tools.program(SCORE, steps)), "score", "--output-format", "json"]
    report = _run([*command, "--kubernetes-version", version], manifests)
    passed, findings = 0, []
    for item in report or []:
        meta = item["object_meta"]
        urn = manifests.urn(item["type_meta"]["kind"], meta.get("namespace", ""), meta["name"])
        for check in item["checks"]:
            if check["skipped"]:
                continue
            if check["grade"] > _CRITICAL:
                passed += 1
                continue
            details = sorted({comment["summary"] for comment in check["comments"] or []})
            message = "; ".join(details) or check["check"]["comment"]
            findings.append(Finding(check["check"]["id"], SCORE, urn, message, "high"))
    return Scan(SCORE, passed, tuple(findings))


def conform(manifests: Manifests, steps: Steps) -> Scan:
    """Whether every object has the form that its kind asks for; a kind without a schema has not.

    Raises:
        TradestackError: it cannot be built, has no schemas, or did not answer for every object.
    """
    location = f"{schemas.folder(steps)}/{schemas.TEMPLATE}"
    command = [str(tools.program(CONFORM, steps)), "-output", "json", "-verbose", "-strict"]
    report = _run([*command, "-schema-location", location], manifests)
    answers = report["resources"]
    if len(answers) != len(manifests.files):
        raise TradestackError(f"kubeconform answered for {len(answers)} of {len(manifests.files)} objects")
    passed, findings = 0, []
    for item in answers:
        if item["status"] == "statusValid":
            passed += 1
            continue
        urn = manifests.urn_of_file(item["filename"])
        findings.append(Finding(_INVALID[item["status"]], CONFORM, urn, item["msg"], "high"))
    return Scan(CONFORM, passed, tuple(findings))


def _run(command: list[str], manifests: Manifests) -> Any:
    with tempfile.TemporaryDirectory(prefix="tradestack-check-") as work:
        files = []
        for name, text in manifests.files.items():
            path = Path(work) / name
            path.write_text(text)
            files.append(str(path))
        done = subprocess.run(
            [*command, *files], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError as error:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        name = Path(command[0]).name
        raise TradestackError(f"{name} ended with exit code {done.returncode}:\n{tail}") from error
