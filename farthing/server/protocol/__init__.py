"""What clients send and are shown: requests checked, prompts rendered, tokens told apart. No sockets, no routes."""
