"""The Pulumi command line, where it is installed, through Pulumi's Automation API.

`local` needs no login: its state is a directory and its passphrase a file, both in the folder of its cluster.
Other stacks are deployed from the checkout, with the back end that the user is logged in to.
"""

import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from pulumi.automation import EngineEvent, LocalWorkspaceOptions, Stack, create_or_select_stack
from pulumi.automation.errors import CommandError

from infra.errors import TradestackError
from infra.paths import REPOSITORY
from infra.progress import Step

_SALT = "encryptionsalt"
_KEPT_WITH_DATA = (
    "pulumi:",
    "kubernetes:core/v1:Namespace",
    "kubernetes:core/v1:Secret",
    "random:index/randomPassword:RandomPassword",
)
"""Types that stay while volumes stay: the data's namespaces and passwords, and the providers."""


def find() -> Path | None:
    """Path of `pulumi`, or None where it is not installed."""
    found = shutil.which("pulumi")
    return Path(found) if found else None


def require(stack: str) -> None:
    """Refuse early what only the engine can deploy.

    Raises:
        TradestackError: `pulumi` is not on PATH.
    """
    if find() is None:
        raise TradestackError(
            f"stack '{stack}' is deployed by the Pulumi CLI, which is not on PATH",
            hint="install it from https://www.pulumi.com/docs/install/ and run the command again",
        )


class Engine:
    """Runs a stack's program under the real engine."""

    def __init__(
        self, stack: str, *, local: Path | None = None, overrides: Mapping[str, str] | None = None
    ) -> None:
        """With `local`, state and passphrase are kept in that directory; without it, in the user's back end.

        `overrides` are configuration keys with their namespace that take the place of the stack file's.
        """
        self._local = local
        directory, environment = REPOSITORY, {"PULUMI_SKIP_UPDATE_CHECK": "true"}
        if local is not None:
            directory = local
            environment |= local_environment(directory)
            _write_project(directory, stack, overrides or {})
        self._stack: Stack = create_or_select_stack(
            stack_name=stack, work_dir=str(directory), opts=LocalWorkspaceOptions(env_vars=environment)
        )

    def up(self, step: Step) -> dict[str, int]:
        """Create or update the stack; returns the number of resources by operation (`create`, `same`, …).

        Raises:
            TradestackError: the engine reported a failure; the message is the engine's.
        """
        try:
            changes = self._stack.up(on_event=_show(step), color="never").summary.resource_changes
        except CommandError as error:
            raise TradestackError(f"pulumi up failed:\n{error}") from error
        return {str(operation): count for operation, count in (changes or {}).items()}

    def destroy(self, step: Step, *, volumes: bool) -> None:
        """Delete the stack's resources; without `volumes`, all but what the data in volumes needs.

        Raises:
            TradestackError: the engine reported a failure; the message is the engine's.
        """
        target = None if volumes else self._without_data()
        try:
            self._stack.destroy(on_event=_show(step), color="never", target=target)
        except CommandError as error:
            raise TradestackError(f"pulumi destroy failed:\n{error}") from error
        if self._local is not None and volumes:
            shutil.rmtree(self._local)

    def _without_data(self) -> list[str]:
        """URNs of everything that data in volumes does not need."""
        resources = (self._stack.export_stack().deployment or {}).get("resources", [])
        needs = {
            item["urn"]: {item.get("parent"), *item.get("dependencies", ())} - {None} for item in resources
        }
        kept = {item["urn"] for item in resources if item["type"].startswith(_KEPT_WITH_DATA)}
        # The engine destroys nothing that something which stays depends on.
        while added := set().union(*(needs[urn] for urn in kept)) - kept:
            kept |= added
        return [item["urn"] for item in resources if item["urn"] not in kept]


def local_state(cluster: Path, stack: str) -> Path:
    """Directory of the engine's state for a local stack; it goes with `cluster`, the folder of its cluster.

    It is there from the engine's first `up` of the stack to the end of its complete `destroy`.
    """
    return cluster / "pulumi" / stack


def local_environment(directory: Path) -> dict[str, str]:
    """Variables that make `pulumi` keep its state in `directory`, which is made where it is missing."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    passphrase = directory / "passphrase"
    if not passphrase.exists():
        fresh = directory / "passphrase.new"
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(32))
        fresh.replace(passphrase)
    return {"PULUMI_BACKEND_URL": directory.as_uri(), "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase)}


def _write_project(directory: Path, stack: str, overrides: Mapping[str, str]) -> None:
    """Point a project in the state directory at the checkout's program.

    The engine writes its encryption salt beside the stack file; the checkout's file stays as it is.
    """
    project = yaml.safe_load((REPOSITORY / "Pulumi.yaml").read_text())
    project["main"] = str(REPOSITORY / project["main"])
    options = project["runtime"]["options"]
    options["virtualenv"] = str(REPOSITORY / options["virtualenv"])
    (directory / "Pulumi.yaml").write_text(yaml.safe_dump(project))
    wanted = yaml.safe_load((REPOSITORY / f"Pulumi.{stack}.yaml").read_text())
    wanted["config"] |= overrides
    file = directory / f"Pulumi.{stack}.yaml"
    before = yaml.safe_load(file.read_text()) if file.exists() else {}
    if _SALT in before:
        wanted[_SALT] = before[_SALT]
    file.write_text(yaml.safe_dump(wanted))


def _show(step: Step) -> Callable[[EngineEvent], None]:
    def on_event(event: EngineEvent) -> None:
        if event.resource_pre_event is not None:
            step.detail(event.resource_pre_event.metadata.urn.rsplit("::", 1)[-1])

    return on_event
