"""Signatures as Standard Webhooks defines them. The only place that imports standardwebhooks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from standardwebhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Sequence


def signed(key: str, body: bytes, secrets: Sequence[tuple[str, int]], now_ms: int) -> dict[str, str]:
    """Return the headers of a request: one signature for each secret in force, the current one's first."""
    now = datetime.fromtimestamp(now_ms // 1000, UTC)
    text = body.decode()
    signatures = [Webhook(secret).sign(key, now, text) for secret, until in secrets if not until or until > now_ms]
    return {
        "webhook-id": key,
        "webhook-timestamp": str(now_ms // 1000),
        "webhook-signature": " ".join(signatures),
    }
