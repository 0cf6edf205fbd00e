"""Pure: the registry of audiences and traits, as written in audiences.yaml."""
