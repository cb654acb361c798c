"""What an application writes, and the wrappers around it: materializers, snapshots, sinks."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .documents_feed import DocumentsFeed as DocumentsFeed
    from .materializer import called as called
    from .materializer import documents_of as documents_of
    from .materializer import expected_nodes as expected_nodes
    from .wrapper import Wrapper as Wrapper

__getattr__, __dir__, __all__ = door(__name__, __file__)
