"""The jars of Kafka, by Maven from kafka/pom.xml; the image and local brokers in tests use the same ones."""

import hashlib
import re
import shutil
import tempfile
from pathlib import Path

from infra.errors import TradestackError
from infra.paths import REPOSITORY, cache_dir
from infra.process import CommandFailed, run

_POM = REPOSITORY / "infra" / "images" / "kafka" / "pom.xml"


def version() -> str:
    """Kafka's version, as pinned in pom.xml."""
    found = re.search(r"<kafka\.version>([^<]+)</kafka\.version>", _POM.read_text())
    if found is None:
        raise TradestackError(f"{_POM} has no property kafka.version")
    return found[1]


def ensure() -> Path:
    """The folder with all jars that `java -cp '<folder>/*' kafka.Kafka` needs; fetched on a miss.

    Raises:
        TradestackError: Maven or Java is missing, or Maven failed.
    """
    content = hashlib.sha256(_POM.read_bytes()).hexdigest()[:8]
    libs = cache_dir() / "maven" / f"kafka-{version()}-{content}" / "libs"
    if libs.is_dir():
        return libs
    missing = [tool for tool in ("mvn", "java") if shutil.which(tool) is None]
    if missing:
        raise TradestackError(
            f"Kafka's jars cannot be fetched: {' and '.join(missing)} not found",
            hint="apt-get install -y maven openjdk-17-jre-headless",
        )
    libs.parent.mkdir(parents=True, exist_ok=True)
    log = libs.parent / "maven.log"
    with tempfile.TemporaryDirectory(dir=libs.parent) as work:
        output = Path(work) / "libs"
        command: list[str | Path] = [
            "mvn",
            "--batch-mode",
            "--no-transfer-progress",
            "--file",
            _POM,
            "dependency:copy-dependencies",
        ]
        try:
            run([*command, "-DincludeScope=runtime", f"-DoutputDirectory={output}"], log=log)
        except CommandFailed as error:
            raise TradestackError(
                f"Kafka's jars cannot be fetched: {error}", hint=f"whole log: {log}"
            ) from error
        try:
            output.rename(libs)
        except OSError:
            # Another process was faster: the same content is in place.
            if not libs.is_dir():
                raise
    return libs
