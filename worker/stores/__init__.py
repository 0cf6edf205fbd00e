"""The only code that talks to Redis, one structure to a file."""
