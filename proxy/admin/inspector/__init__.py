"""The inspector: live traffic in a browser. What it shows is written in ``routes.py``; the page's files are beside
it."""
