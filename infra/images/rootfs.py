"""The Debian root file system under the images that buildah makes."""

import os
from pathlib import Path

from infra.images import host
from infra.process import run

_PACKAGES = ("ca-certificates", "netbase", "python3", "python3-venv", "tzdata", "usr-is-merged")
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"
"""Links /bin to /usr/bin before anything is installed; doing it afterwards would pull Perl in."""
_NEVER_INSTALLED = (
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
)
_PUBLIC_SOURCES = """\
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
"""
_HOOKS = (
    # The names of this machine's mirrors and proxies stay here; so does what only the installation needed.
    f'printf "{_PUBLIC_SOURCES}" > "$1/etc/apt/sources.list"',
    'rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/hostname" "$1/etc/resolv.conf"',
    'find "$1/usr" -name __pycache__ -type d -prune -exec rm -rf {} +',
    'rm -rf "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old "$1"/var/log/*',
)


def make(target: Path, log: Path, timestamp: int) -> None:
    """Write a minimal Debian 12 with Python 3.11 as the tar archive `target`.

    `timestamp` (seconds since 1970) bounds the times of the files.

    Raises:
        CommandFailed: mmdebstrap failed; its output is in `log`.
    """
    work = target.parent
    sources, settings = work / "sources.list", work / "apt.conf"
    sources.write_text("\n".join(host.apt_sources()) + "\n")
    bundle = host.ca_bundle()
    trust = [f'Acquire::https::CAInfo "{bundle}";'] if bundle is not None else []
    settings.write_text("\n".join([*host.apt_settings(), *trust]) + "\n")
    command = ["mmdebstrap", "--variant=minbase", "--mode=root", f"--hook-dir={_MERGED_USR}"]
    command += [f"--include={','.join(_PACKAGES)}"]
    command += [f"--dpkgopt={option}" for option in _NEVER_INSTALLED]
    command += [f"--aptopt={settings}", '--aptopt=APT::Install-Recommends "false"']
    command += [f"--customize-hook={hook}" for hook in _HOOKS]
    run(
        [*command, "bookworm", target, sources],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(timestamp), "TMPDIR": str(work)},
        log=log,
    )
