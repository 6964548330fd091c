"""Client of mesimqtt: messages with truthful receipts over MQTT, blocking (`Client`) and asyncio (`AsyncClient`)."""

from mesimqtt_client._aio import AsyncClient, AsyncMessage, AsyncSentMessage
from mesimqtt_client._client import Client, Message, SentMessage
from mesimqtt_client._errors import (
    ClientClosed,
    ConnectionDenied,
    ConnectionLost,
    MesimqttClientError,
    MessageFailed,
    OutboxFull,
    RpcError,
)
from mesimqtt_client._events import GroupEvent, Presence, ReadMark, Received, SessionNews, StatusUpdate
from mesimqtt_client._status import Flag, State, Status

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncMessage",
    "AsyncSentMessage",
    "Client",
    "ClientClosed",
    "ConnectionDenied",
    "ConnectionLost",
    "Flag",
    "GroupEvent",
    "MesimqttClientError",
    "Message",
    "MessageFailed",
    "OutboxFull",
    "Presence",
    "ReadMark",
    "Received",
    "RpcError",
    "SentMessage",
    "SessionNews",
    "State",
    "Status",
    "StatusUpdate",
    "__version__",
]
