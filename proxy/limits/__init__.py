"""How much? Per caller: requests per second, requests at once, and the bounded queue before them."""
