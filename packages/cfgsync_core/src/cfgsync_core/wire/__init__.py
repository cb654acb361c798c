"""The HTTP messages: bodies, headers and statuses, each encoded and decoded in one place, with every limit."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .headers import JOIN_TOKEN as JOIN_TOKEN
    from .headers import NEXT as NEXT
    from .headers import NEXT_SECRET as NEXT_SECRET
    from .headers import TURN as TURN
    from .headers import Mark as Mark
    from .headers import Turn as Turn
    from .headers import is_group as is_group
    from .headers import parse_etags as parse_etags
    from .headers import parse_turn as parse_turn
    from .headers import parse_wait as parse_wait
    from .limits import MAX_BODY_BYTES as MAX_BODY_BYTES
    from .limits import MAX_CONDITIONS as MAX_CONDITIONS
    from .limits import MAX_FILE_BYTES as MAX_FILE_BYTES
    from .limits import MAX_FILES as MAX_FILES
    from .limits import MAX_GROUP_NAME as MAX_GROUP_NAME
    from .limits import MAX_NAMES as MAX_NAMES
    from .limits import MAX_NOT_READY_CHARACTERS as MAX_NOT_READY_CHARACTERS
    from .limits import MAX_PAGE_NODES as MAX_PAGE_NODES
    from .limits import MAX_PAYLOAD_BYTES as MAX_PAYLOAD_BYTES
    from .limits import MAX_REASON as MAX_REASON
    from .limits import MAX_REGISTRATIONS as MAX_REGISTRATIONS
    from .limits import MAX_REPLACEMENT_BYTES as MAX_REPLACEMENT_BYTES
    from .payload import File as File
    from .payload import RawFile as RawFile
    from .payload import decode_files as decode_files
    from .payload import decode_payload as decode_payload
    from .payload import encode_files as encode_files
    from .payload import first_extended as first_extended
    from .payload import paths_of as paths_of
    from .protocol import MATERIALIZING as MATERIALIZING
    from .protocol import ErrorBody as ErrorBody
    from .protocol import Kept as Kept
    from .protocol import NodeRequest as NodeRequest
    from .protocol import decode_registration as decode_registration
    from .protocol import decode_stored as decode_stored
    from .protocol import describe as describe
    from .protocol import encode_registration as encode_registration
    from .registration import check_identifier as check_identifier
    from .registration import decode_json as decode_json
    from .replacement import NO_REPLACEMENT as NO_REPLACEMENT
    from .replacement import REPLACEMENT as REPLACEMENT
    from .replacement import Replacement as Replacement
    from .replacement import decode_replacement as decode_replacement
    from .replacement import encode_replacement as encode_replacement
    from .request_body import RequestBody as RequestBody
    from .rollout_status import FailedNode as FailedNode
    from .rollout_status import RolloutState as RolloutState
    from .rollout_status import RolloutStatus as RolloutStatus
    from .source import AcknowledgingSource as AcknowledgingSource
    from .status import CERTIFICATE_ENDS_SOON as CERTIFICATE_ENDS_SOON
    from .status import FLEET_COLOURS as FLEET_COLOURS
    from .status import NODE_STATES as NODE_STATES
    from .status import FleetState as FleetState
    from .status import MissingNode as MissingNode
    from .status import NodeBehind as NodeBehind
    from .status import NodeDetails as NodeDetails
    from .status import NodeDrift as NodeDrift
    from .status import ServerStatus as ServerStatus
    from .status import State as State
    from .status import StatusSource as StatusSource
    from .status import TlsStatus as TlsStatus
    from .status import fleet_state as fleet_state
    from .status import generation_number as generation_number
    from .status import last_seen as last_seen
    from .status import node_state as node_state
    from .strict_json import depth as depth

__getattr__, __dir__, __all__ = door(__name__, __file__)
