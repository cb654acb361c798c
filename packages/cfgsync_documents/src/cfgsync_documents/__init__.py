"""Environment-scoped config documents: set by hand, kept with their history, never stale unawares."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .document import Document as Document
    from .document import DocumentName as DocumentName
    from .document import Scope as Scope
    from .errors import DocumentConflict as DocumentConflict
    from .errors import DocumentMissing as DocumentMissing
    from .errors import NotAnObject as NotAnObject

__getattr__, __dir__, __all__ = door(__name__, __file__)
