"""checkov over the AWS and the Kubernetes part of a plan, in a Python environment of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from infra.check import store
from infra.check.manifests import Manifests
from infra.check.model import Scan
from infra.check.terraform import TerraformPlan
from infra.errors import TradestackError
from infra.policy import Finding
from infra.process import run
from infra.progress import Steps

REQUIREMENTS = Path(__file__).resolve().parent / "requirements-checkov.txt"
"""checkov with everything it needs, pinned; apart from ours, since the two do not agree."""
NAME = "checkov"
_ESTIMATE_S = 60
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR")
_TIMEOUT_S = 300


def content() -> str:
    """Identity of the pinned environment."""
    version = ".".join(map(str, sys.version_info[:3]))
    return store.content_hash([REQUIREMENTS.read_bytes(), version, sys.prefix])


def program(steps: Steps) -> Path:
    """The command `checkov`.

    Raises:
        TradestackError: the environment cannot be made.
    """

    def make(folder: Path) -> None:
        with steps.step("Install checkov", estimate_s=_ESTIMATE_S):
            run([sys.executable, "-m", "venv", "--clear", folder / "venv"])
            pip: list[str | Path] = [
                folder / "venv" / "bin" / "python",
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
            ]
            run([*pip, "--disable-pip-version-check", "-r", REQUIREMENTS])

    return store.ensure("checkov", content(), make) / "venv" / "bin" / "checkov"


def scan_aws(plan: TerraformPlan, steps: Steps) -> Scan:
    """checkov's checks of Terraform plans.

    Raises:
        TradestackError: checkov failed, or did not read every resource.
    """
    with tempfile.TemporaryDirectory(prefix="tradestack-checkov-") as work:
        file = Path(work) / "plan.json"
        file.write_text(json.dumps(plan.document))
        arguments = ["--file", str(file), "--framework", "terraform_plan"]
        report = _run(program(steps), arguments, Path(work))
    return _scan(report, len(plan.urns), lambda item: plan.urns.get(item["resource"], item["resource"]))


def scan_kubernetes(manifests: Manifests, steps: Steps) -> Scan:
    """checkov's checks of Kubernetes objects.

    Raises:
        TradestackError: checkov failed.
    """
    with tempfile.TemporaryDirectory(prefix="tradestack-checkov-") as work:
        for name, text in manifests.files.items():
            (Path(work) / name).write_text(text)
        report = _run(program(steps), ["--directory", work, "--framework", "kubernetes"], Path(work))

    # The resource of a finding may be the pod of a template; its file is always the object's.
    return _scan(report, len(manifests.files), lambda item: manifests.urn_of_file(item["file_path"]))


def _run(command: Path, arguments: list[str], work: Path) -> Mapping[str, Any]:
    # No configuration, key or proxy of the user may change what is checked.
    environment = {key: os.environ[key] for key in _KEPT_VARIABLES if key in os.environ}
    environment |= {"HOME": str(work), "LOG_LEVEL": "ERROR"}
    options = ["--output", "json", "--compact", "--quiet", "--skip-download"]
    done = subprocess.run(
        [str(command), *arguments, *options],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise TradestackError(f"checkov ended with exit code {done.returncode}:\n{tail}") from error
    if done.returncode not in (0, 1) or not isinstance(report, Mapping):
        raise TradestackError(f"checkov ended with exit code {done.returncode}")
    return report


def _scan(report: Mapping[str, Any], least: int, urn: Callable[[Mapping[str, Any]], str]) -> Scan:
    # Without any resource the summary stands alone.
    summary = report.get("summary", report)
    if summary["parsing_errors"] or summary["resource_count"] < least:
        raise TradestackError(
            f"checkov read {summary['resource_count']} of {least} resources, "
            f"with {summary['parsing_errors']} errors of parsing"
        )
    failed = report.get("results", {}).get("failed_checks", [])
    findings = [
        Finding(
            id=item["check_id"],
            checker=NAME,
            resource=urn(item),
            message=item["check_name"],
            severity=str(item.get("severity") or "medium").lower(),
        )
        for item in failed
    ]
    return Scan(NAME, int(summary["passed"]), tuple(findings))
