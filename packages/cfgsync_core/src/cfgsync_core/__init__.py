"""The contracts, the wire, HTTP client and server: what a node and a server of cfgsync share."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from cfgsync_artifacts import CfgsyncError as CfgsyncError

    from .errors import Conflict as Conflict
    from .errors import IntegrityError as IntegrityError
    from .errors import InvalidRegistration as InvalidRegistration
    from .errors import InvalidRequest as InvalidRequest
    from .errors import MaterializationFailed as MaterializationFailed
    from .errors import MetadataMismatch as MetadataMismatch
    from .errors import OutcomeUnknown as OutcomeUnknown
    from .errors import ParserMissing as ParserMissing
    from .errors import StaleGeneration as StaleGeneration
    from .errors import StoreDamaged as StoreDamaged
    from .errors import StoreFull as StoreFull
    from .errors import StoreRefused as StoreRefused
    from .errors import Unavailable as Unavailable
    from .node.client import CfgsyncClient as CfgsyncClient
    from .node.outcomes import AppliedFiles as AppliedFiles
    from .node.outcomes import Fetched as Fetched
    from .node.outcomes import FetchFailed as FetchFailed
    from .node.outcomes import MissingForGood as MissingForGood
    from .node.outcomes import NotReadyInTime as NotReadyInTime
    from .node.outcomes import Outcome as Outcome
    from .node.outcomes import Refused as Refused
    from .node.outcomes import Rejected as Rejected
    from .node.outcomes import Unreachable as Unreachable
    from .node.outcomes import Untrusted as Untrusted
    from .node.server_url import InvalidServerUrl as InvalidServerUrl
    from .node.server_url import ServerUrl as ServerUrl
    from .node.trust.server import InvalidTrust as InvalidTrust
    from .node.trust.server import Trust as Trust
    from .node.watch.node_watch import NodeWatch as NodeWatch
    from .server.bundle import InvalidBundle as InvalidBundle
    from .server.bundle import NodeArtifactsBundle as NodeArtifactsBundle
    from .server.bundle import NodeArtifactsBundleEntry as NodeArtifactsBundleEntry
    from .server.http import HttpServer as HttpServer
    from .server.server_state import CfgsyncServerState as CfgsyncServerState
    from .server.static_source import BundleConfigSource as BundleConfigSource
    from .server.static_source import StaticConfigSource as StaticConfigSource
    from .store.backend import Backend as Backend
    from .store.backend import OpenEngine as OpenEngine
    from .store.contract import NEVER as NEVER
    from .store.contract import BucketSnapshot as BucketSnapshot
    from .store.contract import Change as Change
    from .store.contract import Engine as Engine
    from .store.contract import Entry as Entry
    from .store.contract import Gap as Gap
    from .store.contract import RevisionedStore as RevisionedStore
    from .store.contract import StoreAdmin as StoreAdmin
    from .store.contract import Unchanged as Unchanged
    from .store.contract import Version as Version
    from .store.hints import Announced as Announced
    from .store.hints import ChangeEvents as ChangeEvents
    from .store.hints import ChangeHints as ChangeHints
    from .store.memory import MemoryHints as MemoryHints
    from .store.memory import MemoryStore as MemoryStore
    from .wire.acknowledgement import Acknowledgement as Acknowledgement
    from .wire.documents_snapshot import DocumentsSnapshot as DocumentsSnapshot
    from .wire.payload import NodeArtifactsPayload as NodeArtifactsPayload
    from .wire.protocol import Condition as Condition
    from .wire.protocol import Missing as Missing
    from .wire.protocol import NotReady as NotReady
    from .wire.protocol import Ready as Ready
    from .wire.registration import NodeRegistration as NodeRegistration
    from .wire.registration import RegistrationPayload as RegistrationPayload
    from .wire.source import NodeConfigSource as NodeConfigSource
    from .wire.source import Resolution as Resolution
    from .wire.status import FleetStatus as FleetStatus
    from .wire.status import NodeStatus as NodeStatus

__getattr__, __dir__, __all__ = door(__name__, __file__)
