"""What a plan is compared with: a stored plan, a stack file, or the same stack at another commit."""

import os
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from infra.errors import TradestackError
from infra.paths import REPOSITORY
from infra.plan import stored
from infra.plan.model import Plan
from infra.plan.runner import run

_TIMEOUT_S = 120


def resolve(stack: str, against: str) -> Plan | None:
    """The plan of `stack` that `against` names; None when the stack did not exist there.

    A file is a document of `plan --json`, or a stack file (`.yaml`) from which this program plans the stack.
    What is no file is a commit, branch or tag of the repository: its own program is run, from a copy that is
    removed afterwards, with the packages installed here.

    Raises:
        TradestackError: there is neither such a file nor such a commit, the file is no plan or that of
            another stack, or the program at that commit does not run.
    """
    path = Path(against)
    if path.is_dir():
        raise TradestackError(f"--against {against}: is a directory, not a file or a commit")
    if not path.is_file():
        return at_commit(stack, against)
    if path.suffix in (".yaml", ".yml"):
        return run(stack, settings_file=path.resolve())
    plan = stored.load(path)
    if plan.stack != stack:
        raise TradestackError(f"{against} is the plan of stack '{plan.stack}', not of '{stack}'")
    return plan


def at_commit(stack: str, reference: str) -> Plan | None:
    """The plan of `stack` as the program of another commit makes it; None when it had no such stack.

    Raises:
        TradestackError: there is no such commit, or its program does not run.
    """
    commit = _commit(reference)
    if _git("cat-file", "-e", f"{commit}:./Pulumi.{stack}.yaml").returncode != 0:
        return None
    with tempfile.TemporaryDirectory(prefix="tradestack-plan-") as folder:
        _extract(commit, Path(folder))
        return stored.parse(_run(stack, reference, Path(folder)), f"the plan at {reference}")


def _commit(reference: str) -> str:
    # What begins with a dash would be an option of git.
    done = None if reference.startswith("-") else _git("rev-parse", "--verify", f"{reference}^{{commit}}")
    if done is None or done.returncode != 0:
        raise TradestackError(
            f"--against {reference}: there is no such file, and no such commit, branch or tag",
            hint="git fetch brings what is only at the remote; in a shallow clone, git fetch --unshallow",
        )
    return done.stdout.decode().strip()


def _extract(commit: str, folder: Path) -> None:
    done = _git("archive", "--format=tar", commit)
    if done.returncode != 0:
        raise TradestackError(f"git archive {commit}: {done.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def _run(stack: str, reference: str, folder: Path) -> str:
    """Run the other program. Its folder is the working directory, so that its modules come first."""
    kept = {name: value for name, value in os.environ.items() if name not in _MODULE_VARIABLES}
    command = [sys.executable, "-m", "infra.cli", "plan", stack, "--json"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**kept, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise TradestackError(f"the plan at {reference} was not ready after {_TIMEOUT_S} seconds") from error
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise TradestackError(
            f"the program at {reference} makes no plan of '{stack}': {last or 'no message'}",
            hint="it runs with the packages installed now; a plan stored with --json outlives an upgrade",
        )
    return done.stdout


_MODULE_VARIABLES = frozenset({"PYTHONPATH", "PYTHONSAFEPATH", "PYTHONHOME"})


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True)
    except FileNotFoundError as error:
        raise TradestackError("git is not installed, and --against names no file") from error
