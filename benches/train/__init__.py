"""Work for a build of Weir that records which of its code is used: the compiler then lays that code out for it."""
