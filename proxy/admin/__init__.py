"""What does the operator see? An ordinary aiohttp application on a listener of its own."""
