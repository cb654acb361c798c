"""Words, contracts, HTTP in and out: what a node and a server of cfgsync agree on."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from cfgsync_artifacts import CfgsyncError as CfgsyncError

    from .acknowledgement import MAX_REASON as MAX_REASON
    from .acknowledgement import Acknowledgement as Acknowledgement
    from .acknowledgement import decode_acknowledgement as decode_acknowledgement
    from .acknowledgement import encode_acknowledgement as encode_acknowledgement
    from .answer import MAX_ANSWER_BYTES as MAX_ANSWER_BYTES
    from .answer import Answer as Answer
    from .answer import describe as describe
    from .answer import plain as plain
    from .bundle import BundleConfigSource as BundleConfigSource
    from .bundle import InvalidBundle as InvalidBundle
    from .bundle import NodeArtifactsBundle as NodeArtifactsBundle
    from .bundle import NodeArtifactsBundleEntry as NodeArtifactsBundleEntry
    from .bundle import StaticConfigSource as StaticConfigSource
    from .bundle import spell_path as spell_path
    from .calls import Call as Call
    from .calls import CfgsyncServerState as CfgsyncServerState
    from .calls import Handler as Handler
    from .calls import Named as Named
    from .calls import Reply as Reply
    from .calls import evicted as evicted
    from .calls import failure as failure
    from .calls import no_such_node as no_such_node
    from .calls import refusal as refusal
    from .client import CfgsyncClient as CfgsyncClient
    from .epoch import epoch_ms as epoch_ms
    from .epoch import mint_epoch as mint_epoch
    from .epoch import uuid7 as uuid7
    from .errors import Conflict as Conflict
    from .errors import IntegrityError as IntegrityError
    from .errors import InvalidRegistration as InvalidRegistration
    from .errors import InvalidRequest as InvalidRequest
    from .errors import MaterializationFailed as MaterializationFailed
    from .errors import MetadataMismatch as MetadataMismatch
    from .errors import OutcomeUnknown as OutcomeUnknown
    from .errors import StaleGeneration as StaleGeneration
    from .errors import StoreDamaged as StoreDamaged
    from .errors import StoreFull as StoreFull
    from .errors import StoreRefused as StoreRefused
    from .errors import Unavailable as Unavailable
    from .events import ChangingSource as ChangingSource
    from .events import Pages as Pages
    from .exchange import CONNECT_WITHIN as CONNECT_WITHIN
    from .exchange import HOLD as HOLD
    from .exchange import PATIENCE as PATIENCE
    from .exchange import Done as Done
    from .exchange import Exchange as Exchange
    from .exchange import Lost as Lost
    from .exchange import Pause as Pause
    from .exchange import Request as Request
    from .exchange import Send as Send
    from .exchange import is_final as is_final
    from .exchange import telling as telling
    from .following import BucketHolder as BucketHolder
    from .following import BucketView as BucketView
    from .freshness import ReaderState as ReaderState
    from .hinting import StoreTally as StoreTally
    from .hinting import hinted as hinted
    from .hints import Announced as Announced
    from .hints import ChangeEvents as ChangeEvents
    from .hints import ChangeHints as ChangeHints
    from .judging import Alarm as Alarm
    from .judging import Away as Away
    from .judging import Same as Same
    from .judging import Steps as Steps
    from .judging import Whole as Whole
    from .log_events import Fact as Fact
    from .log_events import event as event
    from .log_events import event_of as event_of
    from .memory import MemoryHints as MemoryHints
    from .memory import MemoryStore as MemoryStore
    from .node_watch import Held as Held
    from .node_watch import NodeWatch as NodeWatch
    from .openapi import Operation as Operation
    from .outcome import Current as Current
    from .outcome import Failure as Failure
    from .outcome import Fetched as Fetched
    from .outcome import FetchFailed as FetchFailed
    from .outcome import MissingForGood as MissingForGood
    from .outcome import NotReadyInTime as NotReadyInTime
    from .outcome import Outcome as Outcome
    from .outcome import Refused as Refused
    from .outcome import Rejected as Rejected
    from .outcome import Unreachable as Unreachable
    from .outcome import Untrusted as Untrusted
    from .payload import NodeArtifactsPayload as NodeArtifactsPayload
    from .payload import RawFile as RawFile
    from .payload import decode_files as decode_files
    from .payload import decode_payload as decode_payload
    from .payload import encode_files as encode_files
    from .payload import first_extended as first_extended
    from .payload import paths_of as paths_of
    from .protocol import STATUS as STATUS
    from .protocol import Condition as Condition
    from .protocol import Missing as Missing
    from .protocol import NotReady as NotReady
    from .protocol import Ready as Ready
    from .protocol import decode_registration as decode_registration
    from .protocol import decode_stored as decode_stored
    from .protocol import encode_registration as encode_registration
    from .reconcile import Ask as Ask
    from .reconcile import Reconciler as Reconciler
    from .reconcile import Subscribe as Subscribe
    from .reconcile import View as View
    from .registration import NodeRegistration as NodeRegistration
    from .registration import RegistrationPayload as RegistrationPayload
    from .registration import check_identifier as check_identifier
    from .replacement import NO_REPLACEMENT as NO_REPLACEMENT
    from .replacement import REPLACEMENT as REPLACEMENT
    from .replacement import Replacement as Replacement
    from .replacement import decode_replacement as decode_replacement
    from .replacement import encode_replacement as encode_replacement
    from .request_body import RequestBody as RequestBody
    from .server import HttpServer as HttpServer
    from .server_url import InvalidServerUrl as InvalidServerUrl
    from .server_url import ServerUrl as ServerUrl
    from .source import AcknowledgingSource as AcknowledgingSource
    from .source import MembershipSource as MembershipSource
    from .source import NodeConfigSource as NodeConfigSource
    from .source import Resolution as Resolution
    from .source import SharedSource as SharedSource
    from .status import FleetStatus as FleetStatus
    from .status import MissingNode as MissingNode
    from .status import NodeBehind as NodeBehind
    from .status import NodeStatus as NodeStatus
    from .status import State as State
    from .status import StatusSource as StatusSource
    from .store import BLOB as BLOB
    from .store import HISTORY_REVISIONS as HISTORY_REVISIONS
    from .store import HISTORY_SECONDS as HISTORY_SECONDS
    from .store import NEVER as NEVER
    from .store import BucketSnapshot as BucketSnapshot
    from .store import Change as Change
    from .store import Engine as Engine
    from .store import Entry as Entry
    from .store import Gap as Gap
    from .store import RevisionedStore as RevisionedStore
    from .store import StoreAdmin as StoreAdmin
    from .store import Unchanged as Unchanged
    from .store import Version as Version
    from .store import check_load as check_load
    from .store import check_writes as check_writes
    from .store import digest_entries as digest_entries
else:
    __getattr__, __dir__, __all__ = door(
        __name__,
        {
            "cfgsync_artifacts:": "CfgsyncError",
            "acknowledgement": "Acknowledgement MAX_REASON decode_acknowledgement encode_acknowledgement",
            "following": "BucketHolder BucketView",
            "freshness": "ReaderState",
            "hinting": "StoreTally hinted",
            "judging": "Alarm Away Same Steps Whole",
            "reconcile": "Ask Reconciler Subscribe View",
            "log_events": "Fact event event_of",
            "memory": "MemoryHints MemoryStore",
            "server": "HttpServer",
            "events": "ChangingSource Pages",
            "calls": "Call CfgsyncServerState Handler Named Reply evicted failure no_such_node refusal",
            "bundle": "BundleConfigSource InvalidBundle NodeArtifactsBundle NodeArtifactsBundleEntry StaticConfigSource"
            " spell_path",
            "answer": "MAX_ANSWER_BYTES Answer describe plain",
            "client": "CfgsyncClient",
            "exchange": "CONNECT_WITHIN HOLD PATIENCE Done Exchange Lost Pause Request Send is_final telling",
            "node_watch": "Held NodeWatch",
            "openapi": "Operation",
            "outcome": "Current Failure FetchFailed Fetched MissingForGood NotReadyInTime Outcome Refused Rejected"
            " Unreachable Untrusted",
            "server_url": "InvalidServerUrl ServerUrl",
            "epoch": "epoch_ms mint_epoch uuid7",
            "errors": "Conflict IntegrityError InvalidRegistration InvalidRequest MaterializationFailed"
            " MetadataMismatch OutcomeUnknown StaleGeneration StoreDamaged StoreFull StoreRefused Unavailable",
            "hints": "Announced ChangeEvents ChangeHints",
            "payload": "NodeArtifactsPayload RawFile decode_files decode_payload encode_files first_extended paths_of",
            "protocol": "Condition Missing NotReady Ready STATUS decode_registration decode_stored"
            " encode_registration",
            "replacement": "NO_REPLACEMENT REPLACEMENT Replacement decode_replacement encode_replacement",
            "request_body": "RequestBody",
            "registration": "NodeRegistration RegistrationPayload check_identifier",
            "source": "AcknowledgingSource MembershipSource NodeConfigSource Resolution SharedSource",
            "status": "FleetStatus MissingNode NodeBehind NodeStatus State StatusSource",
            "store": "BLOB BucketSnapshot Change Engine Entry Gap HISTORY_REVISIONS HISTORY_SECONDS NEVER"
            " RevisionedStore StoreAdmin Unchanged Version check_load check_writes digest_entries",
        },
    )
