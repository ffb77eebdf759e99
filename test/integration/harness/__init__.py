"""What the integration tests stand on: a throw-away PostgreSQL, the pooler under test, and a small wire codec."""
