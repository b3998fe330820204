"""What operators see: metrics, health, what a worker reports of itself."""
