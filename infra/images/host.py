"""How builds reach package mirrors from this machine: CA bundle, apt sources, pip configuration.

Everything here is mounted read-only while a build runs and never becomes part of an image.
"""

import configparser
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

MOUNT = "/run/host"
"""Where the Containerfiles see the folder that `stage` writes."""
_WHEELS_MOUNT = "/run/wheels"

_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
_CA_DEFAULTS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_PIP_FILES = ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
_PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries", "no-index")
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_SUITES = ("bookworm", "bookworm-updates", "bookworm-security")
_PUBLIC_SOURCES = (
    "deb http://deb.debian.org/debian bookworm main",
    "deb http://deb.debian.org/debian bookworm-updates main",
    "deb http://deb.debian.org/debian-security bookworm-security main",
)


def apt_sources() -> list[str]:
    """`deb` lines of this machine's Debian 12 mirrors; the public ones where it has none."""
    listed = _output(
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
        "Origin: Debian",
    )
    lines = []
    for target in listed.splitlines():
        uri, suite, component = target.split()
        line = f"deb {uri} {suite} {component}"
        if suite in _SUITES and component == "main" and line not in lines:
            lines.append(line)
    has_release = any(line.split()[2] == _SUITES[0] for line in lines)
    return lines if has_release else list(_PUBLIC_SOURCES)


def apt_settings() -> list[str]:
    """This machine's apt options for reaching a mirror: proxies, checks, retries."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIPv")
    dump = _output("apt-config", "dump")
    return [line for line in dump.splitlines() if line.startswith(wanted) and "CAInfo" not in line]


def ca_bundle() -> Path | None:
    """The certificates that this machine trusts, as one PEM file."""
    named = [os.environ[variable] for variable in _CA_VARIABLES if os.environ.get(variable)]
    return next((Path(path) for path in (*named, *_CA_DEFAULTS) if Path(path).is_file()), None)


def stage(host: Path, wheels: Path) -> None:
    """Write the build's view of this machine into the empty folder `host`, local wheels into `wheels`."""
    environment = {"PIP_CONFIG_FILE": f"{MOUNT}/pip.conf", "APT_CONFIG": f"{MOUNT}/apt.conf"}
    apt = [
        *apt_settings(),
        f'Dir::Etc::sourcelist "{MOUNT}/sources.list";',
        'Dir::Etc::sourceparts "/dev/null";',
    ]
    pip = _pip_settings()
    bundle = ca_bundle()
    if bundle is not None:
        shutil.copyfile(bundle, host / "ca.crt")
        environment["SSL_CERT_FILE"] = f"{MOUNT}/ca.crt"
        apt.append(f'Acquire::https::CAInfo "{MOUNT}/ca.crt";')
        pip["cert"] = f"{MOUNT}/ca.crt"
    if any(_link_wheels(wheels)):
        pip["find-links"] = _WHEELS_MOUNT
    for variable in _PROXY_VARIABLES:
        if os.environ.get(variable):
            environment[variable] = os.environ[variable]
    (host / "sources.list").write_text("\n".join(apt_sources()) + "\n")
    (host / "apt.conf").write_text("\n".join(apt) + "\n")
    (host / "pip.conf").write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in pip.items()))
    quoted = {key: value.replace("'", "'\\''") for key, value in environment.items()}
    (host / "env").write_text("".join(f"export {key}='{value}'\n" for key, value in quoted.items()))
    for path in host.iterdir():
        path.chmod(0o644)


def _pip_settings() -> dict[str, str]:
    """Connection settings of pip here; later files win, then PIP_* variables, as in pip itself."""
    parser = configparser.RawConfigParser(strict=False)
    files = [Path(name).expanduser() for name in (*_PIP_FILES, os.environ.get("PIP_CONFIG_FILE", "")) if name]
    parser.read([path for path in files if path.is_file()])
    settings: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            settings |= dict(parser.items(section))
    for key in _PIP_KEYS:
        variable = "PIP_" + key.upper().replace("-", "_")
        if variable in os.environ:
            settings[key] = os.environ[variable]
    if "PIP_DEFAULT_TIMEOUT" in os.environ:
        settings["timeout"] = os.environ["PIP_DEFAULT_TIMEOUT"]
    # A value may go over several lines, which a configuration file wants indented.
    return {key: " ".join(value.split()) for key, value in settings.items() if key in _PIP_KEYS}


def _link_wheels(target: Path) -> Iterator[Path]:
    """Put the wheels of local PIP_FIND_LINKS folders into `target`, by hard link where that is possible."""
    for folder in os.environ.get("PIP_FIND_LINKS", "").split():
        for wheel in Path(folder).glob("*.whl") if Path(folder).is_dir() else ():
            link = target / wheel.name
            try:
                os.link(wheel, link)
            except OSError:
                shutil.copyfile(wheel, link)
            yield link


def _output(*command: str) -> str:
    """Standard output of a command, nothing where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
