"""Make .venv hold what constraints.txt and the pyproject files say: completely or not at all, and at once if it already does.

`scripts/bootstrap` runs this with the interpreter that .venv is made from, so only the standard library is available.
There are two levels: `run` is what the product needs to run, `all` adds the dependency groups. A .venv of level `all`
serves both. `.venv/.bootstrapped` is removed before anything is changed and written last, so an interrupted run leaves a
.venv without it, and the next run starts from nothing.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".bootstrapped"
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))

# Settings of the caller that would send packages elsewhere. Indexes, proxies and certificates are left as they are.
# fmt: off
ELSEWHERE = (
    "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_DRY_RUN", "PIP_CONSTRAINT", "PIP_REQUIREMENT",
    "PIP_NO_BUILD_ISOLATION", "PIP_REQUIRE_VIRTUALENV", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_PROJECT",
    "UV_PROJECT_ENVIRONMENT", "UV_WORKING_DIRECTORY", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_RESOLUTION",
    "UV_PRERELEASE", "UV_NO_BUILD", "UV_NO_BUILD_ISOLATION",
)
# fmt: on


def main(uv: str, level: str) -> None:
    for name in ELSEWHERE:
        os.environ.pop(name, None)
    os.environ["UV_PYTHON_DOWNLOADS"] = "never"
    os.chdir(ROOT)
    with open(__file__) as lock:  # two makes at once: the second waits, and finds the work done
        fcntl.flock(lock, fcntl.LOCK_EX)
        inputs = fingerprint()
        found_root, found_inputs, found_level = read_stamp()
        if "all" in (level, found_level):
            level = "all"
        if (found_root, found_inputs, found_level) == (str(ROOT), inputs, level) and compile_sources():
            return
        started = time.monotonic()
        print("making .venv ready: half a minute to two, once", file=sys.stderr, flush=True)
        STAMP.unlink(missing_ok=True)
        # pip is missing where uv made .venv: without uv, .venv is made anew
        fresh = found_root != str(ROOT) or not runs(PYTHON, "" if uv else "import pip")
        if fresh:
            create(uv)
        install(uv, level)
        if fresh or found_inputs != inputs:
            install_packages(uv)
        compile_everything()
        STAMP.write_text(f"{ROOT}\n{inputs}\n{level}\n")
        print(f".venv is ready after {time.monotonic() - started:.0f} s", file=sys.stderr)


def read_stamp() -> tuple[str, str, str]:
    """The folder, the fingerprint and the level that .venv was made for; empty words when there is no whole .venv."""
    root, inputs, level, *_ = [*(STAMP.read_text().splitlines() if STAMP.is_file() else []), "", "", ""]
    return root, inputs, level


def fingerprint() -> str:
    inputs = [ROOT / "constraints.txt", ROOT / "pyproject.toml", Path(__file__)]
    inputs += [package / "pyproject.toml" for package in PACKAGES]
    digest = hashlib.sha256()
    for path in inputs:
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def create(uv: str) -> None:
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    shutil.rmtree(VENV, ignore_errors=True)
    if uv:
        run(uv, "venv", "--quiet", "--no-project", "--python", sys.executable, VENV)
        return
    if not can_make_venv():
        install_venv_module()
    run(sys.executable, "-I", "-m", "venv", VENV)


def can_make_venv() -> bool:
    return runs(sys.executable, "import ensurepip, venv")


def install_venv_module() -> None:
    """Debian and Ubuntu ship Python without ensurepip; its package has the interpreter's version in its name."""
    package = f"python3.{sys.version_info.minor}-venv"
    if apt := apt_get():
        subprocess.run([*apt, "update", "-q"], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        command = [*apt, "install", "-y", "-q", "--no-install-recommends", package]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if not can_make_venv():
        sys.exit(f"This Python cannot make a virtual environment. Run: sudo apt-get install -y {package}")


def apt_get() -> list[str] | None:
    """The words that run apt-get without asking anybody anything, if this user may."""
    if not shutil.which("apt-get"):
        return None
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    if os.geteuid() == 0:
        return quiet
    if succeeds("sudo", "-n", "true"):
        return ["sudo", "-n", *quiet]
    return None


def install(uv: str, level: str) -> None:
    """What others publish, in one command, so that every pin holds; with it the backend that builds our packages."""
    projects = [tomllib.loads((package / "pyproject.toml").read_text()) for package in PACKAGES]
    ours = {project["project"]["name"] for project in projects}
    wanted = [word for project in projects for word in needs(project["project"])]
    wanted = [word for word in wanted if re.split(r"[=\[]", word)[0] not in ours]
    wanted += [word for project in projects for word in project["build-system"]["requires"]]
    if level == "all":
        groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
        wanted += [word for group in groups.values() for word in group]
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    run(*installer(uv), *pins, *dict.fromkeys(wanted))


def needs(project: dict) -> list[str]:
    """What a distribution needs, with all of its extras."""
    extras = project.get("optional-dependencies", {}).values()
    return [*project.get("dependencies", []), *(word for extra in extras for word in extra)]


def install_packages(uv: str) -> None:
    """Our own packages, each editable, without their dependencies, which are there."""
    editable = [word for package in PACKAGES for word in ("--editable", str(package))]
    # the build backend looks for its other half on PATH
    os.environ["PATH"] = f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"
    # a command may have moved from one package to another: the former owner's removal must not come after
    names = [
        tomllib.loads((package / "pyproject.toml").read_text())["project"]["name"] for package in PACKAGES
    ]
    run(*pip(uv, "uninstall"), *([] if uv else ["--yes"]), *names)
    run(*installer(uv), "--no-deps", "--no-build-isolation", *editable)


def installer(uv: str) -> list[str | Path]:
    """The words before what is to be installed. Nothing is compiled one file after the other: see below."""
    return pip(uv, "install") if uv else [*pip(uv, "install"), "--no-compile"]


def pip(uv: str, verb: str) -> list[str | Path]:
    if uv:
        return [uv, "pip", verb, "--quiet", "--python", PYTHON]
    return [PYTHON, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", verb, "--quiet"]


def compile_everything() -> None:
    """Compile what was installed, on all processors, and our own sources."""
    code = "import compileall, sysconfig; compileall.compile_dir(sysconfig.get_path('purelib'), quiet=2, workers=0)"
    runs(PYTHON, code)
    compile_sources()


def compile_sources() -> bool:
    """Compile our own sources, since a test measures imports. False: .venv has no Python that runs."""
    sources = [str(package / "src") for package in PACKAGES]
    # ruff and mypy report a source that does not compile; here only the interpreter is in question
    return runs(PYTHON, f"import compileall; [compileall.compile_dir(d, quiet=2) for d in {sources!r}]")


def runs(python: str | Path, code: str = "") -> bool:
    return succeeds(python, "-I", "-c", code)


def succeeds(*command: str | Path) -> bool:
    try:
        return not subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False
        ).returncode
    except OSError:
        return False


def run(*command: str | Path) -> None:
    completed = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if completed.returncode:
        sys.exit(f"{' '.join(map(str, command[:4]))} … failed with exit status {completed.returncode}")


if __name__ == "__main__":
    main(*sys.argv[1:])
