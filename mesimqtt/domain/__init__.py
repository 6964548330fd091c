"""Pure types shared by every layer: addresses, messages, status, identities, errors."""
