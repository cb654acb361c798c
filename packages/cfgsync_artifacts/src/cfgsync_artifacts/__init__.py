"""Files and sets of files: what cfgsync delivers, and the one crash-safe way to write it."""

from typing import TYPE_CHECKING

from .door import door as door

if TYPE_CHECKING:
    from .errors import CfgsyncError as CfgsyncError
    from .errors import DuplicatePath as DuplicatePath
    from .errors import InvalidArtifact as InvalidArtifact
    from .errors import TargetBusy as TargetBusy
    from .files import ArtifactFile as ArtifactFile
    from .files import ArtifactSet as ArtifactSet
    from .files import digest_of as digest_of
else:
    __getattr__, __dir__, __all__ = door(
        __name__,
        {
            "door": "door",
            "errors": "CfgsyncError DuplicatePath InvalidArtifact TargetBusy",
            "files": "ArtifactFile ArtifactSet digest_of",
        },
    )
