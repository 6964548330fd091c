"""What the project exists for: accept -> commit -> deliver -> status; groups, presence, devices."""
