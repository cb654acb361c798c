"""The build backend of the workspace itself: `pip install git+…` on the whole repository is told what to install instead."""

import sys

REFUSED = """\
This repository is a workspace of six distributions, and none itself: nothing was installed.
Clone it, and install all six: git clone URL cfgsync && pip install ./cfgsync/packages/*   (docs/install.md)
"""


def get_requires_for_build_wheel(config_settings=None):
    sys.exit(REFUSED)


build_wheel = build_sdist = build_editable = get_requires_for_build_sdist = (
    get_requires_for_build_editable
) = get_requires_for_build_wheel
