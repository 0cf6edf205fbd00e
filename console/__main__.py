"""`python -m console` is `persona-sync`."""

from console.cli import main

main()
