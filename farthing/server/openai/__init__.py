"""The routes of the OpenAI API, from a checked request to its last chunk."""
