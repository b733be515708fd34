"""``python -m expunge_controller``: the command ``expunge``."""

from expunge_controller.cli import main

if __name__ == "__main__":
    main()
