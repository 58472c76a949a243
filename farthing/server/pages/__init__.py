"""The pages and what they ask for: conversations that are kept, runs that are watched."""
