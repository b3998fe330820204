"""What a worker is made of: the HTTP server, and the parts that it runs."""
