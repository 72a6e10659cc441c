"""The Debian root file system under the images that buildah makes."""

import os
from pathlib import Path

from infra.images import host
from infra.images.engines import GUARD, TIMESTAMP
from infra.process import run

# Links /bin to /usr/bin before anything is installed; doing it afterwards would pull Perl in.
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"


def make(context: Path, work: Path, log: Path) -> None:
    """Write `rootfs.tar` into the build context, from the package list and settings that are there.

    Raises:
        CommandFailed: mmdebstrap failed; its output is in `log`.
    """
    sources, settings = work / "sources.list", work / "apt.conf"
    sources.write_text("\n".join(host.apt_sources()) + "\n")
    bundle = host.ca_bundle()
    trust = [f'Acquire::https::CAInfo "{bundle}";'] if bundle is not None else []
    settings.write_text("\n".join([*host.apt_settings(), *trust]) + "\n")
    packages = (context / "packages").read_text().split()
    command = [*GUARD, "mmdebstrap", "--mode=root", "--variant=minbase", f"--hook-dir={_MERGED_USR}"]
    command += [f"--include={','.join(packages)}", f"--dpkgopt={context / 'dpkg.cfg'}"]
    command += [f"--aptopt={settings}", '--aptopt=APT::Install-Recommends "false"']
    command += [f"--customize-hook={context / 'finish'}"]
    run(
        [*command, "bookworm", context / "rootfs.tar", sources],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(TIMESTAMP), "TMPDIR": str(work)},
        log=log,
    )
