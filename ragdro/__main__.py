"""`python -m ragdro` is the `ragdro` command."""

from ragdro.cli import main

if __name__ == "__main__":
    main()
