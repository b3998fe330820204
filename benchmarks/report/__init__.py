"""From records to docs/performance.md and its picture."""
