"""Print every public name of every package, one a line. `make public-names` writes them where the test compares them."""

import importlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    for package in sorted(path.name for path in ROOT.glob("packages/cfgsync_*")):
        door = importlib.import_module(package)
        for name in sorted(getattr(door, "__all__", [])):
            print(f"{package}: {name}")


if __name__ == "__main__":
    main()
