"""How controller and agents talk: a small stream port, one session for both directions, SSH in and out."""
