"""Files and sets of files: what cfgsync delivers, and the one crash-safe way to write it."""

from typing import TYPE_CHECKING

from .door import door as door

if TYPE_CHECKING:
    from .atomic import STAGE_SUFFIX as STAGE_SUFFIX
    from .atomic import all_hold as all_hold
    from .atomic import create_file as create_file
    from .atomic import replace_file as replace_file
    from .atomic import replace_files as replace_files
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
    from .generations import install as install
    from .generations import is_current as is_current
    from .keeper import keeping as keeping
    from .paths import legal_places as legal_places

__getattr__, __dir__, __all__ = door(__name__, __file__)
