"""The only durable truth: records, credentials (sealed), tokens (hashed), events."""
