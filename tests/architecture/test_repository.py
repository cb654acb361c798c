"""What is committed: pins and pages without a registry's host in them, and six distributions of one version."""

import re
import subprocess
import tomllib

import pytest

# In two halves, so that this file does not name them either.
REGISTRY_HOSTS = [
    f"{name}.{top}"
    for name, top in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("crates", "io"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("proxy.golang", "org"),
        ("maven", "org"),
        ("deb.debian", "org"),
        ("archive.ubuntu", "com"),
    )
]


@pytest.fixture
def committed_files(root):
    if not (root / ".git").exists():
        pytest.skip("not a git checkout: there is nothing committed to look at")
    command = [
        "git",
        "-c",
        f"safe.directory={root}",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return [path for name in listing.split("\0") if name and (path := root / name).is_file()]


def test_no_committed_file_names_the_host_of_a_registry(root, committed_files):
    breaches = []
    for path in committed_files:
        text = path.read_bytes().decode("utf-8", "replace").lower()
        breaches += [f"{path.relative_to(root)}: {host}" for host in REGISTRY_HOSTS if host in text]
    assert breaches == []


def test_the_lock_file_full_of_addresses_is_not_committed(committed_files):
    assert [path.name for path in committed_files if path.name == "uv.lock"] == []


def test_every_pin_is_exact_and_names_no_address(root):
    lines = (root / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if "==" not in line or "://" in line or " @ " in line] == []


def test_every_dependency_for_development_has_a_floor(root):
    groups = tomllib.loads((root / "pyproject.toml").read_text())["dependency-groups"]
    assert [line for group in groups.values() for line in group if ">=" not in line] == []


def test_all_distributions_have_one_version_and_depend_on_exactly_it(root):
    projects = [
        tomllib.loads(path.read_text())["project"] for path in sorted(root.glob("packages/*/pyproject.toml"))
    ]
    (version,) = {project["version"] for project in projects}
    names = {project["name"] for project in projects}
    lists = [project["dependencies"] for project in projects]
    lists += [words for project in projects for words in project.get("optional-dependencies", {}).values()]
    siblings = [line for words in lists for line in words if line.startswith("cfgsync")]
    allowed = {f"{name}=={version}" for name in names}
    assert [line for line in siblings if re.sub(r"\[\w+\]", "", line) not in allowed] == []


def test_every_package_is_typed(root):
    packages = sorted(root.glob("packages/*/src/*/__init__.py"))
    assert [str(path) for path in packages if not path.with_name("py.typed").is_file()] == []


def test_every_python_line_of_the_version_file_is_promised_by_every_distribution(root):
    versions = (root / ".python-version").read_text().split()
    for path in root.glob("packages/*/pyproject.toml"):
        classifiers = tomllib.loads(path.read_text())["project"]["classifiers"]
        assert [v for v in versions if f"Programming Language :: Python :: {v}" not in classifiers] == []


def test_the_bytecode_of_measured_programs_leaves_nothing_behind(root, tmp_path, monkeypatch, run_python):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    used = "import sys; sys.path.insert(0, '.'); from benchmarks import processes as p; print({})"
    assert run_python("-c", used.format("len(p.tempfile.tempdir or '')")).strip() == "0", (
        "not made by an import"
    )
    made = run_python("-c", used.format("p._environment(None)['PYTHONPYCACHEPREFIX']")).strip()
    assert made.startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
