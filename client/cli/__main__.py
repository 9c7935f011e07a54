"""`python -m client.cli`: the `lookahead` command where its script is not on the path."""

from client.cli.app import main

if __name__ == "__main__":
    main()
