"""What `persona-sync check` looks at: settings, server, Braze, and what runs."""
