"""The documents of a scope as a materializer reads them."""

from __future__ import annotations

from cfgsync_core import DocumentsSnapshot

from ..document import Scope
from .documents import Documents


async def snapshot_for_materializer(documents: Documents, scope: Scope) -> DocumentsSnapshot:
    """One state of the scope. Raises `Unavailable`."""
    found = await documents.snapshot(scope)
    return DocumentsSnapshot.from_json(
        {one.name.key: one.data.decode() for one in found.documents}, found.version
    )
