"""One module for each command of `persona-sync`; each composes, decides nothing."""
