"""The node's side without a disk: what to send next, what an answer means, how a boot ends, how it stays in step."""

from typing import TYPE_CHECKING

from cfgsync_artifacts import door

if TYPE_CHECKING:
    from .aiohttp_transport import AiohttpTransport as AiohttpTransport
    from .answers import USE_TLS as USE_TLS
    from .answers import is_foreign as is_foreign
    from .exchange import Done as Done
    from .exchange import Exchange as Exchange
    from .exchange import Pause as Pause
    from .exchange import Send as Send
    from .outcomes import Current as Current
    from .received_answer import ReceivedAnswer as ReceivedAnswer
    from .requests import CONNECT_WITHIN as CONNECT_WITHIN
    from .requests import HOLD as HOLD
    from .requests import KEEPALIVE_SECONDS as KEEPALIVE_SECONDS
    from .requests import Lost as Lost
    from .requests import Method as Method
    from .requests import Request as Request
    from .requests import acknowledge_request as acknowledge_request
    from .requests import is_final as is_final
    from .requests import register_request as register_request
    from .trust.server import hash_of as hash_of
    from .trust.server import looking as looking
    from .trust.server import secured as secured
    from .trust.server import shown_chain as shown_chain
    from .trust.server import why_unverified as why_unverified
    from .trust.signature import NotSigned as NotSigned
    from .trust.signature import Verify as Verify
    from .watch.turn import NodeTurn as NodeTurn
    from .watch.turn import RefusedFiles as RefusedFiles

__getattr__, __dir__, __all__ = door(__name__, __file__)
