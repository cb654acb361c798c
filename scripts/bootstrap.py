"""Make .venv hold what constraints.txt and the pyproject files say: whole or not at all, and at once if it already does.

Run by `scripts/bootstrap`, with the interpreter that .venv is made from; the standard library is all there is.
`.venv/.bootstrapped` is removed before anything is changed and written last, so a run that was interrupted leaves a
.venv without it, and the next run starts from nothing.
"""

import fcntl
import hashlib
import os
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


def main(uv: str) -> None:
    for name in ELSEWHERE:
        os.environ.pop(name, None)
    os.environ["UV_PYTHON_DOWNLOADS"] = "never"
    os.chdir(ROOT)
    with open(__file__) as lock:  # two makes at once: the second waits, and finds the work done
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = f"{ROOT}\n{fingerprint()}\n"
        found = STAMP.read_text() if STAMP.is_file() else ""
        if found == stamp and compile_sources():
            return
        started = time.monotonic()
        print("making .venv ready: half a minute to two, once", file=sys.stderr, flush=True)
        STAMP.unlink(missing_ok=True)
        # one that uv made has no pip: when uv is gone, it is made anew
        if found.partition("\n")[0] != str(ROOT) or not runs(PYTHON, "" if uv else "import pip"):
            create(uv)
        install(uv)
        compile_sources()
        STAMP.write_text(stamp)
        print(f".venv is ready after {time.monotonic() - started:.0f} s", file=sys.stderr)


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


def install(uv: str) -> None:
    """Everything in one command, so that the packages of the workspace find each other and every pin holds."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    wanted = [requirement for group in groups.values() for requirement in group]
    wanted += [word for package in PACKAGES for word in ("--editable", str(package))]
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    if uv:
        run(uv, "pip", "install", "--quiet", "--python", PYTHON, "--compile-bytecode", *pins, *wanted)
        return
    pip = [PYTHON, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    # The build backend goes in first, once, instead of six times into six throw-away environments. It looks for its
    # other half on PATH.
    os.environ["PATH"] = f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"
    backend = tomllib.loads((PACKAGES[0] / "pyproject.toml").read_text())["build-system"]["requires"]
    run(*pip, *pins, *backend)
    run(*pip, "--no-build-isolation", *pins, *wanted)


def compile_sources() -> bool:
    """Imports are measured, and PYTHONDONTWRITEBYTECODE may be set: compile our own sources, too. False: no Python."""
    sources = [str(package / "src") for package in PACKAGES]
    # A source that does not compile is for ruff and mypy to tell; here only the interpreter is in question.
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
    main(sys.argv[1])
