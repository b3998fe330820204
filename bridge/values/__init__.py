"""What travels and what is set: plain values, standard library only."""
