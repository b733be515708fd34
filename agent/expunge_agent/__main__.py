"""``python -m expunge_agent``: the same program as ``expunge-agent``."""

from expunge_agent.cli import main

if __name__ == "__main__":
    main()
