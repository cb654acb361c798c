"""The documents over one store: scopes in memory, the verbs, and their history."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from ..document import canonical as canonical
    from .documents import Documents as Documents
    from .documents import ScopeSnapshot as ScopeSnapshot
    from .events import describe as describe
    from .for_materializers import snapshot_for_materializer as snapshot_for_materializer
    from .history import History as History
    from .history import HistoryEntry as HistoryEntry
    from .rules import Checker as Checker
    from .rules import Question as Question
    from .schemas import schema_problems as schema_problems
    from .schemas import value_problems as value_problems
    from .scope_mirror import ScopeState as ScopeState

__getattr__, __dir__, __all__ = door(__name__, __file__)
