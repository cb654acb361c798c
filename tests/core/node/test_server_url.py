"""A server's URL has one spelling, however it was written."""

from __future__ import annotations

import pytest

from cfgsync_core import ServerUrl


@pytest.mark.parametrize(
    "text", ["http://[FE80::7%25eth0]:4400", "http://[fe80::7%eth0]:4400/", "[fe80::7%eth0]:4400"]
)
def test_a_link_local_server_is_named_with_its_zone_in_both_spellings(text: str) -> None:
    url = ServerUrl.parse(text)
    assert (url.host, str(url)) == ("fe80::7%eth0", "http://[fe80::7%eth0]:4400")
