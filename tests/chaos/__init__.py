"""Writers, readers and a hand that kills: in the end nothing is missing."""
