"""Drive commands: the specifications' structures, built and taken apart. Pure but for `kernel`."""
