"""The only code that talks to Braze; it sends once, never retries, never decides."""
