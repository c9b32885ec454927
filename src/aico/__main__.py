"""`python -m aico` is `aico`."""

from aico.cli import main

main()
