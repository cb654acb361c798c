"""The documents of the environment that a materializer names reach its runs, each newer state once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from cfgsync_adapter.application import DocumentsFeed
from cfgsync_core import InvalidRequest, Unavailable
from cfgsync_core.log_events import event
from cfgsync_documents import Scope
from cfgsync_documents.service import Documents, snapshot_for_materializer

from ..errors import InputError

AGAIN_SECONDS: Final = 1.0
"""After a store that did not answer."""

log = logging.getLogger("cfgsync")


@asynccontextmanager
async def feeding(documents: Documents, named: str) -> AsyncIterator[DocumentsFeed]:
    """A feed of the environment `app/environment` while the context lasts. Raises `InputError` for words that name none."""
    try:
        scope = Scope.checked(*named.split("/"))
    except InvalidRequest as error:
        raise InputError(
            f"the materializer has documents = {named!r}: {error}", 'write "app/environment"'
        ) from error
    feed = DocumentsFeed(await snapshot_for_materializer(documents, scope))
    following = asyncio.create_task(_follow(documents, scope, feed), name=f"cfgsync-documents {scope}")
    try:
        yield feed
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _follow(documents: Documents, scope: Scope, feed: DocumentsFeed) -> None:
    while not documents.ending:
        news = documents.news(scope)
        try:
            feed.adopt(await snapshot_for_materializer(documents, scope))
        except Unavailable as error:
            log.warning(
                "the documents of %s: %s", scope, error, extra=event("documents_unread", scope=str(scope))
            )
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            await news.wait()
