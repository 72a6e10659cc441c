"""Every scanner over one plan; what was scanned before is taken from the cache."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from infra.check import checkov, kube, manifests, schemas, store, terraform, tools
from infra.check.model import Scan, failed_to_run
from infra.errors import TradestackError
from infra.plan.model import Plan
from infra.policy import Finding
from infra.progress import Steps

_KEPT_RESULTS = 100
_CODE = Path(__file__).resolve().parent


def scan(plan: Plan, steps: Steps) -> list[Scan]:
    """What checkov, kube-score and kubeconform say about a plan, before skips.

    A scanner that cannot run is a finding of its own.
    """
    aws = terraform.convert(plan)
    objects = manifests.make(plan)
    described = json.dumps(aws.document, sort_keys=True)
    rendered = json.dumps(objects.files, sort_keys=True)
    jobs: list[tuple[str, str, Callable[[], Scan]]] = []
    if aws.urns:
        jobs.append(("checkov", described, lambda: checkov.scan_aws(aws, steps)))
    if objects.files:
        jobs += [
            ("checkov", rendered, lambda: checkov.scan_kubernetes(objects, steps)),
            (kube.SCORE, rendered, lambda: kube.score(objects, steps)),
            (kube.CONFORM, rendered, lambda: kube.conform(objects, steps)),
        ]
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="check") as executor:
        running = [executor.submit(_cached, name, plan.stack, given, job) for name, given, job in jobs]
        scans = [item.result() for item in running]
    return [*scans, Scan("policy", 0, objects.findings)]


def _cached(name: str, stack: str, given: str, job: Callable[[], Scan]) -> Scan:
    key = store.content_hash([name, stack, given, _versions()])
    file = store.results() / f"{name}-{key}.json"
    if file.exists():
        return _read(file)
    try:
        found = job()
    except TradestackError as error:
        return failed_to_run(name, stack, str(error))
    partial = file.with_suffix(f".{id(found)}")
    partial.write_text(json.dumps(asdict(found)))
    partial.rename(file)
    _forget(file.parent)
    return found


def _forget(folder: Path) -> None:
    """Delete all but the newest results; most are of plans that nobody has any more."""
    kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[_KEPT_RESULTS:]:
        path.unlink(missing_ok=True)


def _read(file: Path) -> Scan:
    data = json.loads(file.read_text())
    return Scan(data["checker"], data["passed"], tuple(Finding(**item) for item in data["findings"]))


def _versions() -> str:
    code = [path.read_bytes() for path in sorted(_CODE.glob("*.py"))]
    return store.content_hash([checkov.content(), tools.content(), schemas.content(), *code])
