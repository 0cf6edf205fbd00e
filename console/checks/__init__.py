"""What `persona-sync check` looks at: settings, server, Braze, what runs, and the producer."""
