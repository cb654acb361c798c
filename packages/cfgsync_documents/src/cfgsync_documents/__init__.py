"""Environment-scoped config documents: set by hand, kept with their history, bound to a type."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .client.binding import ConfigWatch as ConfigWatch
    from .client.blocking import BlockingConfigManager as BlockingConfigManager
    from .client.definition import ConfigDefinition as ConfigDefinition
    from .client.definition import ConfigNotReady as ConfigNotReady
    from .client.definition import ConfigNotRegistered as ConfigNotRegistered
    from .client.definition import ConfigRegistrationException as ConfigRegistrationException
    from .client.definition import ConfigRegistrationResult as ConfigRegistrationResult
    from .client.definition import ConfigStartupMode as ConfigStartupMode
    from .client.definition import ConfigStatus as ConfigStatus
    from .client.definition import ConfigUpdate as ConfigUpdate
    from .client.expiry import Result as Result
    from .client.expiry import ResultCache as ResultCache
    from .client.expiry import UnknownKind as UnknownKind
    from .client.manager import ConfigManager as ConfigManager
    from .document import Document as Document
    from .document import DocumentName as DocumentName
    from .document import Scope as Scope
    from .errors import DocumentConflict as DocumentConflict
    from .errors import DocumentMissing as DocumentMissing
    from .errors import InvalidDocument as InvalidDocument
    from .errors import NotAnObject as NotAnObject
    from .errors import Problem as Problem

__getattr__, __dir__, __all__ = door(__name__, __file__)
