"""Files and sets of files: what cfgsync delivers, and the one crash-safe way to write it."""

from typing import TYPE_CHECKING

from .door import door as door

if TYPE_CHECKING:
    from .attributes import Owner as Owner
    from .attributes import may_give as may_give
    from .directory_lock import DirectoryLock as DirectoryLock
    from .directory_lock import locked_directory as locked_directory
    from .disk import Patience as Patience
    from .disk import Placed as Placed
    from .disk import make_directories as make_directories
    from .disk import on_disk as on_disk
    from .errors import CfgsyncError as CfgsyncError
    from .errors import DiskError as DiskError
    from .errors import DuplicatePath as DuplicatePath
    from .errors import InvalidArtifact as InvalidArtifact
    from .errors import TargetBusy as TargetBusy
    from .errors import TargetKept as TargetKept
    from .files import ArtifactFile as ArtifactFile
    from .files import ArtifactSet as ArtifactSet
    from .files import digest_of as digest_of
    from .files import manifest_line as manifest_line
    from .kept_sets import KEPT_SETS as KEPT_SETS
    from .paths import legal_places as legal_places
    from .replaced_files import STAGE_SUFFIX as STAGE_SUFFIX
    from .replaced_files import all_hold as all_hold
    from .replaced_files import create_file as create_file
    from .replaced_files import replace_file as replace_file
    from .replaced_files import replace_files as replace_files
    from .swapped_directory import install as install
    from .swapped_directory import is_current as is_current

__getattr__, __dir__, __all__ = door(__name__, __file__)
