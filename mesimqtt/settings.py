"""Every default of the server, in one file; `configuration.py` loads what differs from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mesimqtt.domain.policies import DEFAULT, GUEST, GUEST_POLICY, Policy

_STRICT = {"extra": "forbid"}  # pydantic's word for: an unknown key is an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the data plane. Every queue and every wait has one, with a name."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    payload_max: int = 256 * 1024
    packet_max: int = 1024 * 1024
    packet_max_before_connect: int = 8 * 1024
    connect_deadline_s: float = 10.0
    topic_max: int = 512
    root_topic_max: int = 4096
    topic_levels_max: int = 32
    filters_max: int = 200
    inflight_max: int = 64
    qos2_incoming_max: int = 1_000
    queue_messages_max: int = 100_000
    queue_bytes_max: int = 8 * 1024 * 1024
    queue_bytes_total: int = 64 * 1024 * 1024
    unwritten_max: int = 512 * 1024
    stalled_s: float = 30.0
    keep_alive_max_s: int = 1200
    password_max: int = 4096
    retained_max: int = 100_000
    connections_per_address: int = 0
    session_expiry_s: int = 90 * 86_400
    sessions_per_user_max: int = 100
    retained_visits_max: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mqtt:
    """What clients of MQTT 5.0 are told at CONNECT, beside the limits."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    topic_aliases_max: int = 16
    topic_aliases_out_max: int = 16
    response_information: str = ""
    server_reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Messaging:
    """Bounds and times of messages, devices and statuses (contract sections 1 to 4)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    expiry_default_s: int = 31_536_000
    inbox_messages_max: int = 100_000
    inbox_bytes_max: int = 1024 * 1024 * 1024
    devices_max: int = 20
    device_unseen_s: int = 90 * 86_400
    status_kept_s: int = 7 * 86_400
    group_members_max: int = 5_000
    group_status_max: int = 100
    read_upto_max: int = 1_000
    offline_answer_s: float = 10.0
    verdict_grace_s: float = 30.0
    ack_delay_s: float = 1.0
    expiry_zero_kept_s: float = 60.0
    amend_window_s: int = 3_600
    scheduled_max: int = 1_000
    send_recipients_max: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is kept of what was said, for how long, and whether it can be searched."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    search: bool = True
    keep_s: int = 0
    keep_types: str = ""
    tokens_kept_s: int = 30 * 86_400
    purge_hour: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """What users may do with groups, and how work is shared out in round-robin groups (docs/groups.md)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    users_create: bool = True
    owned_max: int = 100
    member_of_max: int = 1_000
    pins_max: int = 100
    work_answer_s: float = 30.0
    work_held_max: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How often something may be done: windows `SECONDS:COUNT,…` (domain/rates.py), empty for no bound."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    messages: str = ""
    reads: str = ""
    presence: str = ""
    rpc: str = ""
    http: str = ""
    lookups: str = ""
    publishes: str = ""
    requests: str = ""
    connects: str = ""
    connects_per_address: str = ""
    failed_logins: str = "900:10"
    failed_pins: str = "900:5"
    invitations: str = "86400:3"
    loopback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Who is online, and what is told of it."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    grace_s: float = 5.0
    interval_s: float = 1.0
    last_seen_resolution_s: int = 300
    typing_s: float = 10.0
    payload_max: int = 4_096


