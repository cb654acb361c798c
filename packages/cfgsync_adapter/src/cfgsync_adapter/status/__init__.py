"""The status of a fleet: its state and that of each node, its convergence, the contents of its generations."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .contents import DiffPage as DiffPage
    from .contents import FileChange as FileChange
    from .contents import FileSummary as FileSummary
    from .contents import GenerationPage as GenerationPage
    from .contents import GenerationSummary as GenerationSummary
    from .contents import NodeChange as NodeChange
    from .contents import NodeContents as NodeContents
    from .contents import changes_of as changes_of
    from .contents import difference_page as difference_page
    from .contents import generation_page as generation_page
    from .contents import generation_summaries as generation_summaries
    from .contents import node_contents as node_contents
    from .contents import prepared_contents as prepared_contents
    from .contents import summarize as summarize
    from .offline import OfflineFleet as OfflineFleet
    from .offline import read_offline as read_offline

__getattr__, __dir__, __all__ = door(__name__, __file__)
