"""The door into the command line for a checkout: `python cli.py train recipes/quickstart.yaml`."""

from zoo.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