def default_policies() -> dict[str, Policy]:
    """Return the policies that there are where a configuration does not say; it may change them and name more."""
    return {DEFAULT: Policy(), GUEST: GUEST_POLICY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """The HTTP listener: the API under /v1, and MQTT over WebSocket at /mqtt."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    bind: str = "127.0.0.1:8080"
    certfile: str = ""
    keyfile: str = ""
    origins: tuple[str, ...] = ()
    connections_max: int = 1_000
    head_max: int = 16 * 1024
    headers_max: int = 100
    body_max: int = 1024 * 1024
    head_deadline_s: float = 10.0
    body_deadline_s: float = 30.0
    keep_alive_s: float = 60.0
    idempotency_kept_s: int = 7 * 86_400
    access_log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """What plugins may take of the server's time."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    answer_s: float = 10.0
    blocked_s: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModule:
    """One entry of `modules.load`: `call` is `package.module:name`, a function or a class with methods of its names."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    call: str
    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    answer_s: float = 0.0
    on_error: Literal["", "pass", "fail"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """Server-side modules: which, in which order, and what holds where one does not answer (docs/modules.md)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    answer_s: float = 2.0
    on_error: Literal["pass", "fail"] = "fail"
    waiting_per_sender: int = 100
    waiting_max: int = 10_000
    load: tuple[LoadedModule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bots:
    """Bots of this process (docs/bots.md): how many messages at once, how often again, and what a storm is."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    concurrency: int = 16
    handle_s: float = 60.0
    tries_max: int = 5
    retry_s: float = 1.0
    retry_max_s: float = 60.0
    hops_max: int = 5
    answers: str = "60:300"
    dead_letters_max: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """How tokens are signed and checked (contract section 5)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    issuer: str = "mesimqtt"
    ttl_default_s: int = 30 * 86_400
    leeway_s: int = 30
    warning_s: int = 60
    public_keys: tuple[str, ...] = ()
    jwks_file: str = ""
    jwks_url: str = ""
    jwks_private_hosts: tuple[str, ...] = ()
    foreign_issuers: tuple[str, ...] = ()
    auto_create: bool = False
    single: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The SQLite file and its committer."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    batch_max: int = 2_000
    pending_max: int = 50_000
    ballast_bytes: int = 16 * 1024 * 1024
    cache_users: int = 50_000
    cache_groups: int = 10_000
    page_messages: int = 256
    check_s: float = 0.5
    damaged_log: Literal["refuse", "cut"] = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint:
    """Where events are told (docs/webhooks.md). `secret`: one, or two with a space between while it is rotated."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    name: str
    url: str
    secret: str = ""
    secret_file: str = ""
    events: tuple[str, ...] = ()
    payload: bool = False
    format: Literal["standard", "mesibo"] = "standard"
    batch_max: int | None = None
    batch_age_s: float | None = None
    private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """Who is told what happens, how it is batched and tried again, and how much may wait (docs/webhooks.md)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    endpoints: tuple[WebhookEndpoint, ...] = ()
    private_hosts: tuple[str, ...] = ()
    endpoints_max: int = 100
    batch_max: int = 500
    batch_bytes_max: int = 1024 * 1024
    batch_age_s: float = 0.25
    answer_s: float = 5.0
    concurrency: int = 16
    retries_s: tuple[float, ...] = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
    outbox_events_max: int = 1_000_000
    outbox_bytes_max: int = 512 * 1024 * 1024
    dead_letters_max: int = 2_000
    dead_kept_s: int = 30 * 86_400
    offline_after_s: float = 10.0
    secret_overlap_s: int = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Where the log goes: standard error, or a file that rolls (docs/operating.md)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    file: str = ""
    size_max: int = 16 * 1024 * 1024
    files: int = 5
    waiting_max: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """How the server takes leave of its clients when it is told to stop (docs/operating.md)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    timeout_s: float = 2.0
    spread_s: float = 1.0
    retry_after_s: float = 1.0
    returns_per_s: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A recording of everything that comes in, so that the same run can be had again (docs/replay.md)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    file: str = ""
    size_max: int = 1024 * 1024 * 1024
    output: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions:
    """What a listener of `broker.listeners` can do beyond amqtt's own keys; by its name under `listeners`."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    client_certificate: Literal["none", "optional", "required"] = "optional"
    certificate_user: Literal["", "cn", "san"] = ""
    proxy_from: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    paths: tuple[str, ...] = ("/mqtt", "/")
    mode: str = "0600"


def _default_listeners() -> dict[str, ListenerOptions]:
    return {"default": ListenerOptions()}


def default_broker() -> dict[str, Any]:
    """Return what stands under `broker` where a configuration does not say."""
    return {
        "listeners": {
            "default": {"type": "tcp", "bind": "127.0.0.1:1883"},
            "ws": {"type": "ws", "bind": "127.0.0.1:8083"},
        },
        "plugins": {
            "mesimqtt_plugins.auth.TokenAuth": {},
            "mesimqtt_plugins.acl.FolderAccess": {},
            "mesimqtt_plugins.routing.MessageRouting": {},
            "mesimqtt_plugins.sys_topics.SysTopics": {},
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. `broker` is amqtt's own configuration, word for word."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    root: str = "m"
    node: int = 0
    open: bool = False
    log_level: str = "INFO"
    log_format: Literal["text", "json"] = "text"
    limits: Limits = field(default_factory=Limits)
    mqtt: Mqtt = field(default_factory=Mqtt)
    messaging: Messaging = field(default_factory=Messaging)
    history: History = field(default_factory=History)
    groups: Groups = field(default_factory=Groups)
    rates: Rates = field(default_factory=Rates)
    presence: Presence = field(default_factory=Presence)
    policies: dict[str, Policy] = field(default_factory=default_policies)
    http: Http = field(default_factory=Http)
    plugins: Plugins = field(default_factory=Plugins)
    modules: Modules = field(default_factory=Modules)
    bots: Bots = field(default_factory=Bots)
    tokens: Tokens = field(default_factory=Tokens)
    store: Store = field(default_factory=Store)
    webhooks: Webhooks = field(default_factory=Webhooks)
    log: Log = field(default_factory=Log)
    drain: Drain = field(default_factory=Drain)
    record: Record = field(default_factory=Record)
    apps: dict[str, str] = field(default_factory=dict)
    listeners: dict[str, ListenerOptions] = field(default_factory=_default_listeners)
    broker: dict[str, Any] = field(default_factory=default_broker)
