"""The sending of webhooks: from the outbox to the endpoints."""
