"""GPT-2 and ALGPT-2, and their loss."""
