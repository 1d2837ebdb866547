"""What Weir costs as its work grows: more keys, more channels, more open streams, more threads."""
