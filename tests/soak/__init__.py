"""Minutes of churn, and what is left after each: nothing more than before."""
