"""What does the API look like? Every operation as data, and the loader of such files."""
