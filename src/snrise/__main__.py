"""`python -m snrise`: the command line."""

from snrise.cli import main

if __name__ == "__main__":
    main()
