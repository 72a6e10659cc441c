import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import TradestackError
from infra.images import catalog, kafka_jars
from infra.paths import REPOSITORY


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of everything that the images of our own are made from."""
    ignored = shutil.ignore_patterns("__pycache__", "*.sqlite3*")
    shutil.copytree(REPOSITORY / "infra" / "images", tmp_path / "infra" / "images", ignore=ignored)
    shutil.copytree(REPOSITORY / "app", tmp_path / "app", ignore=ignored)
    return tmp_path


def test_reference_is_a_local_name_with_the_content_hash() -> None:
    assert catalog.reference("redis") == f"localhost/tradestack/redis:{catalog.content_hash('redis')}"
    assert len(catalog.content_hash("redis")) == 16


def test_every_published_image_has_its_own_reference() -> None:
    references = {catalog.reference(name) for name in catalog.PUBLISHED}
    assert len(references) == len(catalog.PUBLISHED)
    assert {"app", "base", "postgres", "redis", "kafka", "pause", "coredns"} <= set(catalog.PUBLISHED)


def test_same_content_elsewhere_gives_the_same_hash(repository: Path) -> None:
    for name in ("base", "app", "postgres", "redis", "kafka"):
        assert catalog.content_hash(name, repository) == catalog.content_hash(name)


@pytest.mark.parametrize(
    "path", ["app/roles.py", "app/new_module.py", "app/web/page.html", "app/requirements.txt"]
)
def test_app_hash_follows_files_of_the_app(repository: Path, path: str) -> None:
    before = catalog.content_hash("app", repository)
    file = repository / path
    file.parent.mkdir(exist_ok=True)
    file.write_text((file.read_text() if file.exists() else "") + "# changed\n")
    assert catalog.content_hash("app", repository) != before


@pytest.mark.parametrize(
    "path",
    [
        "app/tests/test_more.py",
        "app/__pycache__/roles.cpython-311.pyc",
        "app/kit/left.pyc",
        "app/.hidden",
        "app/tradestack.sqlite3",
        "README.md",
        "infra/images/build.py",
    ],
)
def test_app_hash_ignores_what_is_not_in_the_image(repository: Path, path: str) -> None:
    before = catalog.content_hash("app", repository)
    file = repository / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("anything")
    assert catalog.content_hash("app", repository) == before


def test_code_does_not_change_the_image_with_its_requirements(repository: Path) -> None:
    before = catalog.content_hash("app-deps", repository)
    (repository / "app" / "roles.py").write_text("# other code\n")
    assert catalog.content_hash("app-deps", repository) == before
    (repository / "app" / "requirements.txt").write_text("fastapi==0.0.1\n")
    after = catalog.content_hash("app-deps", repository)
    assert after != before
    (repository / "app" / "exchange" / "engine.py").write_text("# compiled from this\n")
    assert catalog.content_hash("app-deps", repository) not in {before, after}


def test_change_of_a_parent_reaches_all_that_start_from_it(repository: Path) -> None:
    names = ("base", "app", "postgres", "redis", "kafka")
    before = {name: catalog.content_hash(name, repository) for name in names}
    with (repository / "infra" / "images" / "debian" / "packages").open("a") as packages:
        packages.write("another-package\n")
    after = {name: catalog.content_hash(name, repository) for name in names}
    assert all(before[name] != after[name] for name in names)


def test_executable_bit_counts(repository: Path) -> None:
    before = catalog.content_hash("redis", repository)
    (repository / "infra" / "images" / "redis" / "entrypoint").chmod(0o644)
    assert catalog.content_hash("redis", repository) != before


def test_unknown_image_names_the_known_ones() -> None:
    with pytest.raises(
        TradestackError, match=r"unknown image 'rediss'; known are base, app, postgres, redis"
    ):
        catalog.reference("rediss")


def test_catalogue_is_cheap_to_import() -> None:
    """The stack program asks for references: that must not load what only a build needs."""
    code = (
        "import sys; from infra.images import catalog; catalog.reference('app'); "
        "print([name for name in ('rich', 'typer', 'pulumi', 'psutil') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_kafka_version_is_the_pinned_one() -> None:
    assert kafka_jars.version().startswith("4.1.")
