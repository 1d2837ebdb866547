"""The scorecard: what an operator may believe of Weir, tested, and written down as figures."""
